"""One job at work: its handle, the thread that keeps its lease, and how it ends.

The work never touches the store: what it tells is written by the keeper's thread, so that a store
that is away holds up nobody who can go on without it.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..errors import DeviceLost, ServiceError, StorageAway
from ..storage.base import Json, to_text
from ..storage.patience import Wait, patiently
from .base import Hopeless, Job, Lease, LeaseLost, Stopped, Works
from .book import JobBook

logger = logging.getLogger(__name__)

CANCELLED, CLOSING, LOST = "cancelled", "handed back", "in other hands"  # why work is stopped


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How busy a runner is; seconds.

    look   between two looks into the book while there is nothing to do
    beat   between two renewals of a lease; how soon a cancelled job hears of it
    write  at least between two writes of progress
    """

    look: float = 2.0
    beat: float = 2.0
    write: float = 1.0


def sentence(error: BaseException) -> str:
    """Why a work failed, for people; what we did not raise on purpose may hold secrets."""
    if isinstance(error, (ServiceError, Hopeless)):
        return str(error)
    return f"{type(error).__name__}, see the log of the service"


class Running:
    """Implements Handle, for one job from claim to end; used once."""

    def __init__(self, book: JobBook, lease: Lease, *, pace: Pace, wait: Wait) -> None:
        """`wait` hears when the store is away."""
        self._book, self._pace, self._wait = book, pace, wait
        self._changed = threading.Condition()
        self._lease = lease
        self._why: str | None = None  # it should stop
        self._unwritten: Mapping[str, Json] | None = None
        self._nudge = threading.Event()
        self._over = threading.Event()  # the keeper may go

    # For the work

    @property
    def job(self) -> Job:
        """As known here; with progress that may not be written yet."""
        with self._changed:
            job, progress = self._lease.job, self._unwritten
        return job if progress is None else replace(job, progress=progress)

    def tell(self, progress: Mapping[str, Json]) -> None:
        """See Handle. Raises TypeError and ValueError for what is not JSON."""
        to_text(progress)
        with self._changed:
            self._unwritten = dict(progress)
        self._nudge.set()
        self.pause()

    def pause(self) -> None:
        """See Handle."""
        with self._changed:
            while self._why is None and self._book.ran_out(self._lease):
                self._nudge.set()
                self._changed.wait(self._pace.beat)
            if self._why is not None:
                raise Stopped(self._why)

    def wait(self, seconds: float) -> None:
        """See Handle."""
        with self._changed:
            self._changed.wait_for(lambda: self._why is not None, seconds)
        self.pause()

    # For the runner

    def stop(self) -> None:
        """End at the next pause; the job is handed back."""
        self._stop(CLOSING)

    def look(self) -> None:
        """Something may have been said about the job: read it now."""
        self._nudge.set()

    def run(
        self,
        works: Works,
        *,
        explain: Callable[[BaseException], str],
        settle: JobBook,
    ) -> Job | None:
        """Do the work and write its end through `settle`; the job as it is then.

        None where the job was lost, or its end could not be written: somebody takes it over.
        """
        job = self._lease.job
        logger.info("job %s (%s): attempt %d begins", job.id, job.kind, job.attempts)
        keeper = threading.Thread(target=self._keep, name=f"job-{job.id}-lease", daemon=True)
        keeper.start()
        try:
            end = self._end_of(works, explain)
        finally:
            self._over.set()
            self._nudge.set()
            keeper.join()
        try:
            if self._unwritten is not None:
                self._lease = settle.renew(self._lease, self._unwritten)
            ended = end(settle)
        except LeaseLost:
            logger.warning("job %s (%s) is in other hands by now", job.id, job.kind)
            return None
        except StorageAway as away:
            logger.error("job %s (%s): its end cannot be written: %s", job.id, job.kind, away)
            return None
        logger.info("job %s (%s): %s %s", job.id, job.kind, ended.state, ended.reason or "")
        return ended

    def _end_of(
        self, works: Works, explain: Callable[[BaseException], str]
    ) -> Callable[[JobBook], Job]:
        """Do the work; what is to be written about it."""
        try:
            result = works[self._lease.job.kind](self)
            to_text(result)
        except Stopped:
            return self._stopped
        except (StorageAway, DeviceLost) as away:  # no fault of the work
            reason = str(away)
            return lambda book: book.postpone(self._lease, reason)
        except Hopeless as error:
            reason = explain(error)
            return lambda book: book.fail(self._lease, reason, hopeless=True)
        except BaseException as error:  # whatever a work raises ends the work, not the runner
            logger.warning("job %s failed", self._lease.job.id, exc_info=error)
            reason = explain(error)
            return lambda book: book.fail(self._lease, reason)
        return lambda book: book.finish(self._lease, result)

    def _stopped(self, book: JobBook) -> Job:
        if self._why == LOST:
            raise LeaseLost
        if self._why == CANCELLED:
            return book.give_up(self._lease)
        return book.hand_back(self._lease)

    def _stop(self, why: str) -> None:
        with self._changed:
            self._why = self._why or why
            self._changed.notify_all()

    def _keep(self) -> None:
        """Renew the lease, write progress, hear of cancelling, until the work is over."""
        store = patiently(
            self._book.storage, tell=self._wait, sleep=self._over.wait, stop=self._over.is_set
        )
        book = self._book.over(store)
        while not self._over.is_set():
            self._nudge.wait(self._pace.beat)
            self._nudge.clear()
            if self._over.is_set():
                return
            try:
                self._renew(book)
            except LeaseLost:
                return self._stop(LOST)
            except StorageAway as away:
                if self._over.is_set():  # did not wait any longer: what is left is written by `run`
                    return
                logger.error("the lease of job %s is given up: %s", self._lease.job.id, away)
                return self._stop(LOST)
            except Exception:
                logger.exception("the lease of job %s cannot be kept", self._lease.job.id)
                return self._stop(LOST)
            self._over.wait(self._pace.write)

    def _renew(self, book: JobBook) -> None:
        with self._changed:
            lease, progress = self._lease, self._unwritten
        renewed = book.renew(lease, progress)
        with self._changed:
            self._lease = renewed
            if self._unwritten is progress:
                self._unwritten = None
            self._changed.notify_all()
        if renewed.job.cancelling:
            self._stop(CANCELLED)
