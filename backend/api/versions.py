"""`GET /versions`: what Label Studio's versions drop-down shows."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from . import services

bp = Blueprint("versions", __name__)


@bp.get("/versions")
def versions() -> ResponseReturnValue:
    """Versions given out lately, the newest first."""
    return {"versions": services().predictor.versions()}
