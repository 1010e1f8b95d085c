"""Requests as Label Studio sends them."""

import pytest

from backend.errors import BadRequest, LabelsMissing, TaskDataMissing
from backend.labelstudio.tasks import PredictRequest, SetupRequest, Task

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


def test_the_project_of_a_request_is_kept():
    assert PredictRequest.from_json(BODY).project == "1.1795190531"
    assert PredictRequest.from_json({**BODY, "project": None}).project is None


def test_setup_reads_config_project_and_extra_params():
    body = {"schema": "<View/>", "project": "1.5", "hostname": "x", "access_token": "y"}

    plain = SetupRequest.from_json({**body, "extra_params": None})
    given = SetupRequest.from_json({**body, "extra_params": {"model_smooth": 3}})

    assert (plain.label_config, plain.project, plain.extra_params) == ("<View/>", "1.5", None)
    assert given.extra_params == {"model_smooth": 3}


def test_setup_without_a_config_is_refused():
    with pytest.raises(BadRequest, match="no label config under 'schema'"):
        SetupRequest.from_json({"label_config": "<View/>"})


def test_a_list_of_pictures_gives_all_their_addresses():
    task = Task(1, {"images": ["a.png", " b.png"]})

    assert task.image_addresses("images", listed=True) == ("a.png", "b.png")


@pytest.mark.parametrize("given", [[], "a.png", ["a.png", 3], ["a.png", ""], None])
def test_a_list_with_anything_but_addresses_is_refused_as_a_whole(given):
    with pytest.raises(TaskDataMissing):
        Task(1, {"images": given}).image_addresses("images", listed=True)


@pytest.mark.parametrize(("given", "page"), [(3, 3), ("2", 2), (2.0, 2), (None, 1), ("", 1)])
def test_a_page_is_a_whole_number_from_one_and_the_first_unless_said(given, page: int):
    assert Task(1, {"page": given}).page("page") == page
    assert Task(1, {"page": given}).page(None) == 1
    assert Task(1, {}).page("page") == 1


@pytest.mark.parametrize("given", [0, -3, "two", 1.5, "nan", "inf", [1]])
def test_masks_of_another_page_are_worse_than_none(given):
    with pytest.raises(LabelsMissing, match="is no page; give a whole number from 1 on"):
        Task(1, {"page": given}).page("page")


@pytest.mark.parametrize("data", [{}, {"image": 4}, {"image": ["a", "b"]}, {"image": "  "}])
def test_a_task_without_an_address_says_what_it_has(data):
    with pytest.raises(TaskDataMissing, match="no picture address under 'image'"):
        Task(1, data).image_address("image")


def test_the_unnamed_key_is_the_fallback_only():
    assert Task(1, {"$undefined$": "a"}).image_address("image") == "a"
    assert Task(1, {"$undefined$": "a", "image": "b"}).image_address("image") == "b"
