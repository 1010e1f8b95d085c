"""Requests that nobody thought of, made from the document, are answered as the document says.

Good ones are taken, bad ones are refused, and what is answered has the form that is promised. The
same requests every time.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from werkzeug.test import Client

from ..doubles.label_studio import FileServer
from ..doubles.pictures import encoded, stripes
from ..fuzz.configs import CONFIGS
from .conftest import StartService
from .documented import operations
from .test_openapi import LOGIN, States

TOKEN = "t0ken-of-our-own-endpoints"
SECRET = "a-secret-that-is-in-no-example"
LABELS = [f"{method.upper()} {path}" for path, method, _ in operations()]
FORBIDDEN = [  # operations that can be asked wrongly
    "POST /setup", "POST /predict", "POST /webhook/{secret}", "POST /jobs", "GET /jobs/{job_id}",
    "DELETE /jobs/{job_id}", "POST /jobs/{job_id}/resume",
]  # fmt: skip
UNREADABLE = {  # what no schema says: such a label config is 422, and such a condition 400
    "POST /setup": 422,
    "POST /predict": 422,
    "POST /jobs": 400,
}
OPEN = {"GET /ready": 200, "POST /webhook": 404}  # without a key; all others: 401
GOOD, BAD = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CASES = 40  # of each operation
DATA = {"image": "/data/upload/1/flag.png", "pages": ["/data/upload/1/flag.png"], "page": 1}


@pytest.fixture(autouse=True)
def good_configs() -> None:
    """Where a label config is meant, one that can be read."""
    schemathesis.openapi.format("label-config", st.sampled_from(CONFIGS))


@pytest.fixture
def states(start_service: StartService, files: FileServer) -> Iterator[States]:
    """Jobs end as soon as they begin."""
    files.put("/data/upload/1/flag.png", encoded(stripes("red", "blue")))
    found = States(start_service)
    found.leave.set()
    yield found
    for runner in found.runners:
        runner.close()


def operation_of(app: Any, label: str, *, login: tuple[str, str] | None = None) -> APIOperation:
    """One operation of a running app, as its own document has it; asked with the token."""
    config = SchemathesisConfig.from_dict(
        {
            "headers": {} if login else {"Authorization": f"Bearer {TOKEN}"},
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", 401, 404, UNREADABLE.get(label, 404)]
                },
                "negative_data_rejection": {"expected-statuses": [400, 401, 404, 422]},
                "not_a_server_error": {"expected-statuses": ["2xx", "4xx"]},
            },
        }
    )
    document = app.test_client().get("/openapi.json", auth=login).get_json()
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = app
    method, path = label.split(" ")
    found: APIOperation = schema[path][method]
    return found


def ask(
    operation: APIOperation,
    mode: GenerationMode,
    *,
    change: Callable[[Any], None] = lambda case: None,
    **fixed: Any,
) -> list[tuple[Any, int]]:
    """What was asked and the status of each answer, all as the document says; always the same.

    `change` may change what is asked; `fixed` as in `as_strategy`.
    """
    seen: list[tuple[Any, int]] = []

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, **fixed))
    def every(case: Any) -> None:
        change(case)
        answer = case.call()
        case.validate_response(answer)
        seen.append((case, answer.status_code))

    every()
    return seen


def with_pictures(case: Any) -> None:
    """Tasks have data that label configs can use."""
    if isinstance(case.body, dict):
        for task in case.body.get("tasks", ()):
            task["data"] |= DATA


def with_some_task(case: Any) -> None:
    """A request without tasks is answered with nothing, and its label config is not read."""
    if isinstance(case.body, dict) and case.body.get("tasks") == []:
        case.body["tasks"] = [{"id": 1, "data": dict(DATA)}]


@pytest.mark.parametrize("label", LABELS)
def test_what_the_document_allows_is_taken(states: States, label: str):
    app = states.with_jobs(api_token=TOKEN, webhook_secret=SECRET).application
    if label == "POST /webhook":  # not found where there is a secret
        app = states.with_jobs(api_token=TOKEN).application
    known: dict[str, Any] = {}
    if "{secret}" in label:
        known = {"secret": SECRET}
    if "{job_id}" in label:
        job = Client(app).post(
            "/jobs",
            json={"kind": "learn", "project": 12},
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        known = {"job_id": job.get_json()["id"]}
    change = with_pictures if label == "POST /predict" else lambda case: None

    seen = ask(operation_of(app, label), GOOD, change=change, path_parameters=known or None)

    statuses = [status for _, status in seen]
    taken = [status for status in statuses if status in (200, 202)]
    assert len(taken) > len(statuses) / 2, statuses
    assert set(statuses) <= {200, 202, UNREADABLE.get(label, 200)}
    for case, status in seen:
        assert status != 400 or case.body["filters"], case.body


@pytest.mark.parametrize("label", FORBIDDEN)
def test_what_the_document_forbids_is_refused(states: States, label: str):
    app = states.with_jobs(api_token=TOKEN, webhook_secret=SECRET).application

    seen = ask(operation_of(app, label), BAD, change=with_some_task)

    statuses = {status for _, status in seen}
    assert len(seen) >= CASES / 2
    assert statuses <= {404} if "{" in label else statuses <= {400, UNREADABLE[label]}
    assert 400 in statuses or "{" in label


@pytest.mark.parametrize("label", LABELS)
def test_without_its_key_nothing_is_told(states: States, label: str):
    keys = {"basic_auth": LOGIN, "api_token": TOKEN, "webhook_secret": SECRET}
    app = states.with_jobs(**keys).application

    seen = ask(operation_of(app, label, login=LOGIN), GOOD)

    assert {status for _, status in seen} == {OPEN.get(label, 401)}


def test_an_answer_that_is_not_as_the_document_says_is_seen(
    states: States, monkeypatch: pytest.MonkeyPatch
):
    client = states.with_jobs(api_token=TOKEN)
    services = client.application.extensions["services"]
    monkeypatch.setattr(services.predictor, "versions", lambda: ["x"])

    with pytest.raises(FailureGroup, match="Response violates schema") as seen:
        ask(operation_of(client.application, "GET /versions"), GOOD)
    assert "/versions" in str(seen.value)


def test_a_body_that_is_taken_against_the_document_is_seen(
    states: States, monkeypatch: pytest.MonkeyPatch
):
    client = states.with_jobs(api_token=TOKEN)
    services = client.application.extensions["services"]
    monkeypatch.setattr("backend.labelstudio.tasks._text", lambda fields, name: "")
    monkeypatch.setattr(services.predictor, "setup", lambda asked: "fast-cliper-8f3c2a61")

    with pytest.raises(FailureGroup, match="Schema-violating request accepted"):
        ask(operation_of(client.application, "POST /setup"), BAD)
