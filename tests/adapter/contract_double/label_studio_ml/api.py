"""The Flask app around one model class; one of each per process."""

import functools
import hmac
import os
import traceback
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, request

from .model import LabelStudioMLBase
from .response import ModelResponse

TRAIN_EVENTS = (
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATION_DELETED",  # Label Studio sends ANNOTATIONS_DELETED
    "START_TRAINING",
)

_server = Flask(__name__)
MODEL_CLASS: type[LabelStudioMLBase] = LabelStudioMLBase
BASIC_AUTH: tuple[str, str] | None = None


def init_app(
    model_class: type[LabelStudioMLBase],
    basic_auth_user: str | None = None,
    basic_auth_pass: str | None = None,
) -> Flask:
    global MODEL_CLASS, BASIC_AUTH
    if not issubclass(model_class, LabelStudioMLBase):
        raise ValueError("the model class must be a subclass of LabelStudioMLBase")
    MODEL_CLASS = model_class
    user = basic_auth_user or os.environ.get("BASIC_AUTH_USER")
    password = basic_auth_pass or os.environ.get("BASIC_AUTH_PASS")
    if user and password:
        BASIC_AUTH = (user, password)
    return _server


def traceback_as_json(view: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(view)
    def guarded() -> Any:
        try:
            return view()
        except Exception as error:
            body = {"error": type(error).__name__, "traceback": traceback.format_exc()}
            return jsonify(body), 500

    return guarded


@_server.before_request
def check_auth() -> Response | None:
    if BASIC_AUTH is None:
        return None
    given = request.authorization
    if given and given.username is not None and given.password is not None:
        pairs = zip((given.username, given.password), BASIC_AUTH, strict=True)
        if all(hmac.compare_digest(one, other) for one, other in pairs):
            return None
    return Response("Unauthorized", 401, {"WWW-Authenticate": "Basic"})


@_server.post("/predict")
@traceback_as_json
def predict() -> Any:
    body = request.get_json()
    project_id = str(body.get("project")).split(".", 1)[0]
    params = body.get("params", {})
    context = params.pop("context", {})
    model = MODEL_CLASS(project_id=project_id, label_config=body.get("label_config"))
    answer: Any = model.predict(body.get("tasks"), context=context, **params)
    if isinstance(answer, ModelResponse):
        if not answer.has_model_version():
            if model.model_version:
                answer.set_version(str(model.model_version))
        else:
            answer.update_predictions_version()
        answer = answer.model_dump()
    if answer is None:
        answer = []
    if isinstance(answer, dict):
        answer = answer.get("predictions", answer)
    return jsonify({"results": answer})


@_server.post("/setup")
@traceback_as_json
def setup() -> Any:
    body = request.get_json()
    project_id = body.get("project").split(".", 1)[0]
    model = MODEL_CLASS(project_id=project_id, label_config=body.get("schema"))
    if body.get("extra_params"):
        model.set_extra_params(body["extra_params"])
    return jsonify({"model_version": model.get("model_version")})


@_server.post("/webhook")
def webhook() -> Any:
    body = request.get_json()
    event = body.pop("action")
    if event not in TRAIN_EVENTS:
        return jsonify({"status": "Unknown event"}), 200
    model = MODEL_CLASS(str(body["project"]["id"]), label_config=body["project"]["label_config"])
    result = model.fit(event, body)
    return jsonify({"result": result, "status": "ok"}), 201


@_server.get("/")
@_server.get("/health")
@traceback_as_json
def health() -> Any:
    return jsonify({"status": "UP", "model_class": MODEL_CLASS.__name__})


@_server.get("/metrics")
@traceback_as_json
def metrics() -> Any:
    return jsonify({})
