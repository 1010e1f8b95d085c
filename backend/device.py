"""One thread that owns the device: jobs run one at a time, equal jobs run once, in three lanes.

Label Studio asks twice for the same task when a page opens, and never takes back a request
it has given up. So waiting and working are apart: whoever waits may leave at its deadline,
and a job nobody waits for any more is dropped unless it already runs.

Where there are several devices each has a queue, and all of them one board: equal jobs run once
whichever queue they are in, and a job may go from one queue to another with all who wait for it.

Who is waited for goes first. A job of a slower lane lets people by between its steps, and jobs
that have a step in common may take it together.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Generic, TypeVar, cast

import torch

from .trail import Trail, common, followed, here

logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 8  # jobs of faster lanes while one of a slower lane waits, or is at work
LINGER = 0.005  # seconds that a job with others on their way waits for them

Result = TypeVar("Result")


class Lane(IntEnum):
    """Who waits for a job; the smaller goes first."""

    PEOPLE = 0  # somebody looks at a page, or has clicked
    BULK = 1  # many tasks at once
    WHENEVER = 2  # nobody


@contextmanager
def gently() -> Iterator[None]:
    """For a job that nobody waits for: half as many threads as usual, one at least, so that those
    who do have the rest of the processor. Only on the thread that owns the device, since how many
    threads a computation takes is a setting of the process."""
    with _threads(max(1, torch.get_num_threads() // 2)):
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A job's first step, as far as several jobs may take it together.

    bucket   only jobs of the same one do
    subject  what the step has to know of this job
    most     how many jobs may; asked again and again, since it may change
    begin    the step for several subjects; what it leaves undone, or fails at, every job does alone
    follows  another job of the bucket is on its way
    """

    bucket: Hashable
    subject: Any
    most: Callable[[], int]
    begin: Callable[[Sequence[Any]], None]
    follows: bool = False


@dataclass(eq=False)
class _Flight:
    """What waiters know of a job, and which queue it is in."""

    home: "DeviceQueue"
    lane: Lane
    future: Future[Any] = field(default_factory=Future)
    waiting: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What the device knows of it; gone once it is done, with all it holds.

    errand  what it was made from, for whoever makes it anew for another device; None: nobody can
    lost    devices that were lost while they did it
    """

    key: Hashable
    flight: _Flight
    run: Callable[[], Any]
    shared: Shared | None
    errand: object = None
    lost: int = 0
    trail: Trail = field(default_factory=here)  # of whoever asked first


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


class Board:
    """The jobs under way in all queues that share it; its lock is theirs, too."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.flights: dict[Hashable, _Flight] = {}

    def join(self, key: Hashable, lane: Lane) -> Ticket[Any] | None:
        """A place beside whoever waits for the equal job; None where there is none. One that waits
        goes on in the faster lane of the two."""
        with self.lock:
            flight = self.flights.get(key)
            if flight is None:
                return None
            flight.waiting += 1
            flight.home.move_up(key, lane)
            return self.ticket(key, flight)

    def ticket(self, key: Hashable, flight: _Flight) -> Ticket[Any]:
        return Ticket(flight, lambda left: self._leave(key, left))

    def forget(self, key: Hashable, flight: _Flight) -> None:
        """A job that is done, or that nobody waits for."""
        with self.lock:
            if self.flights.get(key) is flight:
                del self.flights[key]

    def _leave(self, key: Hashable, flight: _Flight) -> None:
        with self.lock:
            flight.home.abandon(key, flight)


Settle = Callable[[Job, BaseException], BaseException | None]


def as_it_is(job: Job, error: BaseException) -> BaseException:
    """Where nobody else could do the job."""
    return error


class DeviceQueue:
    """Runs jobs one at a time on a thread of its own; safe to use from many threads.

    The first lane somebody waits in goes first, and within a lane whoever came first. After
    `MOST_IN_A_ROW` jobs of faster lanes it is a slower one's turn.
    """

    def __init__(
        self,
        *,
        linger: float = LINGER,
        failed: Callable[[BaseException], object] = lambda error: None,
        settle: Settle = as_it_is,
        board: Board | None = None,
        threads: int | None = None,
    ) -> None:
        """`linger` in seconds, see `LINGER`. `failed` hears of every job's error, before whoever
        waits for it does; `settle` says what they hear, None where another queue of the `board`
        took the job over. `threads` a computation takes; None: what is usual in the process."""
        self._failed, self._settle, self._threads = failed, settle, threads
        self._board = board or Board()
        self._worker = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="device", initializer=self._begins
        )
        self._linger = linger
        self._changed = threading.Condition(self._board.lock)  # of what follows
        self._flights = self._board.flights
        self._lanes: dict[Lane, dict[Hashable, Job]] = {lane: {} for lane in Lane}
        self._passed_by = dict.fromkeys(Lane, 0)  # jobs of faster lanes, in a row
        self._at_work: _Flight | None = None  # this and the next are the device's thread's own
        self._usual_threads = 1
        self._thread: threading.Thread | None = None  # it begins with the first job
        self._closed = False

    def submit(
        self,
        key: Hashable,
        job: Callable[[], Result],
        lane: Lane = Lane.BULK,
        *,
        shared: Shared | None = None,
        errand: object = None,
    ) -> Ticket[Result]:
        """Queue a job, or join the equal one (same `key`) that waits or runs already; one that
        waits goes on in the faster lane of the two. `errand`: see `Job`."""
        with self._changed:
            ticket = self._board.join(key, lane)
            if ticket is None:
                flight = _Flight(self, lane)
                self._queue(Job(key=key, flight=flight, run=job, shared=shared, errand=errand))
                self._flights[key] = flight
                ticket = self._board.ticket(key, flight)
        return ticket

    def take_over(self, job: Job, run: Callable[[], Any], shared: Shared | None) -> None:
        """Do a job of another queue on the same board, made anew; whoever waits for it stays."""
        with self._changed:
            self._queue(replace(job, run=run, shared=shared))
            job.flight.home = self

    def hand_out(self) -> list[Job]:
        """Those that have not begun, and that another queue can do; they are no longer here."""
        with self._changed:
            found = [job for jobs in self._lanes.values() for job in jobs.values()]
            found = [job for job in found if job.errand is not None]
            for job in found:
                del self._lanes[job.flight.lane][job.key]
            return found

    def give_up(self, job: Job, error: BaseException) -> None:
        """Tell whoever waits for it that nobody does it."""
        with self._changed:
            self._board.forget(job.key, job.flight)
        job.flight.future.set_exception(error)

    def load(self, lane: Lane) -> int:
        """How many jobs a new one of a lane would have before it, what runs included."""
        with self._changed:
            mine = (flight for flight in self._flights.values() if flight.home is self)
            return sum(flight.lane <= lane or flight.future.running() for flight in mine)

    def move_up(self, key: Hashable, lane: Lane) -> None:
        """Whoever waits in a slower lane goes on in this one."""
        with self._changed:
            flight = self._flights[key]
            if lane < flight.lane:
                job = self._lanes[flight.lane].pop(key, None)
                flight.lane = lane
                if job is not None:
                    self._lanes[lane][key] = job
            self._changed.notify()

    def let_by(self) -> float:
        """For a job, between two of its steps: people who came meanwhile go first, at most
        `MOST_IN_A_ROW` of them. The seconds that took. Only on the device's thread.

        Their errors are theirs, and they have as many threads as usual. A job that people wait
        for itself lets nobody by.
        """
        outer = self._at_work
        if outer is None or outer.lane is Lane.PEOPLE or not self._lanes[Lane.PEOPLE]:
            return 0.0
        begun = time.perf_counter()
        try:
            with _threads(self._usual_threads):
                for _ in range(MOST_IN_A_ROW):
                    with self._changed:
                        job = self._first(Lane.PEOPLE)
                        if job is None:
                            break
                        del self._lanes[Lane.PEOPLE][job.key]
                    self._do(job)
        finally:
            self._at_work = outer
        return time.perf_counter() - begun

    def waiting(self) -> Mapping[str, int]:
        """How many jobs wait in each lane; waits for nobody."""
        with self._changed:
            return {lane.name.lower(): len(jobs) for lane, jobs in self._lanes.items()}

    @property
    def takes_work(self) -> bool:
        """Whether a job would be done; waits for nobody."""
        thread = self._thread
        return not self._closed and (thread is None or thread.is_alive())

    def close(self) -> None:
        """Take no more jobs and drop those that have not begun."""
        with self._changed:
            self._closed = True
            self._worker.shutdown(wait=False, cancel_futures=True)
            left = [job for jobs in self._lanes.values() for job in jobs.values()]
            for jobs in self._lanes.values():
                jobs.clear()
            mine = {key: one for key, one in self._flights.items() if one.home is self}
            dropped = [key for key, flight in mine.items() if flight.future.cancel()]
            for key in dropped:
                # whoever waits for several at once hears of it
                self._flights.pop(key).future.set_running_or_notify_cancel()
            for job in left:
                if job.flight.future.running():  # it had begun elsewhere
                    self.give_up(job, CancelledError())
            self._changed.notify()

    # -- whoever waits ----------------------------------------------------------------

    def abandon(self, key: Hashable, flight: _Flight) -> None:
        """One fewer waits; the job is dropped if it has not begun and nobody does."""
        with self._changed:
            flight.waiting -= 1
            if flight.waiting == 0 and flight.future.cancel():
                self._lanes[flight.lane].pop(key, None)
                self._board.forget(key, flight)

    def _queue(self, job: Job) -> None:
        self._worker.submit(self._next)  # as many turns as jobs; some find nothing to do
        self._lanes[job.flight.lane][job.key] = job
        self._changed.notify()

    # -- the device's thread ----------------------------------------------------------

    def _begins(self) -> None:
        self._thread = threading.current_thread()
        if self._threads is not None:  # another device's thread may work gently just now
            torch.set_num_threads(self._threads)

    def _next(self) -> None:
        """Whatever is in turn: one job, or several that begin together."""
        jobs = self._taken()
        self._usual_threads = torch.get_num_threads()
        try:
            if len(jobs) > 1:
                self._begin_together(jobs)
            while jobs:
                jobs.sort(key=lambda job: job.flight.lane)  # somebody may have joined one
                self._do(jobs.pop(0))
                if jobs:
                    self._at_work = jobs[0].flight
                    self.let_by()
        finally:
            self._at_work = None

    def _taken(self) -> list[Job]:
        """Out of the lanes; after a moment, where others are on their way and no person waits."""
        until: float | None = None
        with self._changed:
            while True:
                lane = self._lane_in_turn()
                if lane is None:
                    return []
                jobs = self._together(lane)
                shared = jobs[-1].shared
                if shared is None or not shared.follows or self._lanes[Lane.PEOPLE]:
                    break
                if lane is not Lane.BULK or len(jobs) >= shared.most():
                    break
                now = time.monotonic()
                until = now + self._linger if until is None else until
                if now >= until:
                    break
                self._changed.wait(until - now)
            for job in jobs:
                del self._lanes[lane][job.key]
            for other in Lane:
                passed = other > lane and bool(self._lanes[other])
                self._passed_by[other] = self._passed_by[other] + 1 if passed else 0
        return jobs

    def _lane_in_turn(self) -> Lane | None:
        waited_for = [lane for lane in Lane if self._lanes[lane]]
        patient = [lane for lane in waited_for if self._passed_by[lane] >= MOST_IN_A_ROW]
        return next(iter(patient or waited_for), None)

    def _first(self, lane: Lane) -> Job | None:
        return next(iter(self._lanes[lane].values()), None)

    def _together(self, lane: Lane) -> list[Job]:
        """The first job of a lane, and of the slow ones those of its bucket."""
        first = next(iter(self._lanes[lane].values()))
        if lane is not Lane.BULK or first.shared is None:
            return [first]
        same = [
            job
            for job in self._lanes[lane].values()
            if job.shared is not None and job.shared.bucket == first.shared.bucket
        ]
        return same[: max(1, first.shared.most())]

    def _begin_together(self, jobs: Sequence[Job]) -> None:
        self._at_work = jobs[0].flight
        shared = [job.shared for job in jobs if job.shared is not None]
        with followed(common(job.trail for job in jobs)):
            try:
                shared[0].begin([one.subject for one in shared])
            except Exception as error:  # whose fault it is comes out when each is alone
                logger.info("%d jobs could not begin together: %r", len(jobs), error)

    def _do(self, job: Job) -> None:
        key, flight, run = job.key, job.flight, job.run
        with self._changed:
            if not self._begun(job):
                return
        self._at_work = flight
        try:
            with followed(job.trail):
                result = run()
        except BaseException as error:
            self._failed(error)
            self._ends_badly(job, self._settle(job, error))
        else:
            self._board.forget(key, flight)
            flight.future.set_result(result)
        finally:
            del job, flight, run  # an error remembers this frame, and would keep the picture

    def _begun(self, job: Job) -> bool:
        """Whether it is to be done: one that another device began may be left by everybody."""
        future = job.flight.future
        if not future.running():
            return not future.cancelled() and future.set_running_or_notify_cancel()
        if job.flight.waiting <= 0:
            self.give_up(job, CancelledError())
            return False
        return True

    def _ends_badly(self, job: Job, told: BaseException | None) -> None:
        """Not where it is caught: the error would hold its own frame, and so the picture."""
        if told is not None:
            self.give_up(job, told)
