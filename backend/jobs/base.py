"""The contract of long work: what a job is, what it may ask for, and who runs it.

A job is a record in the store, so whoever runs it, its state, progress and end are read in one
place. Its work may be killed at any moment and begun again: it must take up where it was.

    queued ──> running ──> done
      ^           │  ├───> failed      tried as often as allowed; a dead letter, can be resumed
      │           │  └───> cancelled   asked for; can be resumed
      └──waiting<─┘                    failed this time, tried again at `not_before`

Whoever runs a job holds a lease on it and renews it. A lease that ran out, or whose owner is a
process of this host that is gone, is taken over: the same attempt goes on in other hands. Leases
are measured by steady time: who wants a job has seen for as long as a lease that nobody renews it,
and who has it stops by then. The clock of day may jump as it likes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..storage.base import Json, Key, Scope

QUEUED, RUNNING, WAITING = "queued", "running", "waiting"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
ENDED = frozenset({DONE, FAILED, CANCELLED})


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of long work; times are seconds since 1970.

    kind        which work: a key of the table of works
    params      what the work was asked to do; plain JSON
    key         idempotency: while a job with it has not ended, asking again gives that job
    attempts    how often it was begun; going on after a restart is no new attempt
    progress    what the work says of itself
    result      what it says at its end
    reason      why it failed or waits, one sentence
    cancelling  asked to stop; it does so at its next pause
    owner       the process that runs it, as `owner.this_process()` writes it; it holds the job
                until `owned_until` unless renewed, by its own clock: for people
    """

    id: str
    kind: str
    scope: Scope
    params: Mapping[str, Json]
    key: str
    state: str = QUEUED
    attempts: int = 0
    progress: Mapping[str, Json] = field(default_factory=dict)
    result: Json = None
    reason: str | None = None
    cancelling: bool = False
    not_before: float = 0.0
    created: float = 0.0
    changed: float = 0.0
    owner: str | None = None
    owned_until: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Handle(Protocol):
    """What a running work may do with its job."""

    @property
    def job(self) -> Job: ...

    def tell(self, progress: Mapping[str, Json]) -> None:
        """Say how far it is; cheap, written at most once a second. Raises Stopped."""
        ...

    def pause(self) -> None:
        """A good moment to stop. Raises Stopped where that was asked, or the job was lost.

        Waits while the lease has run out and nobody can say whether the job is still ours, as when
        the store is away: so a job is never in two hands beyond a pause.
        """
        ...

    def wait(self, seconds: float) -> None:
        """A pause that takes so long, and ends at once where the work should. Raises Stopped."""
        ...


def notes_of(job: Job) -> Key:
    """A log for the job's own work; forgotten when the job is done, or forgotten itself."""
    return Key(job.scope, ("noted", job.id))


Work = Callable[[Handle], Json]  # returns the result; raises Stopped through, or any error
Works = Mapping[str, Work]


class Stopped(BaseException):
    """The work should end here: cancelled, handed back at the end of the process, or taken over.

    No `Exception`, so that work which survives errors does not survive this.
    """


class Hopeless(Exception):
    """Raised by work that can never be done; its sentence is the reason, nothing is tried again."""


class LeaseLost(Exception):
    """The job is in other hands by now; nothing is written on its behalf."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A job in the hands of one runner; `token` is the runner's own, so that it knows its writes
    again after the store was away in the middle of one. `until`: when it runs out, in the book's
    steady seconds."""

    job: Job
    token: str
    until: float


class Jobs(Protocol):
    """The book of jobs, for those who ask for work."""

    def place(
        self, kind: str, params: Mapping[str, Json], *, scope: Scope, key: str | None = None
    ) -> tuple[Job, bool]:
        """As `enqueue`, and whether the job is new. Raises TooManyJobs."""
        ...

    def enqueue(
        self, kind: str, params: Mapping[str, Json], *, scope: Scope, key: str | None = None
    ) -> Job:
        """A new job, or the one with this key that has not ended. Without `key`: by its params.

        Raises TooManyJobs where as many as allowed have not ended yet.
        """
        ...

    def get(self, job_id: str) -> Job:
        """Raises UnknownJob."""
        ...

    def all(
        self, *, scope: Scope | None = None, project: str | None = None, limit: int = 200
    ) -> list[Job]:
        """Of one scope or of all, the newest first; ended ones are kept up to a number per scope.

        `project`: only of scopes of this project, given by its number alone or as scopes have it.
        """
        ...

    def cancel(self, job_id: str) -> Job:
        """Ended at once if it has not begun, else at its next pause. Raises UnknownJob."""
        ...

    def resume(self, job_id: str) -> Job:
        """A failed or cancelled job is queued again, with all its attempts. Raises UnknownJob.

        Others stay as they are. Where a newer job with the same key has not ended, that is the one
        that goes on, and is returned.
        """
        ...


class Runner(Protocol):
    """Whoever does the work of queued jobs."""

    def start(self) -> None:
        """Begin to look for jobs, in the background."""
        ...

    def wake(self, job: Job) -> None:
        """There is something to do."""
        ...

    def close(self, *, seconds: float = 5.0) -> None:
        """Take no more; a running job is stopped and handed back, to go on later."""
        ...

    def facts(self) -> Mapping[str, Json]:
        """For `/health`, at once: which runner, how many jobs of each state that has not ended,
        the job at work, what it waits for."""
        ...
