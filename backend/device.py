"""One thread that owns the device: jobs run one at a time, equal jobs run once.

Label Studio asks twice for the same task when a page opens, and never takes back a request
it has given up. So waiting and working are apart: whoever waits may leave at its deadline,
and a job nobody waits for any more is dropped unless it already runs.
"""

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch

Result = TypeVar("Result")


@contextmanager
def gently() -> Iterator[None]:
    """For a job that nobody waits for: half as many threads as usual, one at least, so that those
    who do have the rest of the processor. Only on the thread that owns the device, since how many
    threads a computation takes is a setting of the process."""
    usual = torch.get_num_threads()
    torch.set_num_threads(max(1, usual // 2))
    try:
        yield
    finally:
        torch.set_num_threads(usual)


@dataclass(eq=False)
class _Flight:
    future: Future[Any]
    waiting: int = 1


class Ticket(Generic[Result]):
    """One waiter's place in the queue; belongs to one thread."""

    def __init__(self, flight: _Flight, leave: Callable[[_Flight], None]) -> None:
        self._flight, self._leave = flight, leave
        self._left = False

    @property
    def future(self) -> Future[Any]:
        """Done when the job is; to wait for several at once."""
        return self._flight.future

    def wait(self, seconds: float) -> Result:
        """The job's result, or its error. Raises TimeoutError after `seconds`, and leaves."""
        try:
            return cast(Result, self._flight.future.result(timeout=max(seconds, 0.0)))
        finally:
            self.leave()

    def leave(self) -> None:
        """Wait no longer; the job is dropped if it has not begun and nobody else waits."""
        if not self._left:
            self._left = True
            self._leave(self._flight)


class DeviceQueue:
    """Runs jobs one at a time on a thread of its own; safe to use from many threads."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight] = {}

    def submit(self, key: Hashable, job: Callable[[], Result]) -> Ticket[Result]:
        """Queue a job, or join the equal one (same `key`) that waits or runs already."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                flight.waiting += 1
            else:
                flight = _Flight(self._worker.submit(self._run, key, job))
                self._flights[key] = flight
        return Ticket(flight, lambda left: self._abandon(key, left))

    def close(self) -> None:
        """Take no more jobs and drop those that have not begun."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _run(self, key: Hashable, job: Callable[[], Result]) -> Result:
        try:
            return job()
        finally:
            with self._lock:
                del self._flights[key]

    def _abandon(self, key: Hashable, flight: _Flight) -> None:
        with self._lock:
            flight.waiting -= 1
            if flight.waiting == 0 and flight.future.cancel():
                del self._flights[key]
