"""The contract of long work: what a job is, what it may ask for, and who runs it.

A job is a record in the store, so whoever runs it, its state, progress and end are read in one
place. Its work may be killed at any moment and begun again: it must take up where it was.

    queued ──> running ──> done
      ^           │  ├───> failed      tried as often as allowed; a dead letter, can be resumed
      │           │  └───> cancelled   asked for; can be resumed
      └──waiting<─┘                    failed this time, tried again at `not_before`
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..storage.base import Json, Scope

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
    owner       who runs it, until when that holds unless renewed
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
        """A good moment to stop. Raises Stopped where that was asked, or the job was lost."""
        ...


Work = Callable[[Handle], Json]  # returns the result; raises Stopped through, or any error
Works = Mapping[str, Work]


class Stopped(BaseException):
    """The work should end here: cancelled, handed back at the end of the process, or taken over.

    No `Exception`, so that work which survives errors does not survive this.
    """


class Jobs(Protocol):
    """The book of jobs, for those who ask for work."""

    def enqueue(
        self, kind: str, params: Mapping[str, Json], *, scope: Scope, key: str | None = None
    ) -> Job:
        """A new job, or the one with this key that has not ended. Without `key`: by its params."""
        ...

    def get(self, job_id: str) -> Job:
        """Raises UnknownJob."""
        ...

    def all(self, *, scope: Scope | None = None) -> list[Job]:
        """Of one scope or of all, the newest first; ended ones are kept up to a number."""
        ...

    def cancel(self, job_id: str) -> Job:
        """Ended at once if it has not begun, else at its next pause. Raises UnknownJob."""
        ...

    def resume(self, job_id: str) -> Job:
        """A failed or cancelled job is queued again, with all its attempts. Raises UnknownJob."""
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
        """For `/health`: which runner, how many of which state, what it waits for."""
        ...
