"""How far a run is, for the bar, for `GET /jobs/ID` and for the table at its end."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WINDOW = 60.0  # seconds over which the rate is taken
DEALT = ("already", "annotated", "drafted", "gone", "written", "meanwhile")
UNDONE = ("removed", "kept")  # of predictions
UNDOING = ("removing", "removed")  # phases of an undo
EXAMPLES = 5  # tasks named per reason
MOST_REASONS = 50  # told apart; the rest is counted together


@dataclass
class Failed:
    """Tasks that failed for one kind of reason."""

    sentence: str  # of the first
    count: int = 0
    tasks: list[int] = field(default_factory=list)  # the first few


class Progress:
    """Counts of one run; safe to use from many threads.

    total      tasks that were asked for, all counts below included
    already    had predictions of this version before
    annotated, drafted   left alone
    gone       no longer there
    meanwhile  annotated, predicted or removed by others before their turn came
    predicted  have an answer; `written` of them are in Label Studio
    regions    in these answers; `empty` answers have none
    """

    def __init__(
        self, *, dealt: Sequence[str] = DEALT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`dealt`: the counts that, with failures, make up what is done of `total`."""
        self._dealt = tuple(dealt)
        self._clock, self._lock = clock, threading.Lock()
        self._moments: deque[tuple[float, int]] = deque()
        self._begun = clock()
        self._failed: dict[str, Failed] = {}
        self._counts = dict.fromkeys(
            (
                "total",
                "already",
                "annotated",
                "drafted",
                "gone",
                "meanwhile",
                "predicted",
                "written",
                "regions",
                "empty",
                "removed",
                "kept",
            ),
            0,
        )
        self._seconds: dict[str, float] = {}
        self.whole = 0  # tasks that match, before any limit
        self.phase = "starting"
        self.version = ""

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def begin(self) -> None:
        """Counting is over: from here on time counts."""
        with self._lock:
            self.phase, self._begun = "predicting", self._clock()

    def set(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)

    def add(self, name: str, count: int = 1) -> None:
        """Count; what is `written` makes the rate."""
        with self._lock:
            self._counts[name] += count
            if name == "written":
                now = self._clock()
                self._moments.append((now, count))
                while self._moments[0][0] < now - WINDOW and len(self._moments) > 2:
                    self._moments.popleft()

    def fail(self, task: int, kind: str, sentence: str) -> None:
        """A task that gets no prediction in this run."""
        with self._lock:
            if kind not in self._failed and len(self._failed) >= MOST_REASONS:
                kind, sentence = "other", "other reasons"
            one = self._failed.setdefault(kind, Failed(sentence))
            one.count += 1
            if len(one.tasks) < EXAMPLES:
                one.tasks.append(task)

    def spend(self, what: str, seconds: float) -> None:
        """Time of one of the steps; steps overlap, so they may add up to more than there was."""
        with self._lock:
            self._seconds[what] = self._seconds.get(what, 0.0) + seconds

    @property
    def failed(self) -> int:
        with self._lock:
            return sum(one.count for one in self._failed.values())

    @property
    def failures(self) -> Mapping[str, Failed]:
        """By kind, the most frequent first."""
        with self._lock:
            found = {
                kind: Failed(one.sentence, one.count, list(one.tasks))
                for kind, one in self._failed.items()
            }
        return dict(sorted(found.items(), key=lambda pair: -pair[1].count))

    @property
    def left(self) -> int:
        """Tasks not dealt with yet."""
        with self._lock:
            counts = self._counts
            dealt = sum(counts[name] for name in self._dealt)
            return max(counts["total"] - dealt - sum(f.count for f in self._failed.values()), 0)

    @property
    def per_second(self) -> float:
        """Tasks written per second lately; 0 before anything was."""
        with self._lock:
            if len(self._moments) < 2:
                spent = self._clock() - self._begun
                return self._counts["written"] / spent if spent > 0 else 0.0
            span = self._clock() - self._moments[0][0]
            return sum(count for _, count in list(self._moments)[1:]) / span if span > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to go, None while nobody can say."""
        rate = self.per_second
        return self.left / rate if rate > 0 else None

    @property
    def seconds(self) -> float:
        """Since predicting began, in this process."""
        return self._clock() - self._begun

    def to_json(self) -> dict[str, Any]:
        eta, rate = self.eta, self.per_second
        with self._lock:
            counts, spent = dict(self._counts), dict(self._seconds)
        return {
            **counts,
            "phase": self.phase,
            "model_version": self.version,
            "left": self.left,
            "failed": self.failed,
            "failures": {
                kind: {"count": one.count, "reason": one.sentence, "tasks": one.tasks}
                for kind, one in self.failures.items()
            },
            "per_second": round(rate, 3),
            "eta_seconds": None if eta is None else round(eta),
            "seconds": round(self.seconds, 1),
            "spent": {what: round(seconds, 2) for what, seconds in sorted(spent.items())},
        }
