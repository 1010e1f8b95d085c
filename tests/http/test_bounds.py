"""What is too much is answered with one sentence, and what goes wrong with none of our insides."""

import json
import logging
from typing import Any

import pytest

from backend.errors import CouldNotPredict
from backend.labelstudio import tasks
from backend.labelstudio.label_config import LONGEST_NAME, MOST_CONTROLS, MOST_LABELS
from backend.labelstudio.tasks import MOST_TASKS

from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, striped_png
from .conftest import Service, StartService

CONFIG = brush_config(["red"])


def body_of(**more: Any) -> dict[str, Any]:
    return {"tasks": [{"id": 1, "data": {"image": "x"}}], "label_config": CONFIG, **more}


CHUNKED = {  # as a server hands on a body that comes in chunks: nobody knows how long it will be
    "environ_overrides": {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
}


@pytest.mark.parametrize("route", ["/predict", "/setup", "/webhook", "/jobs"])
@pytest.mark.parametrize("more", [{}, CHUNKED], ids=["with length", "in chunks"])
def test_a_body_beyond_the_limit_is_413(start_service: StartService, route: str, more: Any):
    service = start_service(max_request_mb=0.01, label_studio_api_key="t")
    sent = json.dumps(body_of(junk="x" * 10_001))

    answer = service.client.post(
        route, data=sent, content_type="application/json", base_url="http://127.0.0.1:1", **more
    )

    assert answer.status_code == 413
    assert answer.get_json() == {
        "error": "the request has more than 0.01 MB (MAX_REQUEST_MB); send fewer tasks at a time"
    }
    assert service.client.post("/webhook", data=sent[:9000]).status_code == 200


@pytest.mark.parametrize("route", ["/predict", "/setup", "/webhook"])
def test_a_packed_body_is_not_unpacked(service: Service, route: str):
    answer = service.client.post(route, data=b"{}", headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 415
    assert answer.get_json() == {
        "error": "request bodies are read as they come, not packed as 'gzip'; send this without "
        "Content-Encoding"
    }
    assert (
        service.client.post(
            "/setup", json={"schema": CONFIG}, headers={"Content-Encoding": "identity"}
        ).status_code
        == 200
    )


@pytest.mark.parametrize("route", ["/predict", "/setup"])
@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"[" * 100_000, "the request body is nested in more than 64 levels"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "the request body is nested in more than 64 levels"),
        (b'{"a": NaN}', "the request body holds NaN, which is no number in JSON"),
        (b'{"a": 1', "the request body is not JSON"),
        ('{"a": 1}'.encode("utf-16"), "the request body is not JSON"),
    ],
)
def test_a_body_that_is_no_honest_json_is_400(
    service: Service, route: str, sent: bytes, sentence: str
):
    answer = service.client.post(route, data=sent)

    assert answer.status == f"400 {sentence}"
    assert answer.get_json() == {"error": sentence}


def test_an_event_that_would_cost_too_much_to_read_is_400_and_any_other_is_welcome(
    service: Service,
):
    deep = service.client.post("/webhook", data=b"[" * 100_000)

    assert deep.status == "400 the request body is nested in more than 64 levels"
    for sent in (b"", b"no json", b'{"action": "ANNOTATION_CREATED", "project": NaN}'):
        assert service.client.post("/webhook", data=sent).status_code == 200


def test_tasks_beyond_the_limit_are_left_and_the_others_answered(
    start_service: StartService, files: FileServer
):
    service = start_service(max_tasks=2)
    files.put("/data/upload/1/a.png", striped_png("red"))
    data = [{"image": "/data/upload/1/a.png"}] * 4

    results = service.predict(CONFIG, *data).get_json()["results"]

    assert ["result" in one for one in results] == [True, True, False, False]
    sentence = (
        "the request has 4 tasks, more than 2 (MAX_TASKS); retrieve predictions again to go on"
    )
    assert results[2:] == [{"error": sentence}] * 2


def test_far_too_many_tasks_are_400_and_none_is_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    sent = json.dumps({**body_of(), "tasks": [{"data": {}}] * (MOST_TASKS + 1)})

    def read(item: object) -> None:
        raise AssertionError("a task was read")

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "_task", read)
        answer = service.client.post("/predict", data=sent)

    sentence = "the request has 100001 tasks, more than 100000; send fewer at a time"
    assert answer.status == f"400 {sentence}"
    assert answer.get_json() == {"error": sentence}


def test_as_many_tasks_as_allowed_are_answered_and_counted_in_one_go(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    told: list[int] = []
    count = service.services.meters.task

    def task(failed: CouldNotPredict | None, *, times: int = 1) -> None:
        told.append(times)
        count(failed, times=times)

    monkeypatch.setattr(service.services.meters, "task", task)
    sent = json.dumps({**body_of(), "tasks": [{"data": {}}] * MOST_TASKS})

    answer = service.client.post("/predict", data=sent)

    assert answer.status_code == 200
    assert len(answer.get_json()["results"]) == MOST_TASKS
    assert len(answer.data) < 20_000_000
    assert told == [1] * 10_000 + [MOST_TASKS - 10_000]


@pytest.mark.parametrize("project", ["\ud800", "1" * 101, 10**200])
def test_a_project_no_store_could_write_is_400(service: Service, project: object):
    sent = {"schema": CONFIG, "project": project}

    for route in ("/setup", "/predict"):
        answer = service.client.post(route, json={**body_of(), **sent})
        assert answer.status == "400 the request's project is not the number and birth of one"


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ("[" * 2000, "the extra parameters of the connection are not JSON"),
        ('{"a":' * 2000, "the extra parameters of the connection are not JSON"),
        ({"a": "x" * 100_001}, "extra_params have more than 100000 characters"),
        ('{"a": "' + "x" * 100_001, "extra_params have more than 100000 characters"),
        ('{"a": 1e999}', "extra_params hold a number that is too large"),
        ({"model_background": ["red"] * 201}, "model_background of 'extra_params' must be at most"),
    ],
)
def test_extra_parameters_that_cannot_be_kept_are_422(
    service: Service, extra: object, sentence: str
):
    answer = service.client.post("/setup", json={"schema": CONFIG, "extra_params": extra})

    assert answer.status_code == 422
    assert answer.get_json()["error"].startswith(sentence)


def many(count: int, *, labels: str = '<Label value="red"/>') -> str:
    controls = "".join(
        f'<BrushLabels name="s{n}" toName="image">{labels}</BrushLabels>' for n in range(count)
    )
    return f'<View><Image name="image" value="$image"/>{controls}</View>'


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("<View>" * 101 + "</View>" * 101, "Config has tags nested in more than 100 levels"),
        ("<View>" + "<a/>" * 20_000 + "</View>", "Config has more than 20000 tags"),
        (" " * 1_000_001, "Config is longer than 1000000 characters"),
        (
            many(MOST_CONTROLS + 1),
            f"Config has {MOST_CONTROLS + 1} tags to draw with, more than {MOST_CONTROLS}",
        ),
        (
            brush_config([f"red{n}" for n in range(MOST_LABELS + 1)]),
            f"BrushLabels 'seg' has {MOST_LABELS + 1} labels, more than {MOST_LABELS}",
        ),
        (
            brush_config(["r" * (LONGEST_NAME + 1)]),
            "The value of a label of 'seg' has 201 characters, more than 200",
        ),
        (
            brush_config(["red"]).replace("$image", "$" + "i" * 201),
            "A key of the task data has 201 characters, more than 200",
        ),
        (
            brush_config(["red"]).replace("seg", "s" * 201),
            "The name of a BrushLabels tag has 201 characters, more than 200",
        ),
        (
            many(1, labels=f'<Label value="a" predicted_values="{"red," * 51}"/>'),
            "'a' has 51 predicted_values, more than 50",
        ),
        (
            many(1, labels=f'<Label value="a" predicted_values="{"r" * 201}"/>'),
            "A word of 'a' has 201 characters, more than 200",
        ),
        (
            many(
                11,
                labels="".join(
                    f'<Label value="{n}" predicted_values="{"a," * 49}b"/>' for n in range(40)
                ),
            ),
            "Config has 22000 words to look for, more than 20000",
        ),
        (
            brush_config(["red"], f'model_prompt="{"a {}|" * 101}"'),
            "model_prompt of 'seg' must be at most 100 sentences of at most 300 characters",
        ),
        (
            brush_config(["red"], f'model_background="{"r" * 201}"'),
            "model_background of 'seg' must be at most 200 words of at most 200 characters",
        ),
    ],
)
def test_a_config_beyond_its_limits_is_422(service: Service, config: str, sentence: str):
    answer = service.setup(config)

    assert answer.status_code == 422
    assert answer.get_json()["error"].startswith(sentence)


def test_thousands_of_unknown_attributes_are_warned_about_some_dozen_times(
    service: Service, caplog: pytest.LogCaptureFixture
):
    attributes = "".join(f' model_a{n}="1"' for n in range(20_000))

    assert service.setup(brush_config(["red"], attributes)).status_code == 200

    unknown = [one for one in caplog.messages if "unknown attribute" in one]
    assert 0 < len(unknown) <= 20


def test_labels_of_a_task_that_no_result_could_hold_are_the_task_s_trouble(
    service: Service, files: FileServer
):
    files.put("/data/upload/1/a.png", striped_png("red"))
    config = (
        '<View><Image name="image" value="$image"/>'
        '<BrushLabels name="seg" toName="image" value="$labels"/></View>'
    )
    image = "/data/upload/1/a.png"

    results = service.predict(
        config,
        {"image": image, "labels": ["red", {"value": "green", "alias": "half \ud800"}]},
        {"image": image, "labels": ["red"]},
        {"image": image, "labels": ["red" * 100]},
    ).get_json()["results"]

    assert ["result" in one for one in results] == [False, True, False]
    assert "the task lists a label that cannot be written" in results[0]["error"]


@pytest.mark.parametrize(
    "wild", [{"original_width": 10**400, "original_height": 3}, {"value": {"x": 10**400, "y": 1}}]
)
def test_a_click_with_numbers_beyond_all_floats_is_passed_over(
    service: Service, files: FileServer, wild: dict[str, Any]
):
    files.put("/data/upload/1/a.png", striped_png("red"))
    click: dict[str, Any] = {
        "from_name": "rc", "to_name": "image", "type": "rectanglelabels",
        "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rotation": 3,
                  "rectanglelabels": ["red"]},
    }  # fmt: skip
    click["value"] |= wild.pop("value", {})

    answer = service.predict(
        CONFIG, {"image": "/data/upload/1/a.png"}, context={"result": [{**click, **wild}]}
    )

    assert answer.status_code == 200
    assert "result" in answer.get_json()["results"][0]


def test_an_error_quotes_only_so_much_of_what_was_sent(service: Service):
    answer = service.setup(brush_config(["red"], f'model_method="{"x" * 99}\n"'))
    long = service.setup(brush_config(["red"], f'model_score_threshold="{"9" * 900_000}"'))

    assert answer.status_code == 422
    assert "\n" not in answer.get_json()["error"]
    assert long.status_code == 422
    assert len(long.get_json()["error"]) == 1000


@pytest.mark.parametrize(
    ("method", "route", "status", "sentence"),
    [
        ("GET", "/nowhere", 404, "there is nothing here; Label Studio needs the address without a "
         "path, as in http://cliper:9090"),
        ("GET", "/predict", 405, "this is not asked for with this method"),
        ("BREW", "/health", 405, "this is not asked for with this method"),
        ("POST", "/setup", 400, "the request body is not JSON"),
        ("GET", "/jobs", 404, "this service runs no jobs: it needs LABEL_STUDIO_URL and "
         "LABEL_STUDIO_API_KEY"),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_in_json(
    service: Service, method: str, route: str, status: int, sentence: str
):
    answer = service.client.open(route, method=method)

    assert answer.status_code == status
    assert answer.mimetype == "application/json"
    assert answer.get_json() == {"error": sentence}


def test_a_method_not_allowed_says_which_are(service: Service):
    allowed = service.client.get("/predict").headers["Allow"]

    assert set(allowed.split(", ")) == {"OPTIONS", "POST"}


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (RuntimeError("secret"), 500, "internal error, see the log of the service"),
        (RecursionError("secret"), 500, "internal error, see the log of the service"),
        (MemoryError("secret"), 503, "there is not enough memory for this request; send fewer "
         "tasks at a time"),
    ],
    ids=["any", "recursion", "memory"],
)  # fmt: skip
@pytest.mark.parametrize("route", ["/setup", "/predict", "/webhook", "/versions", "/health"])
def test_an_error_nobody_foresaw_is_a_sentence_and_its_traceback_is_on_the_log(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    route: str,
    error: Exception,
    status: int,
    sentence: str,
):
    def stumble(*given: object, **more: object) -> Any:
        raise error

    for name in ("setup", "predict", "versions"):
        monkeypatch.setattr(service.services.predictor, name, stumble)
    for name in ("take_in", "facts"):
        monkeypatch.setattr(type(service.services), name, stumble)

    with caplog.at_level(logging.ERROR):
        if route in ("/versions", "/health"):
            answer = service.client.get(route)
        else:
            answer = service.client.post(route, json=body_of(schema=CONFIG))

    assert answer.status_code == status
    assert answer.get_json() == {"error": sentence}
    assert b"secret" not in answer.data
    assert b"Traceback" not in answer.data
    (record,) = [one for one in caplog.records if one.exc_info]
    assert "secret" in caplog.text
    assert "in stumble" in caplog.text
    assert record.name == "backend.api.errors"
