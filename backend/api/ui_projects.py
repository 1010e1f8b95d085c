"""`/ui/projects`: the page on which projects are looked after, and what its script asks."""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from ..errors import BadRequest, NoLabelStudio
from ..jobs.base import Job
from ..projects.connection import not_set_up
from ..projects.overview import ProjectList, Projects
from . import body, jobs, services, ui_guard

bp = Blueprint("ui_projects", __name__, url_prefix="/ui")
bp.before_request(ui_guard.only_for_owner)
bp.before_request(ui_guard.check_csrf)
bp.after_request(ui_guard.finish)

REPORT_HEADERS = {  # a page of its own, which may do nothing but be looked at
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "private, no-store",
}


@bp.get("/projects")
def page() -> ResponseReturnValue:
    """The page itself; everything on it is asked for by its script."""
    return ui_guard.page("projects.html")


@bp.get("/api/projects")
def listed() -> ResponseReturnValue:
    """How Label Studio answers, and a page of its projects."""
    found = services().projects
    if found is None:
        return dict(ProjectList(connection=not_set_up(services().missing)).to_json())
    return dict(found.listed(_page_number()).to_json())


@bp.get("/api/projects/<int:project>")
def one(project: int) -> ResponseReturnValue:
    """All there is to say of a project."""
    view = _projects().project(project)
    return {**view.to_json(), "jobs": _printed(view.jobs)}


@bp.get("/api/projects/<int:project>/models")
def models(project: int) -> ResponseReturnValue:
    """Whether this service is connected to it as a model."""
    return dict(_projects().models(project, request.host_url))


@bp.get("/api/projects/<int:project>/tasks")
def tasks(project: int) -> ResponseReturnValue:
    """A page of its tasks, by name."""
    return dict(_projects().tasks(project, _page_number()))


@bp.get("/api/projects/<int:project>/jobs")
def jobs_of(project: int) -> ResponseReturnValue:
    """Its newest jobs; asks the store alone."""
    return {"jobs": _printed(_projects().jobs(project))}


@bp.post("/api/projects/<int:project>/jobs")
def place(project: int) -> ResponseReturnValue:
    """A new job (202), or the one that is under way for the same (200)."""
    job, new = _projects().place(project, body.as_json())
    return jobs.as_json(job), 202 if new else 200


@bp.delete("/api/jobs/<job_id>")
def cancel(job_id: str) -> ResponseReturnValue:
    """Cancelled at once, or at its next pause (`cancelling`)."""
    return jobs.as_json(_projects().desk.cancel(job_id))


@bp.post("/api/jobs/<job_id>/resume")
def resume(job_id: str) -> ResponseReturnValue:
    """A failed or cancelled job goes on."""
    return jobs.as_json(_projects().desk.resume(job_id))


@bp.post("/api/projects/<int:project>/rollback")
def roll_back(project: int) -> ResponseReturnValue:
    """Another version of what was learnt is used from now on, or again what follows."""
    job = _projects().roll_back(project, body.as_json())
    return {"job": None if job is None else jobs.as_json(job)}


@bp.get("/projects/<int:project>/report")
def report(project: int) -> ResponseReturnValue:
    """The newest report, as a page that runs nothing and reaches nothing."""
    return Response(_projects().report(project), mimetype="text/html", headers=REPORT_HEADERS)


def _printed(found: Sequence[Job]) -> list[dict[str, Any]]:
    return [jobs.as_json(job) for job in found]


def _page_number() -> int:
    """From 1 on. Raises BadRequest."""
    given = request.args.get("page", "1")
    if not given.isascii() or not given.isdigit() or not 0 < len(given) <= 9 or int(given) < 1:
        raise BadRequest("page must be a whole number from 1 on")
    return int(given)


def _projects() -> Projects:
    found = services().projects
    if found is None:
        raise NoLabelStudio(services().missing)
    return found
