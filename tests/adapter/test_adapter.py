"""`LabelStudioMLBase` on top, the same answers underneath."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from label_studio_sdk.converter.brush import decode_rle

from backend import wiring
from backend.model_host import ModelSource
from backend.services import Services
from backend.settings import Settings

from . import colours
from .conftest import Sdk

ROOT = Path(__file__).parents[2]
PROJECT = "7.1795190531"
CONFIG = colours.config("red", "blue")
RED = colours.picture(red=(5, 5, 15, 20))
BOTH = colours.picture(red=(0, 0, 10, 10), blue=(20, 10, 35, 25))
EMPTY = colours.picture()


def setup_body(config: str = CONFIG) -> dict[str, Any]:
    return {
        "project": PROJECT,
        "schema": config,
        "hostname": "http://localhost:8080",
        "access_token": "unused",
        "extra_params": None,
    }


def predict_body(
    *addresses: str, config: str = CONFIG, context: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "tasks": [
            {"id": number, "data": {"image": address}, "annotations": [], "predictions": []}
            for number, address in enumerate(addresses, start=1)
        ],
        "project": PROJECT,
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }


def event_body(action: str, config: str = CONFIG) -> dict[str, Any]:
    return {"action": action, "project": {"id": 7, "label_config": config}, "annotation": {"id": 1}}


def test_health_names_the_model(client: FlaskClient) -> None:
    assert client.get("/health").get_json() == {"status": "UP", "model_class": "CliperBackend"}


def test_setup_names_the_version_our_own_server_names(
    client: FlaskClient, own: FlaskClient
) -> None:
    ours = own.post("/setup", json=setup_body()).get_json()
    assert ours["model_version"].startswith("test-colours-")
    assert client.post("/setup", json=setup_body()).get_json() == ours


def test_another_config_gets_another_version(client: FlaskClient) -> None:
    first = client.post("/setup", json=setup_body()).get_json()
    second = client.post("/setup", json=setup_body(colours.config("red"))).get_json()
    assert first != second


def test_a_batch_is_answered_as_by_our_own_server(client: FlaskClient, own: FlaskClient) -> None:
    body = predict_body(BOTH, EMPTY, "data:image/png;base64,AAAA", RED)
    theirs = client.post("/predict", json=body)
    assert theirs.status_code == 200
    assert theirs.get_json() == own.post("/predict", json=body).get_json()


def test_the_three_outcomes_stay_apart(client: FlaskClient) -> None:
    body = predict_body(RED, EMPTY, "data:image/png;base64,AAAA")
    found, nothing, failed = client.post("/predict", json=body).get_json()["results"]

    (region,) = found["result"]
    assert region["value"]["brushlabels"] == ["red"]
    assert (region["original_width"], region["original_height"]) == (40, 30)
    mask = decode_rle(region["value"]["rle"]).reshape(30, 40, 4)[..., 3] > 127
    assert mask.sum() == 10 * 15
    assert mask[5:20, 5:15].all()
    assert nothing["result"] == []
    assert "result" not in failed


def test_every_prediction_carries_the_version_of_setup(client: FlaskClient) -> None:
    version = client.post("/setup", json=setup_body()).get_json()["model_version"]
    results = client.post("/predict", json=predict_body(RED, EMPTY)).get_json()["results"]
    assert [entry["model_version"] for entry in results] == [version, version]


def test_a_batch_of_none_is_answered_with_none(client: FlaskClient) -> None:
    assert client.post("/predict", json=predict_body()).get_json() == {"results": []}


def test_an_annotators_prompt_is_answered_as_by_our_own_server(
    client: FlaskClient, own: FlaskClient
) -> None:
    body = predict_body(RED, context={"result": [{"type": "keypointlabels"}]})
    answer = client.post("/predict", json=body).get_json()
    assert answer == own.post("/predict", json=body).get_json()
    assert len(answer["results"]) == 1


def test_each_request_keeps_its_own_config(sdk: Sdk, client: FlaskClient) -> None:
    """The SDK stores the last config of a project; a request under way must not see it."""
    first = sdk.api.MODEL_CLASS(project_id="7", label_config=colours.config("red"))
    sdk.api.MODEL_CLASS(project_id="7", label_config=colours.config("blue"))
    (entry,) = first.predict([{"id": 1, "data": {"image": BOTH}}])
    assert [region["value"]["brushlabels"] for region in entry["result"]] == [["red"]]


def test_equal_requests_at_the_same_time_get_equal_answers(client: FlaskClient) -> None:
    answers: list[Any] = []

    def ask() -> None:
        answers.append(client.application.test_client().post("/predict", json=body).get_json())

    body = predict_body(RED)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["results"][0]["result"]


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "START_TRAINING"])
def test_an_event_is_acknowledged(client: FlaskClient, action: str) -> None:
    answer = client.post("/webhook", json=event_body(action))
    assert answer.status_code == 201
    assert answer.get_json()["status"] == "ok"


def test_an_event_the_sdk_does_not_know_is_let_pass(client: FlaskClient) -> None:
    assert client.post("/webhook", json=event_body("ANNOTATIONS_DELETED")).status_code == 200


def test_a_config_without_brush_labels_is_refused_with_our_sentence(client: FlaskClient) -> None:
    config = '<View><Image name="i" value="$image"/></View>'
    answer = client.post("/setup", json=setup_body(config))
    assert answer.status_code == 500  # the SDK's server knows no other
    assert "Config has no BrushLabels tag bound to an Image" in answer.get_data(as_text=True)


def test_nothing_is_predicted_while_the_model_loads(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk.api, "BASIC_AUTH", None)
    ready = threading.Event()
    usual = colours.source()

    def load(profile: str, progress: Any) -> Any:
        assert ready.wait(60)
        return usual.load(profile, progress)

    slow = ModelSource(**{**vars(usual), "load": load})
    services = wiring.build(Settings(), source=slow)
    services.start()
    client = sdk.adapter.create_app(services).test_client()
    try:
        assert client.get("/health").status_code == 200
        assert client.post("/setup", json=setup_body()).status_code == 200
        early = client.post("/predict", json=predict_body(RED))
        assert early.status_code == 500
        assert "Model is loading" in early.get_data(as_text=True)
    finally:
        ready.set()
        services.model.join()
    assert client.post("/predict", json=predict_body(RED)).get_json()["results"][0]["result"]
    services.close()


def test_the_password_of_our_settings_guards_the_sdks_server(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk.api, "BASIC_AUTH", None)
    services = wiring.build(Settings(basic_auth=("admin", "a:b")), source=colours.source())
    client = sdk.adapter.create_app(services).test_client()
    assert client.get("/health").status_code == 401
    assert client.get("/health", auth=("admin", "a:b")).status_code == 200
    services.close()


def test_the_class_itself_holds_no_services(sdk: Sdk, services: Services) -> None:
    sdk.adapter.create_app(services)
    assert not hasattr(sdk.adapter.CliperBackend, "services")


def test_the_wsgi_module_builds_its_app_only_when_asked(sdk: Sdk, tmp_path: Path) -> None:
    script = (
        "import json, os, sys\n"
        "import backend.adapter._wsgi as wsgi\n"
        "assert 'label_studio_ml' not in sys.modules\n"
        "print(json.dumps(wsgi.app.test_client().get('/health').get_json()), flush=True)\n"
        "os._exit(0)\n"  # the model is on its way: torch's threads may not be torn down under it
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(sdk.path), *sys.path]),
            "MODEL_DIR": str(tmp_path),
            "STORAGE": "memory:",
            "PROFILE": "demo",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["model_class"] == "CliperBackend"


def test_extra_parameters_are_in_the_version_from_the_first_setup_on(client: FlaskClient) -> None:
    plain = client.post("/setup", json=setup_body()).get_json()["model_version"]
    body = {**setup_body(), "extra_params": '{"model_smooth": 3}'}

    told = client.post("/setup", json=body).get_json()["model_version"]

    assert told != plain
    assert client.post("/setup", json=body).get_json()["model_version"] == told
