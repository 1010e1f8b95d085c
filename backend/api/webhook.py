"""`POST /webhook`: Label Studio's events, acknowledged at once since an annotator waits."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from . import body, services

bp = Blueprint("webhook", __name__)


@bp.post("/webhook")
def webhook() -> ResponseReturnValue:
    """Any action is welcome; what it means is found out afterwards."""
    services().take_in(body.as_event())
    return {"status": "received"}
