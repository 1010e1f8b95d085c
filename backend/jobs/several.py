"""Several runners as one: kinds of work that must not wait for each other.

A whole project is pre-labelled for hours; who learns from corrections cannot wait that long.
"""

import threading
from collections.abc import Mapping, Sequence

from ..storage.base import Json
from .base import Job, Runner


class SeveralRunners:
    """Implements Runner. Each of them does one job at a time, of the kinds that are its own."""

    def __init__(self, main: Runner, beside: Mapping[str, Runner]) -> None:
        """`beside`: kind of job -> who does it; all other kinds are `main`'s."""
        self._main, self._beside = main, dict(beside)

    def start(self) -> None:
        """See Runner."""
        for runner in self._all():
            runner.start()

    def wake(self, job: Job) -> None:
        """See Runner."""
        self._beside.get(job.kind, self._main).wake(job)

    def close(self, *, seconds: float = 5.0) -> None:
        """See Runner. All at the same time."""
        closing = [
            threading.Thread(target=runner.close, kwargs={"seconds": seconds}, daemon=True)
            for runner in self._all()
        ]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def facts(self) -> Mapping[str, Json]:
        """See Runner: those of `main`, and by kind what those beside it do and wait for."""
        beside = {
            kind: {name: facts[name] for name in ("at_work", "waiting_for")}
            for kind, facts in ((kind, one.facts()) for kind, one in self._beside.items())
        }
        return {**self._main.facts(), "beside": beside}

    def _all(self) -> Sequence[Runner]:
        return list(dict.fromkeys([self._main, *self._beside.values()]))
