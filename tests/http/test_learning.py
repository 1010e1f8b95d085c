"""Events over HTTP: acknowledged whatever becomes of them, and what `/health` says of learning."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backend.app import create_app
from backend.learning.intake import MOST_UNREAD, Intake
from backend.prelabel.works import LabelStudio
from backend.storage.memory import MemoryStorage

from ..doubles.away_storage import AwayStorage
from ..doubles.studio_server import LEGACY_TOKEN, StudioServer, studio_server
from ..doubles.waiting import PATIENCE, until
from .conftest import Service, StartService

LOCAL = {"base_url": "http://127.0.0.1:9090"}


@pytest.fixture
def studio() -> Iterator[StudioServer]:
    with studio_server() as running:
        yield running


def event(project: int, task: int, action: str = "ANNOTATION_CREATED") -> dict[str, Any]:
    return {
        "action": action,
        "project": {"id": project},
        "task": {"id": task},
        "annotation": {"id": 1, "task": task, "result": []},
    }


def learning(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get("/health").get_json()["learning"]
    return found


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"label_studio_url": None}, ["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"]),
        ({}, ["LABEL_STUDIO_API_KEY"]),
        ({"label_studio_url": None, "label_studio_api_key": "t"}, ["LABEL_STUDIO_URL"]),
    ],
)
def test_without_label_studio_events_are_acknowledged_and_health_says_what_is_missing(
    start_service: StartService, settings: dict[str, Any], missing: list[str]
):
    service = start_service(**settings)

    assert service.client.post("/webhook", json=event(1, 2)).status_code == 200
    assert learning(service) == {"on": False, "missing": missing}


def test_an_event_becomes_a_job_of_learning(start_service: StartService, studio: StudioServer):
    service = start_service(label_studio_url=studio.url, label_studio_api_key=LEGACY_TOKEN)
    project = studio.project(tasks=2)
    task = studio.ids(project)[1]
    studio.annotate(task)
    answer = service.client.post("/webhook", json=event(project, task))

    def jobs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = service.client.get("/jobs", **LOCAL).get_json()["jobs"]
        return found

    assert (answer.status_code, answer.get_json()) == (200, {"status": "received"})
    until(lambda: any(job["state"] == "done" for job in jobs()), "the job is done")
    until(lambda: learning(service)["unsettled"] == [])
    (job,) = jobs()
    assert (job["kind"], job["params"]["project"]) == ("learn", project)
    assert job["result"]["version"] is None
    assert len(studio.asked(f"GET /api/tasks/{task}/annotations/")) == 1
    facts = service.client.get("/health").get_json()
    assert facts["jobs"]["beside"] == {"learn": {"at_work": None, "waiting_for": None}}
    assert {name: facts["learning"][name] for name in ("on", "pending", "trouble")} == {
        "on": True,
        "pending": 0,
        "trouble": None,
    }


def test_learning_may_be_asked_for(start_service: StartService, studio: StudioServer):
    service = start_service(label_studio_url=studio.url, label_studio_api_key=LEGACY_TOKEN)
    project = studio.project(tasks=1)
    body = {"kind": "learn", "project": float(project), "reread": True}  # JSON knows one number
    job = service.client.post("/jobs", json=body, **LOCAL).get_json()
    refused = service.client.post("/jobs", json={"kind": "learn", "project": "x"}, **LOCAL)

    def state() -> str:
        return str(service.client.get(f"/jobs/{job['id']}", **LOCAL).get_json()["state"])

    until(lambda: state() == "done")
    assert (refused.status_code, refused.get_json()) == (
        400,
        {"error": "project must be a number of a project, got 'x'"},
    )


def test_a_store_that_never_answers_holds_up_no_event(start_service: StartService):
    """Not even more of them than may wait."""
    asked, answers = threading.Event(), threading.Event()

    class Silent(AwayStorage):
        def _reach(self) -> None:
            asked.set()
            assert answers.wait(PATIENCE)

    plain = start_service().services
    studio = LabelStudio(url="http://ls.example", token="t")
    silent = Silent(MemoryStorage(max_blob_bytes=0))
    intake = Intake(silent, None, studio, wake=lambda job: None)  # type: ignore[arg-type]
    intake.start()
    assert asked.wait(PATIENCE)
    client = create_app(replace(plain, intake=intake)).test_client()
    rest = json.dumps(event(1, 2)).encode()

    for number in range(MOST_UNREAD + 10):
        assert client.post("/webhook", data=rest).status_code == 200, number
    assert not answers.is_set()
    answers.set()
    intake.close()


def test_a_large_event_is_acknowledged_before_it_is_read(start_service: StartService):
    read = []
    plain = start_service().services
    services = replace(plain, intake=read.append)  # type: ignore[arg-type]
    body = b'{"action": "ANNOTATION_CREATED", "project": {"id": 1}, "annotation": {"result": ['
    body += b"0," * 5_000_000

    assert create_app(services).test_client().post("/webhook", data=body).status_code == 200
    assert read == [body]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b'"x"', b'{"action": 5}'])
def test_what_is_no_event_is_acknowledged_too(
    start_service: StartService, studio: StudioServer, body: bytes
):
    service = start_service(label_studio_url=studio.url, label_studio_api_key=LEGACY_TOKEN)
    assert service.client.post("/webhook", data=body).status_code == 200
