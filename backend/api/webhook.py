"""`POST /webhook`: Label Studio's events, acknowledged at once since an annotator waits."""

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from . import services

bp = Blueprint("webhook", __name__)


@bp.post("/webhook")
def webhook() -> ResponseReturnValue:
    """Any action is welcome; what it means is found out afterwards."""
    services().take_in(request.get_data(cache=False))
    return {"status": "received"}
