"""`/ui`: the page where words are tried on pictures, and the data it shows.

The page's own data is no interface for others: it may change with any version.
"""

from typing import Any

from flask import Blueprint, Response, redirect, request
from flask.typing import ResponseReturnValue

from cliper_model import profiles
from cliper_model.presets import NAMES as PRESETS

from ..errors import BadRequest, NoPlayground
from ..model_host import DOWNLOADING, LOADING
from ..playground import scenes
from ..playground.kept import Kept
from ..playground.playground import Asked, Playground
from . import auth, body, services, ui_guard

bp = Blueprint("ui", __name__, url_prefix="/ui")
bp.before_request(ui_guard.check_csrf)
bp.after_request(ui_guard.finish)

A_DAY = 86_400  # seconds


@bp.get("", strict_slashes=False)
def home() -> ResponseReturnValue:
    """The page; its links begin below `/ui/`, wherever the service itself is found."""
    if not request.path.endswith("/"):
        return redirect("ui/")
    return ui_guard.page("playground.html")


@bp.get("/static/<name>")
def static(name: str) -> ResponseReturnValue:
    """What pages load."""
    return ui_guard.static(name)


@bp.get("/api/meta")
def meta() -> ResponseReturnValue:
    """What there is to choose from."""
    return {
        "version": services().version,
        "scenes": scenes.COUNT,
        "words": list(scenes.WORDS.items()),
        "methods": list(profiles.methods()),
        "profiles": [[name, _playground().is_here(name)] for name in profiles.names()],
        "presets": list(PRESETS),
        "projects": _playground().has_projects and auth.is_owner(),
    }


@bp.get("/api/status")
def status() -> ResponseReturnValue:
    """How far the model is, and how long a new picture took lately, in seconds.

    `loading`: this model, or one that a label config names, is on its way.
    """
    model = services().model.status
    others = [host.status.state for _, host in services().predictor.crew.others()]
    return {
        "state": model.state,
        "loading": any(state in (DOWNLOADING, LOADING) for state in (model.state, *others)),
        "progress": model.percent,
        "reason": model.reason,
        "profile": model.profile,
        "look_seconds": _playground().look_seconds,
    }


@bp.get("/api/scenes/<int:number>.png")
def scene(number: int) -> ResponseReturnValue:
    """A drawn scene."""
    answer = Response(_playground().scene(number), mimetype="image/png")
    answer.headers["Cache-Control"] = f"private, max-age={A_DAY}"
    return answer


@bp.post("/api/pictures")
def keep() -> ResponseReturnValue:
    """A file, or JSON that names a scene, or a task of a project; kept for a while."""
    if not request.is_json:
        return _told(_playground().keep_file(body.as_bytes(), request.args.get("name", "")))
    asked = body.as_json()
    if not isinstance(asked, dict):
        raise BadRequest("the request body is not a JSON object")
    if "scene" in asked:
        return _told(_playground().keep_scene(_number(asked, "scene")))
    auth.require_owner()
    kept, config = _playground().keep_task(_number(asked, "project"), _number(asked, "task"))
    return {**_told(kept), "config": config}


@bp.get("/api/pictures/<id>")
def picture(id: str) -> ResponseReturnValue:
    """A kept picture as browsers show it; `?about` for its name and size."""
    kept = _playground().kept(id)
    if kept.project is not None:
        auth.require_owner()
    if "about" in request.args:
        return _told(kept)
    answer = Response(kept.shown, mimetype=kept.kind)
    answer.headers["Cache-Control"] = f"private, max-age={A_DAY}"
    return answer


@bp.post("/api/panes")
def pane() -> ResponseReturnValue:
    """What a label config finds on a kept picture."""
    return _playground().pane(_asked()).to_json()


@bp.post("/api/exports/<kind>")
def export(kind: str) -> ResponseReturnValue:
    """The same as a file: `overlay`, `labels` or `coco`."""
    data, media, name = _playground().export(_asked(), kind)
    answer = Response(data, mimetype=media)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _asked() -> Asked:
    asked = Asked.from_json(body.as_json())
    if _playground().kept(asked.picture).project is not None:
        auth.require_owner()
    return asked


def _told(kept: Kept) -> dict[str, Any]:
    return {
        "id": kept.id,
        "name": kept.name,
        "size_hw": list(kept.size_hw),
        "project": kept.project,
        "task": None if kept.task is None else kept.task.id,
    }


def _number(asked: dict[str, Any], name: str) -> int:
    """Raises BadRequest."""
    value = asked.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRequest(f"{name} must be a whole number")
    return value


def _playground() -> Playground:
    found = services().playground
    if found is None:
        raise NoPlayground
    return found
