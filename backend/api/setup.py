"""`POST /setup`: check the label config and name the version; runs no model."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from ..labelstudio.tasks import SetupRequest
from . import body, services

bp = Blueprint("setup", __name__)


@bp.post("/setup")
def setup() -> ResponseReturnValue:
    """The version string that predictions for this config will carry."""
    asked = SetupRequest.from_json(body.as_json())
    return {"model_version": services().predictor.setup(asked)}
