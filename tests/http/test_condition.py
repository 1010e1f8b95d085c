"""How the service is: `/ready`, and what stands under `degraded` in `/health`."""

import itertools
import logging
import threading
from collections.abc import Callable

import numpy as np
import pytest

from backend import wiring
from backend.storage.memory import MemoryStorage
from cliper_model.errors import WeightsMissing

from ..doubles.away_storage import AwayStorage
from ..doubles.colours import ColourSegmenter, ManyColours, colour_source
from ..doubles.label_studio import LEGACY_TOKEN, FileServer
from ..doubles.pictures import brush_config, encoded, stripes
from ..doubles.waiting import until
from .conftest import Service, StartService

CONFIG = brush_config(["red", "blue"])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> AwayStorage:
    """What the service keeps things in; it can go away."""
    store = AwayStorage(MemoryStorage(max_blob_bytes=1_000_000))
    monkeypatch.setattr(wiring, "store", lambda settings: store)
    return store


def shaded(number: int) -> np.ndarray:
    """Pictures of the same size that differ a little."""
    pixels = stripes("red", "blue")
    pixels[0, 0, 1:] = divmod(number, 256)
    return pixels


def degraded(service: Service) -> list[str]:
    answer = service.client.get("/health")
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "UP"
    found: list[str] = answer.get_json()["degraded"]
    return found


def ready(service: Service) -> tuple[int, str | None]:
    answer = service.client.get("/ready")
    body = answer.get_json()
    assert set(body) == {"ready", "reason"}
    assert body["ready"] == (answer.status_code == 200)
    return answer.status_code, body["reason"]


def test_a_service_that_is_well_is_ready_and_not_degraded(service: Service):
    assert ready(service) == (200, None)
    assert degraded(service) == []


def test_while_the_model_loads_the_service_is_not_ready_and_not_degraded(
    start_service: StartService,
):
    arrived, go_on = threading.Event(), threading.Event()

    def slowly(progress: Callable[[float], None]) -> None:
        progress(0.43)
        arrived.set()
        assert go_on.wait(60)

    service = start_service(colour_source(before_load=slowly), wait=False)
    assert arrived.wait(30)
    loading = ready(service), degraded(service)
    go_on.set()
    service.services.model.join()

    assert loading == ((503, "Model is loading (43 %), try again in a minute"), [])
    assert ready(service) == (200, None)


def test_a_model_that_failed_is_told_in_full_to_those_who_are_known_only(
    start_service: StartService,
):
    def missing(name: str, progress: Callable[[float], None]) -> None:
        raise WeightsMissing("CLIP ViT-B/16", ["/models/clip"], "run 'cliper weights fetch fast'")

    service = start_service(colour_source(fetch=missing))

    assert ready(service) == (503, "the model could not be loaded")
    assert degraded(service) == [
        "the model could not be loaded: run 'cliper weights fetch fast': CLIP ViT-B/16 not found "
        "(looked in /models/clip)"
    ]


def test_asking_whether_it_is_ready_has_a_failed_model_tried_again(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
):
    """Who hands out requests by `/ready` sends none that would ask for it."""
    there = threading.Event()

    def fetch(name: str, progress: Callable[[float], None]) -> None:
        if not there.is_set():
            raise WeightsMissing("CLIP", ["/models/clip"], "fetch them")

    service = start_service(colour_source(fetch=fetch))
    monkeypatch.setattr(service.services.model, "_retry_after", 0.0)
    there.set()

    until(lambda: ready(service)[0] == 200, "the model is there")


def test_a_device_that_takes_no_work_is_not_ready(service: Service):
    service.services.predictor.close()

    assert ready(service) == (503, "the device takes no more work")
    assert degraded(service) == ["the device takes no more work"]


def test_a_store_that_is_away_degrades_the_service_which_stays_ready(
    start_service: StartService, files: FileServer, store: AwayStorage
):
    service = start_service()
    files.put("/data/upload/1/a.png", encoded(stripes("red", "blue")))
    store.away = True

    answer = service.predict(CONFIG, {"image": "/data/upload/1/a.png"})
    service.setup(CONFIG)

    sentence = "predictions go on without the store: the store cannot be reached"
    assert answer.get_json()["results"][0]["result"]
    assert degraded(service) == [sentence]
    assert ready(service) == (200, None)
    assert "cliper_storage_up 0.0" in service.client.get("/metrics").get_data(as_text=True)

    store.away = False
    until(lambda: degraded(service) == [], "the store is back")
    assert "cliper_storage_up 1.0" in service.client.get("/metrics").get_data(as_text=True)


def test_events_that_wait_for_the_store_are_a_reason(
    start_service: StartService, store: AwayStorage, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.CRITICAL)
    service = start_service(label_studio_api_key=LEGACY_TOKEN)
    store.away = True
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "task": {"id": 2}}

    service.client.post("/webhook", json=event)

    sentence = "1 learning events wait: the store cannot be reached"
    until(lambda: sentence in degraded(service), "events wait")
    assert ready(service) == (200, None)
    text = service.client.get("/metrics").get_data(as_text=True)
    assert "cliper_learning_events_pending 1.0" in text
    assert "cliper_learning_trouble 1.0" in text
    store.away = False
    until(lambda: not [one for one in degraded(service) if "learning" in one], "they are stored")


def test_weights_unlike_those_the_method_was_made_for_are_a_fallback(start_service: StartService):
    details = {"device": "cpu", "dtype": "float32", "fallbacks": ["the scheduler is another one"]}
    service = start_service(colour_source(ColourSegmenter(), details=details))

    assert degraded(service) == ["fallback: the scheduler is another one"]
    assert ready(service) == (200, None)
    assert "cliper_fallbacks 1.0" in service.client.get("/metrics").get_data(as_text=True)


def test_a_batch_that_was_halved_is_a_fallback(start_service: StartService, files: FileServer):
    segmenter = ManyColours(room=1)
    service = start_service(colour_source(segmenter), batch=4)
    numbers = itertools.count()

    def halved() -> bool:
        """Four pictures that nobody has looked at yet; they may still come one by one."""
        addresses = []
        for number in itertools.islice(numbers, 4):
            addresses.append(f"/data/upload/1/{number}.png")
            files.put(addresses[-1], encoded(shaded(number)))
        service.predict(CONFIG, *({"image": address} for address in addresses))
        return bool(service.client.get("/health").get_json()["batch"]["halved"])

    until(halved, "a batch was too much")

    (sentence,) = degraded(service)
    assert sentence.startswith("fallback: pictures are looked at 1 at a time since memory ran out")
    assert ready(service) == (200, None)


def test_readiness_asks_for_no_password_and_health_still_does(start_service: StartService):
    service = start_service(basic_auth=("ls", "geheim"))

    assert ready(service) == (200, None)
    assert service.client.get("/health").status_code == 401
    known = service.client.get("/health", auth=("ls", "geheim"))
    assert known.get_json()["degraded"] == []
