"""What is counted when it happens; every process of the service has its own numbers.

Everything here is cheap and for many threads, and nothing asks anybody.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from ..errors import CouldNotPredict, ImageError
from . import catalogue
from .catalogue import Metric


class Meters:
    """Counters and histograms in a registry of their own."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, for the uptime."""
        self.registry = CollectorRegistry()
        self._clock, self._begun = clock, clock()
        self._requests = self._counter(catalogue.REQUESTS, begun=False)
        self._latency = self._histogram(catalogue.LATENCY, begun=False)
        self._tasks = self._counter(catalogue.TASKS)
        self._images = self._counter(catalogue.IMAGES_FAILED)
        self._stages = self._histogram(catalogue.STAGE)
        self._batches = self._histogram(catalogue.BATCH, begun=False)
        self._cache = self._counter(catalogue.CACHE)
        self._events = self._counter(catalogue.EVENTS)
        self._settled = self._counter(catalogue.SETTLED)
        self._activated = self._counter(catalogue.ACTIVATED)
        self._jobs = self._counter(catalogue.JOBS_ENDED, begun=False)
        ProcessCollector(registry=self.registry)

    def uptime(self) -> float:
        """Seconds since the service was built."""
        return self._clock() - self._begun

    def answered(
        self, endpoint: str, method: str, status: int, *, lane: str, seconds: float
    ) -> None:
        """A request. `lane`: of `/predict`, else empty. What nobody knows counts as `other`."""
        place = _one_of(catalogue.ENDPOINTS, endpoint)
        verb = _one_of(catalogue.METHODS, method)
        self._requests.labels(place, verb, f"{status // 100}xx").inc()
        self._latency.labels(place, lane).observe(seconds)

    def task(self, failed: CouldNotPredict | None, *, times: int = 1) -> None:
        """A task, or so many with the same end: predicted, or why not."""
        outcome = catalogue.PREDICTED
        if failed is not None:
            outcome = _reason(catalogue.TASK_FAILURES, failed)
        self._tasks.labels(outcome).inc(times)

    def image_failed(self, error: ImageError) -> None:
        """A picture that could not be had."""
        self._images.labels(_reason(catalogue.IMAGE_FAILURES, error)).inc()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a step, also one that fails."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.stage_took(name, time.perf_counter() - begun)

    def stage_took(self, name: str, seconds: float) -> None:
        """A step that was measured elsewhere."""
        self._stages.labels(name).observe(seconds)

    def device(self, name: str) -> None:
        """There is such a device: its looks are counted from zero."""
        self._batches.labels(name)

    def looked(self, pictures: int, device: str) -> None:
        """A model on a device looked at so many pictures together."""
        self._batches.labels(device).observe(pictures)

    def asked_cache(self, cache: str, found: str, times: int = 1) -> None:
        """`found`: in memory, in the store or nowhere."""
        self._cache.labels(cache, found).inc(times)

    def event(self) -> None:
        """An event of Label Studio's came."""
        self._events.inc()

    def task_settled(self) -> None:
        """Learning has seen to one task."""
        self._settled.inc()

    def version_activated(self) -> None:
        """What was learnt is in use from now on, or what was in use no longer is."""
        self._activated.inc()

    def job_ended(self, kind: str, end: str) -> None:
        """An attempt at a job."""
        self._jobs.labels(_one_of(catalogue.JOB_KINDS, kind), end).inc()

    # -- how they are made ------------------------------------------------------------

    def _counter(self, metric: Metric, *, begun: bool = True) -> Counter:
        made = Counter(metric.name, metric.meaning, tuple(metric.labels), registry=self.registry)
        return _begun(made, metric) if begun else made

    def _histogram(self, metric: Metric, *, begun: bool = True) -> Histogram:
        made = Histogram(
            metric.name,
            metric.meaning,
            tuple(metric.labels),
            buckets=metric.buckets,
            registry=self.registry,
        )
        return _begun(made, metric) if begun else made


def _begun(made: Any, metric: Metric) -> Any:
    """With a zero for all its labels may be, so that the first of a kind is seen as a change."""
    if metric.labels:
        for values in product(*metric.labels.values()):
            made.labels(*values)
    return made


def _one_of(known: tuple[str, ...], name: str) -> str:
    return name if name in known else catalogue.OTHER


def _reason(table: Mapping[Any, str], error: Exception) -> str:
    return next((word for kind, word in table.items() if isinstance(error, kind)), catalogue.OTHER)
