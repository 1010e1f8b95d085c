"""`POST /webhook`: Label Studio's events, acknowledged at once since an annotator waits."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

bp = Blueprint("webhook", __name__)


@bp.post("/webhook")
def webhook() -> ResponseReturnValue:
    """Any action is welcome; none has an effect yet."""
    return {"status": "received"}
