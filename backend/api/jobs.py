"""`/jobs`: ask for long work, look at it, cancel it, resume it."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from ..errors import NoJobs
from ..jobs.base import Job
from ..jobs.desk import JobDesk
from . import auth, body, services

bp = Blueprint("jobs", __name__)


@bp.before_request
def only_for_some() -> None:
    """There must be jobs, and whoever asks must be allowed to. Raises NoJobs, NotAllowed."""
    _desk()
    auth.require_somebody_known()


@bp.post("/jobs")
def place() -> ResponseReturnValue:
    """A new job (202), or the one that is under way for the same (200)."""
    job, new = _desk().place(body.as_json())
    return as_json(job), 202 if new else 200


@bp.get("/jobs")
def listed() -> ResponseReturnValue:
    """Jobs, the newest first; `?project=` for those of one project."""
    found = _desk().jobs.all(project=request.args.get("project"))
    return {"jobs": [as_json(job) for job in found]}


@bp.get("/jobs/<job_id>")
def one(job_id: str) -> ResponseReturnValue:
    """How far a job is."""
    return as_json(_desk().jobs.get(job_id))


@bp.delete("/jobs/<job_id>")
def cancel(job_id: str) -> ResponseReturnValue:
    """Cancelled at once, or at its next pause (`cancelling`)."""
    return as_json(_desk().cancel(job_id))


@bp.post("/jobs/<job_id>/resume")
def resume(job_id: str) -> ResponseReturnValue:
    """A failed or cancelled job goes on."""
    return as_json(_desk().resume(job_id))


def as_json(job: Job) -> dict[str, Any]:
    """A job as people read it."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "progress": job.progress,
        "result": job.result,
        "reason": job.reason,
        "attempts": job.attempts,
        "created": _when(job.created),
        "changed": _when(job.changed),
        "cancelling": job.cancelling,
        "params": job.params,
    }


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _desk() -> JobDesk:
    desk = services().jobs
    if desk is None:
        raise NoJobs
    return desk
