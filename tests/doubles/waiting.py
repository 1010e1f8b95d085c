"""Time in tests: a clock that stands still, and waiting for what other threads do."""

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds after which a test gives up; never waited for in a test that passes


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


def until(happened: Callable[[], bool], what: str = "", *, patience: float = PATIENCE) -> None:
    """Return as soon as something is so."""
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline, f"this never happened: {what or happened}"
        time.sleep(0.002)
