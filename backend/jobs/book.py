"""The book of jobs over any store: who has which job is decided by compare-and-set alone.

    (scope)/jobs/ID                 the job; the truth
    (scope)/jobs-by-key/KIND/HASH   which job lives under an idempotency key, and in which round
    jobs-where/ID                   the scope of a job, for those who know its id only
    jobs-open/ID                    the same for jobs that have not ended: where runners look

Ids sort by time. Pointers are written before the job and once more after it, so that whoever is
killed in between leaves a pointer to nothing, which is cleared away, and not a job nobody finds.
`jobs-by-key` is written first of all: it decides between two who ask for the same at once, and
holds what is needed to finish what its writer began.
"""

import hashlib
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any

from ..errors import TooManyJobs, UnknownJob
from ..storage.base import ABSENT, Json, Key, Record, Scope, Storage, to_text
from .base import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    WAITING,
    Job,
    Lease,
    LeaseLost,
    notes_of,
)
from .owner import is_gone


def steady_seconds() -> float:
    """From anywhen; whatever the clock is set to, and with the time that the machine sleeps."""
    counting_sleep = getattr(time, "CLOCK_BOOTTIME", None)  # where the system has it
    return time.monotonic() if counting_sleep is None else time.clock_gettime(counting_sleep)


LONGEST_REASON = 500  # characters
LEFT_BEHIND = 3600.0  # seconds after which a pointer without a job is nobody's work in progress


@dataclass(frozen=True, kw_only=True)
class BookRules:
    """Numbers of the book; times in seconds.

    lease          how long a runner holds a job without renewing
    most_attempts  how often a job is begun before it is a dead letter
    first_pause    between the first failure and the second attempt; doubled from then on
    longest_pause  between two attempts
    most_deaths    how often the runner of a job may die at the same progress
    keep           ended jobs that are kept, per scope; the oldest go first
    most_open      jobs that have not ended, of all scopes together
    """

    lease: float = 60.0
    most_attempts: int = 5
    first_pause: float = 10.0
    longest_pause: float = 600.0
    most_deaths: int = 5
    keep: int = 200
    most_open: int = 500

    def __post_init__(self) -> None:
        for one in fields(self):
            if getattr(self, one.name) <= 0:
                raise ValueError(f"{one.name} must be above 0, got {getattr(self, one.name)}")

    def pause(self, attempts: int) -> float:
        """Seconds before the next attempt, after so many."""
        doubled = self.first_pause * 2.0 ** min(attempts - 1, 60)
        return min(doubled, self.longest_pause)


@dataclass(frozen=True, kw_only=True)
class _Page:
    """A job and what only the book knows of it.

    round   how often it was queued: 1, and one more with each `resume`
    token   of the runner that has or had it last
    begun   the present attempt has been begun: going on is no new one
    deaths  runners that died in a row at the progress `died_at`
    """

    job: Job
    round: int = 1
    token: str | None = None
    begun: bool = False
    deaths: int = 0
    died_at: Mapping[str, Json] = field(default_factory=dict)

    def becomes(self, **changes: Any) -> "_Page":
        return replace(self, job=replace(self.job, **changes))


class JobBook:
    """Implements Jobs, and what runners need; safe from threads and processes.

    Every method may raise StorageAway; asked again afterwards, it goes on where it was.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_seconds,
        rules: BookRules | None = None,
        gone: Callable[[str], bool] = is_gone,
        origin: str | None = None,
    ) -> None:
        """`clock`: seconds since 1970. `steady`: seconds from anywhen, never set. `gone`: whether
        an owner has certainly ended. `origin`: only jobs of scopes of this origin are listed,
        counted and handed out; None: all."""
        self.storage, self.clock, self.rules = storage, clock, rules or BookRules()
        self._steady, self._gone, self.origin = steady, gone, origin
        self._lock = threading.Lock()  # of the next two
        self._seen: dict[str, tuple[Any, float]] = {}  # job -> its lease, and since when so
        self._latest = 0  # microseconds since 1970, of the newest id made here

    def over(self, storage: Storage) -> "JobBook":
        """The same book over the same store in another wrapping."""
        return JobBook(
            storage,
            clock=self.clock,
            steady=self._steady,
            rules=self.rules,
            gone=self._gone,
            origin=self.origin,
        )

    # For those who ask for work

    def enqueue(
        self, kind: str, params: Mapping[str, Json], *, scope: Scope, key: str | None = None
    ) -> Job:
        """See Jobs."""
        return self.place(kind, params, scope=scope, key=key)[0]

    def place(
        self, kind: str, params: Mapping[str, Json], *, scope: Scope, key: str | None = None
    ) -> tuple[Job, bool]:
        """See Jobs."""
        key = to_text(params) if key is None else key
        place = _by_key(scope, kind, key)
        while True:
            record = self.storage.get(place)
            if record is not None:
                alive = self._live(scope, record.value)
                if alive is not None:
                    return alive.job, False
            self._refuse_too_many()
            now = self.clock()
            job = Job(
                id=self._new_id(), kind=kind, scope=scope, params=dict(params), key=key,
                created=now, changed=now,
            )  # fmt: skip
            page = _Page(job=job)
            claim = {"id": job.id, "round": 1, "page": _written(page)}
            if self.storage.swap(place, claim, expected=_revision(record)) is not None:
                return self._bring_to(page).job, True

    def get(self, job_id: str) -> Job:
        """See Jobs."""
        return self._read(self._scope(job_id), job_id).job

    def all(
        self, *, scope: Scope | None = None, project: str | None = None, limit: int = 200
    ) -> list[Job]:
        """See Jobs."""
        if scope is not None:
            pages = (_read(record.value) for _, record in self.storage.scan(Key(scope, ("jobs",))))
            newest = deque((page.job for page in pages), maxlen=limit)
            return list(reversed(newest))
        pointers = (
            (key.path[-1], _scope_of(record.value))
            for key, record in self.storage.scan(Key(Scope(), ("jobs-where",)))
        )
        found = deque(
            (
                one
                for one in pointers
                if self._is_ours(one[1]) and (project is None or _is_of(one[1], project))
            ),
            maxlen=limit,
        )
        pages_or_none = (self._page(scope, job_id) for job_id, scope in reversed(found))
        return [page.job for page in pages_or_none if page is not None]

    def cancel(self, job_id: str) -> Job:
        """See Jobs."""

        def how(page: _Page) -> _Page:
            if page.job.ended or page.job.cancelling:
                return page
            if page.job.state == RUNNING:
                return page.becomes(cancelling=True, changed=self.clock())
            return self._cancelled(page)

        return self._change(self._scope(job_id), job_id, how).job

    def resume(self, job_id: str) -> Job:
        """See Jobs."""
        scope = self._scope(job_id)
        while True:
            page = self._read(scope, job_id)
            if page.job.state not in (FAILED, CANCELLED):
                return page.job
            place = _by_key(scope, page.job.kind, page.job.key)
            record = self.storage.get(place)
            if record is not None and record.value["id"] != job_id:
                alive = self._live(scope, record.value)
                if alive is not None:
                    return alive.job
            # The key first, so that nobody who asks for the same makes a second one meanwhile.
            claim = {"id": job_id, "round": page.round + 1, "page": None}
            if self.storage.swap(place, claim, expected=_revision(record)) is not None:
                return self._again(scope, job_id, page.round + 1).job

    # For those who run jobs

    def claim(
        self, owner: str, *, token: str, kinds: Collection[str], only: str | None = None
    ) -> Lease | None:
        """The oldest job to be had, or the job `only`, now in the hands of `owner`.

        `token` is the runner's own: a job that is running under it already is given again, for as
        long as a new one. None
        where there is nothing to do now.
        """
        until = self._steady() + self.rules.lease  # from before it is written
        for key, record in self._ours(only):
            page = self._take(key, record, owner, token, kinds)
            if page is not None:
                return Lease(job=page.job, token=token, until=until)
        return None

    def due(self, *, kinds: Collection[str], limit: int) -> list[Job]:
        """The oldest jobs to be had now."""
        pages = (
            self._page(_scope_of(record.value), key.path[-1]) for key, record in self._ours(None)
        )
        had = (
            page.job for page in pages if page and page.job.kind in kinds and self._to_be_had(page)
        )
        return list(islice(had, limit))

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state that is no end."""
        pages = (
            self._page(_scope_of(record.value), key.path[-1]) for key, record in self._ours(None)
        )
        states = Counter(page.job.state for page in pages if page and not page.job.ended)
        return {state: states[state] for state in (QUEUED, RUNNING, WAITING)}

    def renew(self, lease: Lease, progress: Mapping[str, Json] | None = None) -> Lease:
        """Hold on to a job, say how far it is, hear whether it should be cancelled.

        Writes where there is something to say or half the time is over. Raises LeaseLost.
        """
        begun, until = self._steady(), lease.until

        def how(page: _Page) -> _Page:
            nonlocal until
            self._check(page, lease)
            now = self.clock()
            if progress is not None and progress != page.job.progress:
                page = page.becomes(progress=dict(progress), changed=now)
            elif lease.until - begun > self.rules.lease / 2:
                return page
            until = begun + self.rules.lease
            return page.becomes(owned_until=now + self.rules.lease)

        return replace(lease, job=self._changed(lease, how).job, until=until)

    def ran_out(self, lease: Lease) -> bool:
        """Whether somebody else may have taken the job over by now."""
        return lease.until <= self._steady()

    def finish(self, lease: Lease, result: Json) -> Job:
        """It is done. Raises LeaseLost; TypeError and ValueError for a result that is not JSON."""
        to_text(result)
        return self._settle(
            lease,
            {DONE},
            lambda page: page.becomes(state=DONE, result=result, reason=None, **self._freed()),
        )

    def fail(self, lease: Lease, reason: str, *, hopeless: bool = False) -> Job:
        """It failed this time: tried again after a while, or a dead letter. Raises LeaseLost."""
        reason = reason[:LONGEST_REASON]

        def becomes(page: _Page) -> _Page:
            attempts = page.job.attempts
            if page.job.cancelling:
                return self._cancelled(page)
            if hopeless or attempts >= self.rules.most_attempts:
                return page.becomes(state=FAILED, reason=reason, **self._freed())
            later = self.clock() + self.rules.pause(attempts)
            page = page.becomes(state=WAITING, reason=reason, not_before=later, **self._freed())
            return replace(page, begun=False)

        return self._settle(lease, {WAITING, FAILED, CANCELLED}, becomes)

    def hand_back(self, lease: Lease) -> Job:
        """Stopped in the middle, to go on in other hands; no new attempt. Raises LeaseLost."""
        return self._settle(
            lease,
            {QUEUED, CANCELLED},
            lambda page: (
                self._cancelled(page)
                if page.job.cancelling
                else page.becomes(state=QUEUED, **self._freed())
            ),
        )

    def postpone(self, lease: Lease, reason: str) -> Job:
        """It cannot go on now, through no fault of its own; no new attempt. Raises LeaseLost."""

        def becomes(page: _Page) -> _Page:
            if page.job.cancelling:
                return self._cancelled(page)
            later = self.clock() + self.rules.first_pause
            return page.becomes(state=WAITING, reason=reason, not_before=later, **self._freed())

        return self._settle(lease, {WAITING, CANCELLED}, becomes)

    def give_up(self, lease: Lease) -> Job:
        """It stopped since it was cancelled. Raises LeaseLost."""
        return self._settle(lease, {CANCELLED}, self._cancelled)

    def mend(self) -> None:
        """Find again what processes killed in the middle left behind; at the start of a runner."""
        for key, record in self.storage.scan(Key(Scope(), ("jobs-where",))):
            job_id, scope = key.path[-1], _scope_of(record.value)
            page = self._page(scope, job_id)
            if page is None:
                self._clear(key, record, job_id)
            elif not page.job.ended and self.storage.get(_open_at(job_id)) is None:
                self._point(_open_at(job_id), scope)

    # How jobs change

    def _change(self, scope: Scope, job_id: str, how: Callable[[_Page], _Page]) -> _Page:
        """Read, change and write until nobody else was faster; what `how` leaves is not written.

        `how` must know its own work again: it may have been written although the store said it was
        away. Raises UnknownJob, and what `how` raises.
        """
        place = _at(scope, job_id)
        while True:
            opened = self.storage.get(_open_at(job_id))  # before the job: see `_ended`
            record = self.storage.get(place)
            if record is None:
                raise UnknownJob(job_id)
            page = _read(record.value)
            new = how(page)
            if new is page:
                return page
            if self.storage.swap(place, _written(new), expected=record.revision) is not None:
                if new.job.ended:
                    self._ended(new.job, opened)
                return new

    def _settle(
        self, lease: Lease, ends: Collection[str], becomes: Callable[[_Page], _Page]
    ) -> Job:
        """Let go of a job; where that was done already it was us, while the store was away."""

        def how(page: _Page) -> _Page:
            if page.token == lease.token and page.job.state in ends:
                return page
            self._check(page, lease)
            return becomes(page)

        return self._changed(lease, how).job

    def _changed(self, lease: Lease, how: Callable[[_Page], _Page]) -> _Page:
        """As `_change`; a job that is not in the book any more is nobody's. Raises LeaseLost."""
        try:
            return self._change(lease.job.scope, lease.job.id, how)
        except UnknownJob:
            raise LeaseLost from None

    def _check(self, page: _Page, lease: Lease) -> None:
        if page.token != lease.token or page.job.state != RUNNING:
            raise LeaseLost

    def _cancelled(self, page: _Page) -> _Page:
        return page.becomes(state=CANCELLED, **self._freed())

    def _freed(self) -> dict[str, Any]:
        """What changes whenever a job leaves a runner's hands."""
        return {"owner": None, "owned_until": 0.0, "cancelling": False, "changed": self.clock()}

    # How jobs are taken

    def _open(self, only: str | None) -> Iterator[tuple[Key, Record]]:
        if only is None:
            return self.storage.scan(Key(Scope(), ("jobs-open",)))
        record = self.storage.get(_open_at(only))
        return iter([] if record is None else [(_open_at(only), record)])

    def _ours(self, only: str | None) -> Iterator[tuple[Key, Record]]:
        return (one for one in self._open(only) if self._is_ours(_scope_of(one[1].value)))

    def _is_ours(self, scope: Scope) -> bool:
        return self.origin is None or scope.origin == self.origin

    def _to_be_had(self, page: _Page) -> bool:
        job = page.job
        if job.state == RUNNING:
            return (job.owner is not None and self._gone(job.owner)) or self._is_forgotten(page)
        longest = max(self.rules.first_pause, self.rules.longest_pause)
        ahead = job.not_before - self.clock()  # above the longest pause: the clock was set back
        return job.state == QUEUED or (job.state == WAITING and not 0 < ahead <= longest)

    def _is_forgotten(self, page: _Page) -> bool:
        """Whether nobody renewed the lease for as long as one lasts, as seen from here."""
        lease, now = (page.token, page.job.owned_until, page.job.changed), self._steady()
        with self._lock:
            seen, since = self._seen.get(page.job.id, (None, now))
            if seen != lease:
                since = now
            self._seen[page.job.id] = lease, since
            while len(self._seen) > self.rules.most_open:  # others begin anew
                del self._seen[next(iter(self._seen))]
        return now - since >= self.rules.lease

    def _take(
        self, key: Key, record: Record, owner: str, token: str, kinds: Collection[str]
    ) -> _Page | None:
        """The job behind an open pointer, if it is to be had and not over by now."""
        job_id, scope = key.path[-1], _scope_of(record.value)
        page = self._page(scope, job_id)
        if page is None:
            self._clear(key, record, job_id)
            return None
        if page.job.ended:
            self.storage.swap(key, None, expected=record.revision)
            return None

        def ours(page: _Page) -> bool:
            return page.token == token and page.job.state == RUNNING

        def how(page: _Page) -> _Page:
            if ours(page):
                return page.becomes(owned_until=self.clock() + self.rules.lease)
            return self._taken(page, owner, token) if self._to_be_had(page) else page

        if page.job.kind not in kinds:  # of a program that knows more
            return None
        if not ours(page) and not self._to_be_had(page):
            return None
        try:
            page = self._change(scope, job_id, how)
        except UnknownJob:
            return None
        return page if ours(page) else None

    def _taken(self, page: _Page, owner: str, token: str) -> _Page:
        if page.job.cancelling:
            return self._cancelled(page)
        if page.job.state == RUNNING:  # its owner died, or was not heard of for too long
            again = page.deaths > 0 and page.died_at == page.job.progress
            page = replace(page, deaths=page.deaths + 1 if again else 1, died_at=page.job.progress)
            if page.deaths >= self.rules.most_deaths:
                reason = (
                    f"the process that ran it died {page.deaths} times at the same place; "
                    "see the log of the service, it may be short of memory"
                )
                return page.becomes(state=FAILED, reason=reason, **self._freed())
        now = self.clock()
        attempts = page.job.attempts + (0 if page.begun else 1)
        page = page.becomes(
            state=RUNNING, attempts=attempts, owner=owner,
            owned_until=now + self.rules.lease, changed=now,
        )  # fmt: skip
        return replace(page, token=token, begun=True)

    # How jobs come into being, and go

    def _live(self, scope: Scope, claim: Json) -> _Page | None:
        """The job a key stands for, None if it has ended; finishes what a writer began."""
        page = self._page(scope, claim["id"])
        if page is None:
            return None if claim["page"] is None else self._bring_to(_read(claim["page"]))
        if page.round < claim["round"]:
            return self._again(scope, page.job.id, claim["round"])
        return None if page.job.ended else page

    def _bring_to(self, page: _Page) -> _Page:
        """A new job in the book with its pointers, unless somebody did that already."""
        job = page.job
        if self.storage.get(_where(job.id)) is None:
            self._point(_where(job.id), job.scope)
        self._point(_open_at(job.id), job.scope)
        self.storage.swap(_at(job.scope, job.id), _written(page), expected=ABSENT)
        self._point(_open_at(job.id), job.scope)
        return self._page(job.scope, job.id) or page

    def _again(self, scope: Scope, job_id: str, round_: int) -> _Page:
        """An ended job queued for its next round, unless somebody did that already."""

        def how(page: _Page) -> _Page:
            if page.round >= round_:
                return page
            fresh = page.becomes(
                state=QUEUED, attempts=0, reason=None, not_before=0.0, **self._freed()
            )
            return replace(fresh, round=round_, begun=False, deaths=0)

        self._point(_open_at(job_id), scope)
        page = self._change(scope, job_id, how)
        self._point(_open_at(job_id), scope)
        return page

    def _point(self, key: Key, scope: Scope) -> None:
        """Write a pointer anew: whoever wants to clear away what was there before fails."""
        value = {"origin": scope.origin, "project": scope.project}
        while self.storage.swap(key, value, expected=_revision(self.storage.get(key))) is None:
            pass

    def _clear(self, key: Key, record: Record, job_id: str) -> None:
        """Remove a pointer to nothing, unless its job is being written right now."""
        if self.clock() - _made_at(job_id) > LEFT_BEHIND:
            self.storage.swap(key, None, expected=record.revision)

    def _ended(self, job: Job, opened: Record | None) -> None:
        """Close a job's pointer as it was before the end (a `resume` writes it anew), and forget
        ended jobs of its scope beyond the number that is kept."""
        if opened is not None:
            self.storage.swap(_open_at(job.id), None, expected=opened.revision)
        if job.state == DONE:
            self.storage.drop_log(notes_of(job))
        ended = [
            (page.job.changed, page.job.id, page, record.revision)
            for _, record in self.storage.scan(Key(job.scope, ("jobs",)))
            if (page := _read(record.value)).job.ended
        ]
        ended.sort(key=lambda one: one[:2], reverse=True)
        for _, _, page, revision in ended[self.rules.keep :]:
            self._forget(page, revision)

    def _forget(self, page: _Page, revision: int) -> None:
        job = page.job
        place = _by_key(job.scope, job.kind, job.key)
        named = self.storage.get(place)  # goes first: a key without a job would revive it
        if named is not None and named.value["id"] == job.id:
            if named.value["round"] > page.round:
                return  # resumed at this moment
            if self.storage.swap(place, None, expected=named.revision) is None:
                return
        if self.storage.swap(_at(job.scope, job.id), None, expected=revision) is not None:
            self.storage.drop_log(notes_of(job))
            pointer = self.storage.get(_where(job.id))
            if pointer is not None:
                self.storage.swap(_where(job.id), None, expected=pointer.revision)

    def _refuse_too_many(self) -> None:
        most = self.rules.most_open
        if sum(1 for _ in islice(self._open(None), most)) >= most:
            raise TooManyJobs(most)

    def _new_id(self) -> str:
        with self._lock:
            self._latest = max(int(self.clock() * 1e6), self._latest + 1)
            return f"{self._latest:014x}-{secrets.token_hex(4)}"

    # How jobs are found

    def _scope(self, job_id: str) -> Scope:
        record = self.storage.get(_where(job_id))
        if record is None:
            raise UnknownJob(job_id)
        return _scope_of(record.value)

    def _page(self, scope: Scope, job_id: str) -> _Page | None:
        record = self.storage.get(_at(scope, job_id))
        return None if record is None else _read(record.value)

    def _read(self, scope: Scope, job_id: str) -> _Page:
        page = self._page(scope, job_id)
        if page is None:
            raise UnknownJob(job_id)
        return page


def _at(scope: Scope, job_id: str) -> Key:
    return Key(scope, ("jobs", job_id))


def _where(job_id: str) -> Key:
    return Key(Scope(), ("jobs-where", job_id))


def _open_at(job_id: str) -> Key:
    return Key(Scope(), ("jobs-open", job_id))


def _by_key(scope: Scope, kind: str, key: str) -> Key:
    return Key(scope, ("jobs-by-key", kind, hashlib.sha256(key.encode()).hexdigest()[:32]))


def _revision(record: Record | None) -> int:
    return ABSENT if record is None else record.revision


def _made_at(job_id: str) -> float:
    """Seconds since 1970; see `_new_id`."""
    return int(job_id.partition("-")[0], 16) / 1e6


def _scope_of(value: Json) -> Scope:
    return Scope(value["origin"], value["project"])


def _is_of(scope: Scope, project: str) -> bool:
    """Whether a scope is of a project, by its number or in full: `12`, `12.1795190531`."""
    return project in (scope.project, scope.project.partition(".")[0])


def _written(page: _Page) -> Json:
    job = {one.name: getattr(page.job, one.name) for one in fields(Job)}
    job |= {"scope": [page.job.scope.origin, page.job.scope.project]}
    rest = {one.name: getattr(page, one.name) for one in fields(_Page)}
    return rest | {"job": job}


def _read(value: Json) -> _Page:
    job = value["job"]
    return _Page(**value | {"job": Job(**job | {"scope": Scope(*job["scope"])})})
