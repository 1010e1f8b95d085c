"""`/ui/static/NAME`: scripts and styles of our pages."""

from flask import Blueprint, Response, abort
from flask.typing import ResponseReturnValue

from . import ui_guard

bp = Blueprint("ui_static", __name__, url_prefix="/ui")
bp.before_request(ui_guard.only_for_owner)

KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@bp.get("/static/<name>")
def static(name: str) -> ResponseReturnValue:
    """A file of ours, by its name."""
    path = ui_guard.PAGES / name
    if path.suffix not in KINDS or path.parent != ui_guard.PAGES or not path.is_file():
        abort(404)
    return Response(path.read_bytes(), mimetype=KINDS[path.suffix])
