"""`/openapi.json`: a valid document of every route, whose examples are answered as it says."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from backend.api import secret_address
from backend.app import create_app
from backend.jobs.base import Handle
from backend.jobs.book import JobBook
from backend.jobs.desk import JobDesk
from backend.jobs.embedded import EmbeddedRunner
from backend.jobs.running import Pace
from backend.prelabel.works import LabelStudio
from backend.storage.base import Json
from backend.storage.memory import MemoryStorage
from backend.wiring import job_kinds
from cliper_model import profiles

from ..doubles.away_storage import AwayStorage
from ..doubles.colours import colour_source
from ..doubles.label_studio import LEGACY_TOKEN, FileServer
from ..doubles.pictures import encoded, stripes
from ..doubles.waiting import until
from .conftest import Service, StartService
from .documented import (
    DOCUMENT,
    METHODS,
    DocumentedClient,
    check,
    operations,
    problems,
    resolved,
)

LOCAL = {"base_url": "http://127.0.0.1:9090"}
LOGIN = ("studio", "geheim")
SECRET = "0123456789abcdef-secret"  # the example of the document
DETAILS = {  # all that a real model says of itself
    "method": "cliper", "features": None, "vae": "own", "device": "cpu", "dtype": "float32",
    "dtype_because": "a processor computes in it", "large_pictures": "at once", "threads": 1,
    "convolutions": "direct", "cuda_graphs": True, "fallbacks": [],
}  # fmt: skip
FREE = ("progress", "result")  # what is in them depends on how far a job is


# -- the document itself -------------------------------------------------------------------


def test_the_document_is_valid_openapi(service: Service):
    answer = service.client.get("/openapi.json")

    document = answer.get_json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == service.services.version
    assert answer.mimetype == "application/json"
    assert list(document) == list(DOCUMENT)


def test_the_document_asks_for_the_password_as_everything_else(start_service: StartService):
    client = start_service(basic_auth=LOGIN).client

    assert client.get("/openapi.json").status_code == 401
    assert client.get("/openapi.json", auth=LOGIN).get_json()["paths"].keys() == (
        DOCUMENT["paths"].keys()
    )


def test_every_route_is_in_the_document_with_its_methods_and_nothing_else(service: Service):
    rules = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in service.client.application.url_map.iter_rules()
        if not rule.endpoint.startswith("ui")  # private to the pages of the service
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    by_secret = (f"{secret_address.PREFIX}{{secret}}", "post")  # no route: see `secret_address`

    assert {(path, method) for path, method, _ in operations()} == {*rules, by_secret}


def test_every_path_of_a_get_answers_head_and_every_path_options(states: "States"):
    client = states.with_jobs()
    for path, method, _ in operations():
        if "{" not in path:
            options = client.options(path, **LOCAL)
            assert options.status_code == 200
            assert method.upper() in options.headers["Allow"]
            if method == "get":
                get, head = client.get(path, **LOCAL), client.head(path, **LOCAL)
                assert (head.status_code, head.data) == (get.status_code, b"")


def test_a_method_that_a_path_does_not_have_is_refused(start_service: StartService):
    client = start_service(webhook_secret=SECRET, label_studio_api_key=LEGACY_TOKEN).client
    tried = 0
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method not in item:
                there = path.format(secret=SECRET, job_id="x")
                answer = client.open(there, method=method.upper(), **LOCAL)  # it is checked there
                assert answer.status_code == 405 or (path, answer.status_code) == ("/webhook", 404)
                tried += 1
    assert tried > 40


def test_two_slashes_in_a_path_lead_to_the_path_with_one(start_service: StartService):
    client = create_app(start_service(label_studio_api_key=LEGACY_TOKEN).services).test_client()

    answer = client.get("/jobs//x", **LOCAL)

    assert (answer.status_code, answer.headers["Location"]) == (308, f"{LOCAL['base_url']}/jobs/x")


def test_every_schema_of_the_document_is_used():
    text = json.dumps(DOCUMENT)
    for name in DOCUMENT["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


def test_versions_that_can_be_taken_back_are_those_of_the_program():
    pattern = DOCUMENT["components"]["schemas"]["UndoRequest"]["properties"]["version"]["pattern"]
    found = re.findall(r"\(([^)]*)\)", pattern.replace("\\+", "+"))

    assert [sorted(one.split("|")) for one in found] == [
        sorted(profiles.names()),
        sorted(profiles.methods()),
    ]


def test_a_checked_answer_must_be_as_the_document_says(service: Service):
    answer = service.client.get("/versions")

    with pytest.raises(AssertionError, match="'versions' was unexpected"):
        check(answer, "/ready", "get")
    with pytest.raises(AssertionError, match="is not in the document"):
        check(replaced(answer, status="418 teapot"), "/versions", "get")
    with pytest.raises(AssertionError, match="without X-Request-ID"):
        check(replaced(answer, headers={}), "/versions", "get")
    assert isinstance(service.client, DocumentedClient)


def replaced(answer: TestResponse, *, status: str = "200 OK", headers: Any = None) -> TestResponse:
    given = answer.headers if headers is None else headers
    return TestResponse([answer.data], status, given, answer.request)


# -- services in every state that an example needs -----------------------------------------


@dataclass
class States:
    """Services as an example needs them; `leave` lets jobs end."""

    start: StartService
    leave: threading.Event = field(default_factory=threading.Event)
    inside: threading.Event = field(default_factory=threading.Event)
    store: AwayStorage = field(default_factory=lambda: AwayStorage(MemoryStorage(max_blob_bytes=0)))
    runners: list[EmbeddedRunner] = field(default_factory=list)

    def plain(self, **settings: Any) -> FlaskClient:
        return self.start(colour_source(details=DETAILS), **settings).client

    def with_jobs(self, **settings: Any) -> FlaskClient:
        """Jobs of the real kinds, which do nothing until they may leave."""

        def work(handle: Handle) -> Json:
            handle.tell({"phase": "looking at annotations"})
            self.inside.set()
            while not self.leave.is_set():
                handle.wait(0.001)
            return {"phase": "done"}

        studio = LabelStudio(url="http://studio.invalid:8080", token=LEGACY_TOKEN)
        kinds = job_kinds(studio)
        book = JobBook(self.store)
        pace = Pace(look=0.01, beat=0.01, write=0.001)
        runner = EmbeddedRunner(book, dict.fromkeys(kinds, work), pace=pace)
        self.runners.append(runner)
        services = replace(
            self.start(**settings).services,
            jobs=JobDesk(jobs=book, runner=runner, kinds=kinds),
        )
        runner.start()
        return client_of(services)

    def loading(self) -> FlaskClient:
        """The model is on its way, and will be until the end."""
        arrived = threading.Event()

        def slowly(progress: Callable[[float], None]) -> None:
            progress(0.43)
            arrived.set()
            assert self.leave.wait(60)

        client = self.start(colour_source(before_load=slowly), wait=False).client
        assert arrived.wait(30)
        return client

    def stumbling(self, error: Exception) -> FlaskClient:
        service = self.start()

        def stumble() -> list[str]:
            raise error

        service.services.predictor.versions = stumble  # type: ignore[method-assign]
        return service.client


def client_of(services: Any) -> FlaskClient:
    app = create_app(services)
    app.test_client_class = DocumentedClient
    return app.test_client()


@pytest.fixture
def states(start_service: StartService, files: FileServer) -> Iterator[States]:
    files.put("/data/upload/1/flag.png", encoded(stripes("red", "blue")))
    files.put("/data/upload/1/wide.png", encoded(stripes("red", "blue", height=300, width=200)))
    found = States(start_service)
    yield found
    found.leave.set()
    for runner in found.runners:
        runner.close()


# -- examples ------------------------------------------------------------------------------


def media_of(body: Json) -> Json:
    return next(iter(body["content"].values()))


def examples_of(body: Json) -> Json:
    return media_of(body).get("examples", {}) if body else {}


def sent_examples() -> Iterator[tuple[str, str, str]]:
    """Path, method and name of every example of a request."""
    for path, method, operation in operations():
        for name in examples_of(resolved(operation.get("requestBody", {}))):
            yield path, method, name


def answer_examples() -> dict[str, tuple[str, Json]]:
    """Examples of answers that no example of a request has: place and name -> status, value.

    The place is the answer's name where several operations share it, else the operation's.
    """
    found = {}
    for _, _, operation in operations():
        sent = examples_of(resolved(operation.get("requestBody", {})))
        for status, given in operation["responses"].items():
            shared = given.get("$ref", "").rpartition("/")[2]
            for name, example in examples_of(resolved(given)).items():
                if name not in sent:
                    place = shared or f"{operation['operationId']} {status}"
                    found[f"{place}: {name}"] = (status, example["value"])
    only = DOCUMENT["components"]["responses"]["MethodNotAllowed"]
    for name, example in examples_of(only).items():
        found[f"MethodNotAllowed: {name}"] = ("405", example["value"])
    return found


def alike(found: Json, example: Json, *, name: str = "") -> bool:
    """Whether an answer has the form of an example; errors and regions are equal to the word."""
    if name in FREE and isinstance(example, dict):
        return isinstance(found, dict)
    if name in ("error", "reason", "value", "status", "params", "type", "kind"):
        return bool(found == example)
    if isinstance(example, dict):
        return (
            isinstance(found, dict)
            and found.keys() == example.keys()
            and all(alike(found[key], example[key], name=key) for key in example)
        )
    if isinstance(example, list):
        return (
            isinstance(found, list)
            and len(found) == len(example)
            and all(alike(*pair) for pair in zip(found, example, strict=True))
        )
    if isinstance(example, bool) or example is None:
        return found is example
    if isinstance(example, str):
        return isinstance(found, str) and (found == example or name not in ("from_name", "to_name"))
    return isinstance(found, int | float)


@pytest.mark.parametrize(("path", "method", "name"), list(sent_examples()))
def test_an_example_of_a_request_is_answered_as_the_document_says(
    states: States, path: str, method: str, name: str
):
    client = states.with_jobs(**({"webhook_secret": SECRET} if "{secret}" in path else {}))
    operation = DOCUMENT["paths"][path][method]
    body = examples_of(resolved(operation["requestBody"]))[name]["value"]
    ((status, example),) = [
        (status, examples_of(resolved(given))[name]["value"])
        for status, given in operation["responses"].items()
        if name in examples_of(resolved(given))
    ]
    there = path.format(secret=SECRET)
    if name == "learn-again":
        client.open(there, method=method, json=body, **LOCAL)
        assert states.inside.wait(30)

    answer = client.open(there, method=method, json=body, **LOCAL)

    assert str(answer.status_code) == status
    assert alike(answer.get_json(), example), answer.get_json()


def done_job(states: States) -> TestResponse:
    client = states.with_jobs()
    states.leave.set()
    job = client.post("/jobs", json={"kind": "learn", "project": 12}, **LOCAL).get_json()
    until(lambda: client.get(f"/jobs/{job['id']}", **LOCAL).get_json()["state"] == "done")
    return client.get(f"/jobs/{job['id']}", **LOCAL)


def two_versions(states: States) -> TestResponse:
    client = states.plain()
    for word in ("red", "blue"):
        config = (
            '<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i">'
            f'<Label value="{word}"/></BrushLabels></View>'
        )
        client.post("/setup", json={"schema": config})
    return client.get("/versions")


def store_away(states: States) -> TestResponse:
    client = states.with_jobs()
    states.store.away = True
    answer = client.get("/jobs", **LOCAL)
    states.store.away = False
    return answer


def predict_while_loading(states: States) -> TestResponse:
    asked = {**sent("predict", "masks"), "tasks": [{"id": 1, "data": {}}]}
    return states.loading().post("/predict", json=asked)


def sent(operation: str, name: str) -> Json:
    """An example of a request."""
    (body,) = [
        resolved(one["requestBody"])
        for _, _, one in operations()
        if one["operationId"] == operation
    ]
    return examples_of(body)[name]["value"]


JOB = "/jobs/0641f5a3c8e240-9f3b2c1d"
HUGE = {"environ_overrides": {"CONTENT_LENGTH": "600000000"}}
HALF = {"environ_overrides": {"CONTENT_LENGTH": "100"}}
SITUATIONS: dict[str, Callable[[States], TestResponse]] = {
    "Health: ready": lambda states: states.plain().get("/health"),
    "ready 200: ready": lambda states: states.plain().get("/ready"),
    "ready 503: loading": lambda states: states.loading().get("/ready"),
    "versions 200: two": two_versions,
    "metrics 200: ready": lambda states: states.plain().get("/metrics"),
    "listJobs 200: none": lambda states: states.with_jobs().get("/jobs", **LOCAL),
    "Job: done": done_job,
    "BadEvent: too-deep": lambda states: states.plain().post("/webhook", data=b"[" * 100),
    "Unauthorized: password": lambda states: states.plain(basic_auth=LOGIN).get("/health"),
    "Forbidden: from-elsewhere": lambda states: states.with_jobs().get(
        "/jobs", base_url="http://cliper:9090"
    ),
    "NotFound: nowhere": lambda states: states.plain(webhook_secret=SECRET).post(
        "/webhook", json={}
    ),
    "NoJobs: no-jobs": lambda states: states.plain().get("/jobs"),
    "UnknownJob: unknown": lambda states: states.with_jobs().get(JOB, **LOCAL),
    "MethodNotAllowed: get-of-predict": lambda states: states.plain().get("/predict"),
    "RequestTimeout: half": lambda states: states.plain().post("/setup", data=b"{}", **HALF),
    "TooLarge: too-large": lambda states: states.plain().post("/setup", data=b"{}", **HUGE),
    "UnsupportedMediaType: packed": lambda states: states.plain().post(
        "/setup", data=b"{}", headers={"Content-Encoding": "gzip"}
    ),
    "UnsupportedMediaType: not-json": lambda states: states.with_jobs().post(
        "/jobs", data=b"{}", content_type="text/plain", **LOCAL
    ),
    "InternalError: internal": lambda states: states.stumbling(RuntimeError()).get("/versions"),
    "NoMemory: no-memory": lambda states: states.stumbling(MemoryError()).get("/versions"),
    "Unavailable: loading": predict_while_loading,
    "Unavailable: store-away": store_away,
}


def test_every_example_of_an_answer_is_asked_for():
    assert set(SITUATIONS) == set(answer_examples())


@pytest.mark.parametrize("place", SITUATIONS)
def test_an_example_of_an_answer_is_what_the_service_answers(states: States, place: str):
    status, example = answer_examples()[place]

    answer = SITUATIONS[place](states)

    assert str(answer.status_code) == status
    if isinstance(example, str):
        assert example in answer.get_data(as_text=True)
    else:
        assert alike(answer.get_json(), example), answer.get_json()


def test_examples_are_as_their_schemas_say():
    for path, method, operation in operations():
        bodies = [resolved(given) for given in operation["responses"].values()]
        for body in bodies:
            for name, example in examples_of(body).items():
                wrong = problems(example["value"], media_of(body)["schema"])
                assert not wrong, (path, method, name, wrong)
        asked = resolved(operation.get("requestBody", {}))
        for name, example in examples_of(asked).items():
            refused = name not in examples_of(resolved(operation["responses"]["200"])) and (
                name not in examples_of(resolved(operation["responses"].get("202", {})))
            )
            unreadable = "400" in operation["responses"] and name in examples_of(
                resolved(operation["responses"]["400"])
            )
            wrong = problems(example["value"], media_of(asked)["schema"])
            assert bool(wrong) == unreadable, (path, method, name, wrong)
            assert refused or not wrong


# -- every kind of answer, as services give them -------------------------------------------

EVERY_TAG = """<View><Image name="image" value="$image"/>
  <BrushLabels name="a" toName="image"><Label value="red"/>
    <Label value="Background" model_fill="true"/></BrushLabels>
  <BitmaskLabels name="b" toName="image"><Label value="green"/></BitmaskLabels>
  <PolygonLabels name="c" toName="image"><Label value="blue"/></PolygonLabels>
  <VectorLabels name="d" toName="image" closable="true"><Label value="yellow"/></VectorLabels>
  <RectangleLabels name="e" toName="image"><Label value="black"/></RectangleLabels>
  <EllipseLabels name="f" toName="image"><Label value="white"/></EllipseLabels>
  <KeyPointLabels name="g" toName="image"><Label value="a" predicted_values="red"/></KeyPointLabels>
  <Choices name="h" toName="image" choice="multiple" model_fill="true"><Choice value="red"/>
    <Choice value="blue"/></Choices>
  <Taxonomy name="i" toName="image" model_fill="true"><Choice value="warm"><Choice value="red"/>
    </Choice></Taxonomy></View>"""
PLAIN_TAGS = """<View><Image name="image" valueList="$images"/>
  <Labels name="labels" toName="image"><Label value="red"/><Label value="blue"/></Labels>
  <{tag} name="shape" toName="image"/></View>"""


def regions(answer: TestResponse) -> list[Json]:
    (entry,) = answer.get_json()["results"]
    return list(entry["result"])


def test_regions_of_every_tag_are_in_the_document(service: Service, files: FileServer):
    names = ("red", "green", "blue", "yellow", "black", "white", "red")
    files.put("/data/upload/1/a.png", encoded(stripes(*names)))

    found = regions(service.predict(EVERY_TAG, {"image": "/data/upload/1/a.png"}))

    assert {one["type"] for one in found} == {
        "brushlabels", "bitmasklabels", "polygonlabels", "vectorlabels", "rectanglelabels",
        "ellipselabels", "keypointlabels", "choices", "taxonomy",
    }  # fmt: skip


@pytest.mark.parametrize(
    "tag", ["Brush", "Bitmask", "Polygon", "Vector", "Rectangle", "Ellipse", "KeyPoint"]
)
def test_regions_of_tags_without_labels_of_their_own_are_in_the_document(
    service: Service, files: FileServer, tag: str
):
    files.put("/data/upload/1/a.png", encoded(stripes("red", "blue")))
    addresses = ["/data/upload/1/a.png"] * 2

    found = regions(service.predict(PLAIN_TAGS.format(tag=tag), {"images": addresses}))

    assert {one["type"] for one in found} == {tag.lower(), "labels"}
    assert {one["item_index"] for one in found} == {0, 1}


def test_a_job_is_in_the_document_in_each_of_its_states(states: States):
    client = states.with_jobs()
    job = client.post("/jobs", json={"kind": "learn", "project": 12}, **LOCAL).get_json()
    other = client.post("/jobs", json={"kind": "learn", "project": 13}, **LOCAL).get_json()
    assert states.inside.wait(30)
    seen = {job["state"], other["state"]}

    def state(of: Json) -> str:
        found: str = client.get(f"/jobs/{of['id']}", **LOCAL).get_json()["state"]
        seen.add(found)
        return found

    until(lambda: state(job) == "running")
    client.delete(f"/jobs/{other['id']}", **LOCAL)
    until(lambda: state(other) == "cancelled")
    assert client.post(f"/jobs/{other['id']}/resume", json={}, **LOCAL).status_code == 200
    assert len(client.get("/jobs", **LOCAL).get_json()["jobs"]) == 2
    assert client.get("/health").get_json()["jobs"]["at_work"] == job["id"]
    states.leave.set()
    until(lambda: state(job) == "done")
    until(lambda: state(other) == "done")

    assert seen >= {"queued", "running", "cancelled", "done"}


def test_health_is_in_the_document_whatever_the_service_does(start_service: StartService):
    for settings in (
        {},
        {"label_studio_api_key": LEGACY_TOKEN},
        {"label_studio_api_key": LEGACY_TOKEN, "auto_prelabel": True},
        {"device": "cuda:0,cuda:1"},
    ):
        service = start_service(**settings)
        service.setup(EVERY_TAG)
        facts = service.client.get("/health").get_json()
        assert ("jobs" in facts) == ("label_studio_api_key" in settings)
