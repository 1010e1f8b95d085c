"""`GET /health`: always 200 and at once; says how far the model has come, and what jobs do."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from . import services

bp = Blueprint("health", __name__)


@bp.get("/")
@bp.get("/health")
def health() -> ResponseReturnValue:
    """State of the service (UP) and of the model: downloading, loading, ready or failed."""
    status = services().model.status
    others = [
        {"method": choice.method, "profile": choice.profile, "state": host.status.state}
        for choice, host in services().models.others
    ]
    model = {"state": status.state, "progress": status.percent, "reason": status.reason}
    return {
        "status": "UP",
        "model_class": "CLIPer",
        "profile": status.profile,
        "model": model,
        "other_models": others,
        **services().facts(),
        **status.details,
    }
