"""Every request has an id: in the answer's header, and in all that is logged on its behalf."""

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from backend import logs
from backend.keeping import Keeping
from backend.labelstudio.tasks import Task
from backend.settings import Settings
from backend.storage.memory import MemoryStorage
from backend.trail import Trail, followed, here
from backend.wiring import pictures

from ..doubles.away_storage import AwayStorage
from ..doubles.colours import ColourSegmenter
from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded, stripes
from .conftest import Service, StartService

CONFIG = brush_config(["red", "blue"])
A, B = {"image": "/data/upload/1/a.png"}, {"image": "/data/upload/1/b.png"}
logger = logging.getLogger("backend.test")


@dataclass
class Log:
    """What was logged, as objects; `thread` is the name of who wrote it."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [one for one in told if wanted.items() <= one.items()]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    handler = logging.StreamHandler(log.stream)
    handler.setFormatter(logs.formatter("json"))
    parent = logging.getLogger("backend")
    before = parent.level
    parent.addHandler(handler)
    parent.setLevel(logging.INFO)
    yield log
    parent.removeHandler(handler)
    parent.setLevel(before)


def predict(service: Service, *data: dict[str, Any], **headers: str) -> Any:
    tasks = [{"id": 11 + index, "data": one} for index, one in enumerate(data)]
    body = {"tasks": tasks, "label_config": CONFIG, "project": "1.0"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.client.post("/predict", json=body, headers=named)


def test_an_answer_carries_the_id_its_request_came_with(service: Service):
    answer = predict(service, A, X_Request_ID="proxy-7f.3_A")

    assert answer.headers["X-Request-ID"] == "proxy-7f.3_A"


@pytest.mark.parametrize("given", ["", "two words", "a" * 65, "ümlaut", 'a"b', "a;b", "../x"])
def test_an_id_that_is_not_short_and_plain_is_replaced_by_one_of_ours(service: Service, given: str):
    answer = predict(service, A, X_Request_ID=given)

    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["X-Request-ID"])


def test_every_answer_has_an_id_of_its_own_also_a_refused_one(start_service: StartService):
    client = start_service(basic_auth=("ls", "geheim")).client

    answers = [client.get(path) for path in ("/health", "/ready", "/nowhere", "/health")]

    assert [answer.status_code for answer in answers] == [401, 200, 401, 401]
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 4


def test_a_thread_that_has_answered_works_for_nobody(service: Service):
    predict(service, A, X_Request_ID="r-1")

    assert here() == Trail()


def test_lines_of_the_request_thread_and_of_the_device_thread_name_the_request(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter, log: Log
):
    names = []

    def told(pixels: np.ndarray) -> None:
        names.append(threading.current_thread().name)
        logger.warning("looked at %d", pixels.shape[1])

    segmenter.on_observe = told
    service = start_service()
    files.put(A["image"], encoded(stripes("red", "blue", width=4)))
    files.put(B["image"], encoded(stripes("red", "blue", width=5)))

    predict(service, A, X_Request_ID="r-1")
    predict(service, {}, B, X_Request_ID="r-2")

    assert all(name.startswith("device") for name in names)
    (first,) = log.lines(message="looked at 8")
    (second,) = log.lines(message="looked at 10")
    assert (first["request_id"], first["task_id"]) == ("r-1", "11")
    assert (second["request_id"], second["task_id"]) == ("r-2", "12")
    (failed,) = log.lines(level="WARNING", logger="backend.predictor", task_id="11")
    assert failed["request_id"] == "r-2"
    assert failed["message"].startswith("task 11 not predicted: ")


def test_a_traceback_of_the_device_thread_names_request_and_task(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter, log: Log
):
    def stumble(pixels: np.ndarray) -> None:
        raise RuntimeError("the device stumbled")

    segmenter.on_observe = stumble
    service = start_service()
    files.put(A["image"], encoded(stripes("red", "blue")))

    predict(service, A, X_Request_ID="r-1")

    (line,) = log.lines(message="the model failed on a picture")
    assert (line["request_id"], line["task_id"], line["level"]) == ("r-1", "11", "ERROR")
    assert line["exception"].endswith("RuntimeError: the device stumbled")


def test_a_refused_request_is_logged_with_its_id(service: Service, log: Log):
    service.client.post("/setup", json={"schema": "<View/>"}, headers={"X-Request-ID": "r-1"})

    (line,) = log.lines(logger="backend.api.errors")
    assert (line["request_id"], line["task_id"]) == ("r-1", None)
    assert line["message"] == "answered 422: Config has no Image tag with a name"


def test_an_error_nobody_expected_is_logged_with_its_id_and_traceback(
    service: Service, monkeypatch: pytest.MonkeyPatch, log: Log
):
    def stumble() -> list[str]:
        raise RuntimeError("secret")

    monkeypatch.setattr(service.services.predictor, "versions", stumble)

    answer = service.client.get("/versions", headers={"X-Request-ID": "r-1"})

    (line,) = log.lines(level="ERROR")
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "r-1")
    assert line["request_id"] == "r-1"
    assert line["exception"].endswith("RuntimeError: secret")


def test_threads_that_fetch_name_whom_they_fetch_for(
    start_service: StartService, files: FileServer, log: Log, monkeypatch: pytest.MonkeyPatch
):
    """Many tasks, as a job has them."""
    service = start_service()
    predictor = service.services.predictor
    real = pictures(Settings(label_studio_url=files.url))
    names = []

    class Telling:
        def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
            names.append(threading.current_thread().name)
            logger.warning("fetching %s", address)
            return real.fetch(address, timeout=timeout, task_id=task_id)

        server, decode = real.server, real.decode

    monkeypatch.setattr(predictor._fetching, "_pictures", Telling())
    files.put(A["image"], encoded(stripes("red", "blue")))
    files.put(B["image"], encoded(stripes("blue", "red")))

    with followed(Trail(request="r-1")):
        done = list(predictor.stream([Task(11, A), Task(12, B)], predictor.desk(CONFIG)))

    assert len(done) == 2
    assert all(name.startswith("fetch") for name in names)
    told = {
        one["message"]: (one["request_id"], one["task_id"])
        for one in log.lines(logger="backend.test")
    }
    assert told == {
        f"fetching {A['image']}": ("r-1", "11"),
        f"fetching {B['image']}": ("r-1", "12"),
    }


def test_the_thread_that_writes_to_the_store_names_for_whom(log: Log):
    store = AwayStorage(MemoryStorage(max_blob_bytes=0))
    keeping = Keeping(store)
    store.away = True

    with followed(Trail(request="r-1")):
        keeping.look_at_store()
    keeping.close()

    (line,) = log.lines(message="the store cannot be reached; going on without it")
    assert line["request_id"] == "r-1"
