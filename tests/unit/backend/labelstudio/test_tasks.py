"""Requests as Label Studio sends them."""

import pytest

from backend.errors import BadRequest, TaskDataMissing
from backend.labelstudio.tasks import PredictRequest, Task, setup_config

BODY = {
    "tasks": [
        {"id": 7, "data": {"image": "/data/upload/1/a.png"}, "annotations": [], "is_labeled": False}
    ],
    "project": "1.1795190531",
    "label_config": "<View/>",
    "params": {"login": None, "password": None, "context": None},
}


def test_a_captured_request_is_read():
    request = PredictRequest.from_json(BODY)

    assert request.tasks == (Task(7, {"image": "/data/upload/1/a.png"}),)
    assert request.label_config == "<View/>"
    assert request.context is None


def test_a_prompt_is_kept():
    context = {"result": [{"type": "keypointlabels"}]}

    request = PredictRequest.from_json({**BODY, "params": {"context": context}})

    assert request.context == context


def test_missing_params_mean_no_prompt():
    body = {name: value for name, value in BODY.items() if name != "params"}

    assert PredictRequest.from_json(body).context is None


@pytest.mark.parametrize("body", [None, [], {**BODY, "tasks": {}}, {**BODY, "tasks": [{"id": 1}]}])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(BadRequest):
        PredictRequest.from_json(body)


def test_setup_reads_only_the_config():
    assert setup_config({"schema": "<View/>", "hostname": "x", "access_token": "y"}) == "<View/>"
    with pytest.raises(BadRequest, match="no label config under 'schema'"):
        setup_config({"label_config": "<View/>"})


@pytest.mark.parametrize("data", [{}, {"image": 4}, {"image": ["a", "b"]}, {"image": "  "}])
def test_a_task_without_an_address_says_what_it_has(data):
    with pytest.raises(TaskDataMissing, match="no picture address under 'image'"):
        Task(1, data).image_address("image")


def test_the_unnamed_key_is_the_fallback_only():
    assert Task(1, {"$undefined$": "a"}).image_address("image") == "a"
    assert Task(1, {"$undefined$": "a", "image": "b"}).image_address("image") == "b"
