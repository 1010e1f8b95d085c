"""`POST /predict`: masks for a batch of tasks."""

from flask import Blueprint, Response, g
from flask.typing import ResponseReturnValue

from ..labelstudio.tasks import PredictRequest
from ..predictor import lane_of
from . import body, services

bp = Blueprint("predict", __name__)


@bp.post("/predict")
def predict() -> ResponseReturnValue:
    """Pre-label tasks; one entry per task, in the same order.

    Entries are printed one by one: a long answer printed at once would hold up `/health`.
    """
    wanted = PredictRequest.from_json(body.as_json())
    g.lane = lane_of(wanted).name.lower()
    outcomes = services().predictor.predict(wanted)
    entries = ",".join(outcome.to_json() for outcome in outcomes)
    return Response(f'{{"results":[{entries}]}}', mimetype="application/json")
