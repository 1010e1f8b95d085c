"""From a measured sample to the whole project: time, and room in Label Studio's database."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..studio.project import PAGE

WARM_UP = 4  # tasks at most that are not timed: the first ones wait for caches and connections
UPLOAD = 0.005
"""Seconds of Label Studio for one prediction on its way in, the look before it included. This and
what follows: batches written to Label Studio 1.23.2 with SQLite, 2 kB to 700 kB a prediction."""
UPLOAD_PER_BYTE = 1.1e-7
"""Seconds more for every byte of its JSON."""
STORED = 1.28
"""Bytes in Label Studio's database per byte of JSON: it writes ", " between the numbers."""
ROW = 700
"""Bytes of a prediction's row and indexes beside its regions."""


class Meter:
    """Times a stream of tasks; steps are told from several threads.

    The clock starts when the warm-up is done: a quarter of the tasks, at most `WARM_UP`. It
    measures how many tasks come out per second, not how long one takes: steps overlap.
    """

    def __init__(self, tasks: int, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self.warm_up = min(WARM_UP, tasks // 4)
        self._begun = self._last = clock()
        self._steady = self._begun
        self._done = 0
        self._spent: dict[str, float] = {}

    def spend(self, what: str, seconds: float) -> None:
        with self._lock:
            if self._done >= self.warm_up:
                self._spent[what] = self._spent.get(what, 0.0) + seconds

    def done(self) -> None:
        """One more task is through."""
        with self._lock:
            self._done += 1
            self._last = self._clock()
            if self._done == self.warm_up:
                self._steady = self._last

    def pace(self) -> "Pace":
        """What was measured so far."""
        with self._lock:
            timed = self._done - self.warm_up
            seconds = self._last - self._steady
            per_task = seconds / timed if timed > 0 else 0.0
            return Pace(
                tasks=max(timed, 0),
                seconds=seconds,
                start=max(self._steady - self._begun - self.warm_up * per_task, 0.0),
                spent=dict(self._spent),
            )


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a stream of tasks took once it was warm.

    tasks    that were timed
    seconds  they took together
    start    seconds the first ones took longer than these
    spent    seconds in each step; steps overlap, so they may add up to more
    """

    tasks: int
    seconds: float
    start: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)

    @property
    def per_task(self) -> float:
        return self.seconds / self.tasks if self.tasks else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Of all the work, in the order of the steps."""
        total = sum(self.spent.values())
        order = ("download", "decode", "model", "encode")
        return {one: self.spent.get(one, 0.0) / total for one in order} if total else {}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the whole project will take.

    tasks          that a run would predict
    seconds        from the moment the model is ready
    seconds_per_task  of this, with listing and writing
    listing        seconds to list one page of tasks
    prediction_bytes  JSON of one prediction, mean
    disk_bytes     in Label Studio's database
    """

    tasks: int
    seconds: float
    seconds_per_task: float
    listing: float
    prediction_bytes: float
    disk_bytes: float

    def to_json(self) -> dict[str, Any]:
        return {name: round(value, 4) for name, value in vars(self).items()}


def estimate(
    *,
    tasks: int,
    pace: Pace,
    listing: float,
    prediction_bytes: float,
    predicted_share: float,
    shares_processor: bool,
    waits: float = 0.0,
) -> Estimate:
    """The whole project from a sample.

    Pages are listed while the device still has a picture or two, so all but that counts. Writing
    goes on beside the model: it takes time of its own only where both use the same processor
    (`shares_processor`), or where it is the slower of the two. `waits`: seconds before what did
    not answer is tried again.
    """
    upload = predicted_share * (UPLOAD + UPLOAD_PER_BYTE * prediction_bytes)
    paged = listing if shares_processor else max(listing - pace.per_task, 0.0)
    beside = pace.per_task + (upload if shares_processor else 0.0)
    per_task = max(beside + paged / PAGE, upload)
    seconds = pace.start + tasks * max(beside, upload) + math.ceil(tasks / PAGE) * paged + waits
    return Estimate(
        tasks=tasks,
        seconds=seconds if tasks else 0.0,
        seconds_per_task=per_task,
        listing=listing,
        prediction_bytes=prediction_bytes,
        disk_bytes=tasks * predicted_share * (ROW + STORED * prediction_bytes),
    )
