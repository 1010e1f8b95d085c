"""The text of `/metrics`: what was counted, and how things are at this moment."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from . import catalogue
from .catalogue import Metric
from .meters import Meters

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Now:
    """How things are; whoever makes it asks nobody.

    waiting       device -> lane -> jobs that wait for it
    devices       device -> whether it does what it is asked
    model         its labels by the names in the catalogue; None until it is ready
    jobs          state -> how many; None where no long work is done
    """

    version: str
    ready: bool
    degraded: int
    waiting: Mapping[str, Mapping[str, int]]
    devices: Mapping[str, bool]
    model_state: str
    model: Mapping[str, str] | None
    other_models: int
    fallbacks: int
    storage_up: bool
    learning: bool
    pending: int = 0
    spooled: int = 0
    unsettled: int = 0
    trouble: bool = False
    jobs: Mapping[str, int] | None = field(default=None)


def text(meters: Meters, now: Now) -> bytes:
    """All metrics in Prometheus's text format, version 0.0.4."""
    return generate_latest(_Everything(meters, now))


class _Everything(Collector):
    """What the library's printer takes for a registry."""

    def __init__(self, meters: Meters, now: Now) -> None:
        self._meters, self._now = meters, now

    def collect(self) -> Iterator[Family]:
        for family in self._meters.registry.collect():
            # when a series began: as many lines again, for a question nobody asks here
            family.samples = [one for one in family.samples if not one.name.endswith("_created")]
            yield family
        yield from _gauges(self._meters, self._now)


def _gauges(meters: Meters, now: Now) -> Iterator[Family]:
    yield _plain(catalogue.READY, now.ready)
    yield _plain(catalogue.DEGRADED, now.degraded)
    yield _waiting(now.waiting)
    yield _by_word(catalogue.DEVICE, now.devices)
    states = catalogue.MODEL_STATES
    yield _by_word(catalogue.MODEL_STATE, {state: state == now.model_state for state in states})
    if now.model is not None:
        yield _info(catalogue.MODEL, now.model)
    yield _info(catalogue.BUILD, {"version": now.version})
    yield _plain(catalogue.OTHER_MODELS, now.other_models)
    yield _plain(catalogue.FALLBACKS, now.fallbacks)
    yield _plain(catalogue.STORAGE, now.storage_up)
    yield _plain(catalogue.LEARNING, now.learning)
    yield _plain(catalogue.PENDING, now.pending)
    yield _plain(catalogue.SPOOLED, now.spooled)
    yield _plain(catalogue.UNSETTLED, now.unsettled)
    yield _plain(catalogue.TROUBLE, now.trouble)
    jobs = now.jobs or {}
    yield _by_word(catalogue.JOBS, {state: jobs.get(state, 0) for state in catalogue.JOB_STATES})
    yield _plain(catalogue.THREADS, threading.active_count())
    yield _plain(catalogue.UPTIME, meters.uptime())


def _plain(metric: Metric, value: float) -> Family:
    return GaugeMetricFamily(metric.name, metric.meaning, value=float(value))


def _waiting(of_devices: Mapping[str, Mapping[str, int]]) -> Family:
    metric = catalogue.QUEUE
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=tuple(metric.labels))
    for device, waiting in of_devices.items():
        for lane in catalogue.LANES:
            family.add_metric([device, lane], float(waiting.get(lane, 0)))
    return family


def _by_word(metric: Metric, values: Mapping[str, float]) -> Family:
    """For a gauge with one label."""
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=tuple(metric.labels))
    for word, value in values.items():
        family.add_metric([word], float(value))
    return family


def _info(metric: Metric, labels: Mapping[str, str]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=tuple(metric.labels))
    family.add_metric([labels[name] for name in metric.labels], 1.0)
    return family
