"""Where people ask for jobs: the kinds they may ask for, and what each wants to know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BadRequest
from ..storage.base import Json, Scope, to_text
from .base import Job, Jobs, Runner

LONGEST = 100_000  # characters of what is asked for; it is kept with the job


@dataclass(frozen=True, kw_only=True)
class JobKind:
    """One kind of job, as asked for from outside.

    read   what was sent, `kind` left out -> params; raises BadRequest
    scope  params -> whose job it is
    key    params -> what makes two of them the same job
    """

    read: Callable[[Mapping[str, Json]], Mapping[str, Json]]
    scope: Callable[[Mapping[str, Json]], Scope]
    key: Callable[[Mapping[str, Json]], str] = to_text


JobKinds = Mapping[str, JobKind]


@dataclass(frozen=True, kw_only=True)
class JobDesk:
    """The book, the one who works, and the kinds that may be asked for."""

    jobs: Jobs
    runner: Runner
    kinds: JobKinds

    def place(self, body: Any) -> tuple[Job, bool]:
        """The job that was asked for, and whether it is new. Raises BadRequest, TooManyJobs."""
        if not isinstance(body, Mapping):
            raise BadRequest("a job is asked for with a JSON object")
        try:
            length = len(to_text(body))
        except ValueError:
            raise BadRequest("a job is asked for without NaN and infinities") from None
        if length > LONGEST:
            raise BadRequest(f"a job is asked for with at most {LONGEST} characters")
        kind = self.kinds.get(name) if isinstance(name := body.get("kind"), str) else None
        if kind is None:
            known = ", ".join(sorted(self.kinds)) or "none"
            raise BadRequest(f"kind must be one of: {known}")
        params = kind.read({word: value for word, value in body.items() if word != "kind"})
        job, new = self.jobs.place(
            body["kind"], params, scope=kind.scope(params), key=kind.key(params)
        )
        if new:
            self.runner.wake(job)
        return job, new

    def cancel(self, job_id: str) -> Job:
        """See Jobs; who works on it hears of it soon."""
        job = self.jobs.cancel(job_id)
        self.runner.wake(job)
        return job

    def resume(self, job_id: str) -> Job:
        """See Jobs."""
        job = self.jobs.resume(job_id)
        self.runner.wake(job)
        return job
