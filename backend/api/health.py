"""`GET /health`: always 200 and at once; says how far the model has come, what jobs do, and what is
not as it should be."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from . import services

bp = Blueprint("health", __name__)


@bp.get("/")
@bp.get("/health")
def health() -> ResponseReturnValue:
    """State of the service (UP), of the model: downloading, loading, ready or failed, and of every
    device.

    With a password set it asks for it: that is how Label Studio tells an admin of a wrong one
    (protocol notes §1.7). Who only wants to know whether somebody lives here asks `/ready`.
    """
    status = services().model.status
    others = [
        {"method": choice.method, "profile": choice.profile, "state": host.status.state}
        for choice, host in services().models.others
    ]
    model = {"state": status.state, "progress": status.percent, "reason": status.reason}
    facts = services().facts()
    return {
        "status": "UP",
        "degraded": services().degraded(facts),
        "model_class": "CLIPer",
        "profile": status.profile,
        "model": model,
        "other_models": others,
        **facts,
        **status.details,
    }
