"""`GET /ready`: whether predictions work, for whoever hands out requests. Asks for no password,
so it says nothing but that."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from . import services

bp = Blueprint("ready", __name__)


@bp.get("/ready")
def ready() -> ResponseReturnValue:
    """200, or 503 and why; a store that is away is no reason."""
    reason = services().not_ready()
    return {"ready": reason is None, "reason": reason}, 200 if reason is None else 503
