"""Runs jobs in a thread of this process, one at a time: nothing else to install."""

import logging
import secrets
import threading
from collections.abc import Callable, Mapping

from ..errors import StorageAway
from ..storage.base import Json
from ..storage.patience import BOUND, Wait, patiently
from .base import Job, Works
from .book import JobBook
from .owner import this_process
from .running import Pace, Running, sentence

logger = logging.getLogger(__name__)


class EmbeddedRunner:
    """Implements Runner; started once."""

    def __init__(
        self,
        book: JobBook,
        works: Works,
        *,
        pace: Pace | None = None,
        patience: float = BOUND,
        explain: Callable[[BaseException], str] = sentence,
    ) -> None:
        """`patience`: seconds a single call waits for a store that is away. `explain` makes the
        reason of a failure."""
        self._works, self._pace, self._explain = works, pace or Pace(), explain
        self._wait = Wait()
        self._closing, self._woken = threading.Event(), threading.Event()
        store = patiently(
            book.storage,
            tell=self._wait,
            for_seconds=patience,
            sleep=self._closing.wait,
            stop=self._closing.is_set,
        )
        self._book, self._patient = book, book.over(store)
        self._token = secrets.token_hex(8)
        self._running: Running | None = None
        self._counts: Mapping[str, int] = {}
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """See Runner."""
        self._thread.start()

    def wake(self, job: Job) -> None:
        """See Runner."""
        running = self._running
        if running is not None and running.job.id == job.id:
            running.look()
        self._woken.set()

    def close(self, *, seconds: float = 5.0) -> None:
        """See Runner. A work that does not pause in time goes on until the process ends."""
        self._closing.set()
        self._woken.set()
        running = self._running
        if running is not None:
            running.stop()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning("a job does not stop in time; the next process takes it over")

    def facts(self) -> Mapping[str, Json]:
        """See Runner."""
        running = self._running
        return {
            "runner": "embedded",
            "store": self._book.storage.name,
            "open": dict(self._counts),
            "at_work": None if running is None else running.job.id,
            "waiting_for": self._wait.sentence or self._trouble,
        }

    def _run(self) -> None:
        mended = False
        while not self._closing.is_set():
            self._woken.clear()
            try:
                if not mended:
                    self._patient.mend()
                    mended = True
                busy = self._do_one()
                self._trouble = None
            except StorageAway as away:
                busy, self._trouble = False, str(away)
                if not self._closing.is_set():
                    logger.error("jobs are looked for again: %s", away)
            except Exception as error:  # a runner that ends silently would leave all jobs lying
                logger.exception("jobs cannot be looked for")
                busy, self._trouble = False, sentence(error)
            if not busy:
                self._woken.wait(self._pace.look)

    def _do_one(self) -> bool:
        """Run the oldest job to be had; whether there was one."""
        lease = self._patient.claim(this_process(), token=self._token, kinds=self._works)
        self._counts = self._patient.counts()
        if lease is None:
            return False
        running = Running(self._book, lease, pace=self._pace, wait=self._wait)
        self._running = running
        if self._closing.is_set():  # came between the claim and here
            running.stop()
        try:
            running.run(self._works, explain=self._explain, settle=self._patient)
        finally:
            self._running = None
        return True
