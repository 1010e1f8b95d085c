"""`cliper doctor` against a real Label Studio: every fault is named by its own check, alone."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.__main__ import main
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import Installation, LabelStudioServer
from backend.demo.processes import free_port
from tests.doubles.json_server import json_server, service_routes

from .conftest import TEMPLATES
from .pictures import TWO_BOXES, brush_config

CONFIG = brush_config(("red", "blue"))
CLICKS_ONLY = (
    '<View><Image name="photo" value="$image"/><KeyPointLabels name="tips" toName="photo" '
    'smart="true"><Label value="red"/></KeyPointLabels></View>'
)

Doctor = Callable[..., "Report"]
Report = dict[str, list[dict[str, Any]]]


def troubles(report: Report) -> dict[str, str]:
    """Check -> state of everything that is neither fine nor skipped."""
    return {
        check: one["state"]
        for check, found in report.items()
        for one in found
        if one["state"] in ("warn", "fail")
    }


@pytest.fixture
def doctor(
    label_studio: LabelStudioServer,
    service: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Doctor:
    """Run the command as an administrator would; `status` is what it must end with."""
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.account.token)
    monkeypatch.setenv("PROFILE", "demo")
    monkeypatch.setenv("DEVICE", "cpu")

    def run(*arguments: object, status: int, backend: str = service) -> Report:
        capsys.readouterr()
        words = ["doctor", "--json", "--backend", backend, *map(str, arguments)]
        assert main(words) == status
        report: Report = {}
        for finding in json.loads(capsys.readouterr().out):
            report.setdefault(finding["check"], []).append(finding)
        return report

    return run


@pytest.fixture
def project(api: LabelStudioApi, service: str) -> int:
    """A project in good order: one picture, one model, no prediction yet."""
    made = api.create_project("examined", CONFIG)
    api.upload(made, {"two.png": TWO_BOXES.to_png()})
    api.connect(made, service)
    return made


@pytest.fixture(scope="module")
def secluded_label_studio(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """Calls itself by another name, and calls nobody on a private address, as by default."""
    also = {
        "LABEL_STUDIO_HOST": "http://studio.example:8080",
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "true",
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "true",
    }
    data = tmp_path_factory.mktemp("secluded-label-studio") / "data"
    with LabelStudioServer(installation, data, templates=TEMPLATES, also=also) as server:
        yield server


def test_where_nothing_is_wrong_nothing_is_named(doctor: Doctor, project: int):
    report = doctor("--project", project, status=0)

    assert troubles(report) == {}
    assert not any(one["state"] == "skip" for found in report.values() for one in found)
    (config,) = report["label-config"]
    assert [one["label"] for one in config["controls"][0]["labels"]] == ["red", "blue"]
    assert report["picture"][0]["size_wh"] == [320, 240]
    assert report["server-settings"][0]["events_allowed"] is True


def test_without_a_project_the_connected_ones_are_listed(
    doctor: Doctor, project: int, service: str
):
    report = doctor(status=0)

    (found,) = report["projects"]
    (row,) = (one for one in found["projects"] if one["project"] == project)
    assert row["models"] == [f"CLIPer at {service} (Connected)"]


def test_a_wrong_port(doctor: Doctor, project: int):
    url = f"http://localhost:{free_port()}"

    report = doctor("--url", url, "--project", project, status=1)

    assert troubles(report) == {"label-studio": "fail"}
    assert "connection refused" in report["label-studio"][0]["finding"]


def test_a_wrong_token(doctor: Doctor, project: int):
    report = doctor("--token", "f" * 40, "--project", project, status=1)

    assert troubles(report) == {"token": "fail"}
    assert "Invalid token" in report["token"][0]["finding"]


def test_a_legacy_token_while_they_are_switched_off(
    doctor: Doctor, project: int, api: LabelStudioApi, personal_token: str
):
    api.allow_legacy_tokens(False)
    try:
        refused = doctor("--project", project, status=1)
        accepted = doctor("--token", personal_token, "--project", project, status=0)
    finally:
        with_personal = LabelStudioApi(api.url, personal_token)
        with_personal.allow_legacy_tokens(True)
        with_personal.close()

    assert troubles(refused) == {"token": "fail"}
    assert "switched off" in refused["token"][0]["finding"]
    assert troubles(accepted) == {}
    assert accepted["token"][0]["finding"].startswith("personal access token, exchanged")


def test_a_service_that_is_not_running(doctor: Doctor, project: int):
    nobody = f"http://localhost:{free_port()}"

    report = doctor("--project", project, backend=nobody, status=1)

    assert troubles(report) == {"service": "fail"}
    assert report["version"][0]["finding"] == "not looked at, see service"


def test_a_connection_with_a_dead_address(doctor: Doctor, api: LabelStudioApi):
    project = api.create_project("dead", CONFIG)
    api.upload(project, {"two.png": TWO_BOXES.to_png()})
    with json_server(service_routes()) as passing:
        api.connect(project, passing.url)

    report = doctor("--project", project, status=1)

    assert troubles(report) == {"connections": "fail"}
    assert report["connections"][0]["url"] == passing.url


def test_a_copy_of_a_connection(doctor: Doctor, project: int, api: LabelStudioApi, service: str):
    api.connect(project, service)

    report = doctor("--project", project, status=0)

    assert troubles(report) == {"copies": "warn"}
    assert len(report["copies"][0]["ids"]) == 2


def test_events_of_a_deleted_model(doctor: Doctor, project: int, api: LabelStudioApi, service: str):
    with json_server(service_routes()) as passing:
        other = api.connect(project, passing.url)
        api.call("DELETE", f"/api/ml/{other['id']}")

    report = doctor("--project", project, status=0)

    assert troubles(report) == {"copies": "warn"}
    assert report["copies"][0]["url"] == f"{passing.url}/webhook"


def test_a_label_config_we_cannot_use(doctor: Doctor, project: int, api: LabelStudioApi):
    api.call("PATCH", f"/api/projects/{project}/", json={"label_config": CLICKS_ONLY})

    report = doctor("--project", project, status=1)

    assert troubles(report) == {"label-config": "fail"}
    assert report["connections"][0]["state"] == "skip"


def test_a_picture_whose_file_is_gone(
    doctor: Doctor, project: int, label_studio: LabelStudioServer
):
    (file,) = (label_studio.data / "media" / "upload" / str(project)).glob("*-two.png")
    file.unlink()

    report = doctor("--project", project, status=1)

    assert troubles(report) == {"picture": "fail"}
    assert report["picture"][0]["step"] == "status"  # Label Studio answers 500 for it


def test_a_score_column_that_stays_empty_and_is_mended(
    doctor: Doctor, project: int, api: LabelStudioApi
):
    api.retrieve_predictions(project)

    before = doctor("--project", project, status=0)
    still = api.call("GET", f"/api/projects/{project}")["model_version"]
    mending = doctor("--project", project, "--fix", status=0)
    after = doctor("--project", project, status=0)

    assert troubles(before) == {"score-column": "warn"}
    assert still == "CLIPer"
    assert mending["score-column"][0]["fixed"] is True
    assert troubles(after) == {}
    version = after["version"][0]["version"]
    assert api.call("GET", f"/api/projects/{project}")["model_version"] == version
    assert after["predictions"][0]["present"] == 1


def test_predictions_of_an_older_version(doctor: Doctor, project: int, api: LabelStudioApi):
    (task,) = api.tasks(project)
    old = {"task": task["id"], "result": [], "model_version": "older", "score": 0.5}
    api.call("POST", "/api/predictions", json=old)

    report = doctor("--project", project, status=0)

    assert troubles(report) == {"predictions": "warn"}
    assert report["predictions"][0]["older_only"] == 1


def test_missing_weights(
    doctor: Doctor, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PROFILE", "fast")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    report = doctor("--project", project, status=1)

    assert troubles(report) == {"weights": "fail"}
    assert "cliper weights fetch fast" in report["weights"][0]["mend"]
    assert report["label-config"][0]["words_read"] is False


def test_a_label_studio_by_another_name_that_may_call_nobody(
    doctor: Doctor, secluded_label_studio: LabelStudioServer
):
    api = LabelStudioApi(secluded_label_studio.url, secluded_label_studio.account.token)

    report = doctor("--url", secluded_label_studio.url, status=1)

    assert troubles(report) == {"address": "warn", "server-settings": "fail"}
    assert report["address"][0]["reported"] == "http://studio.example:8080"
    assert "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false" in report["server-settings"][0]["mend"]
    project = api.create_project("secluded", CONFIG)
    assert api.connections(project) == []
    assert api.call("GET", "/api/webhooks/") == []
    api.close()
