"""One service on several devices: the same masks, all of them at work, and one that is lost."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend import wiring
from backend.app import create_app
from backend.demo.projects import everything
from backend.device import Lane
from backend.services import Services
from backend.settings import Settings

from ..doubles.cards import Rack
from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded, stripes
from ..doubles.waiting import PATIENCE, until
from .conftest import Service, StartService

CONFIG = brush_config(["red", "blue"])
MANY = 12


class Asked(threading.Thread):
    """A request under way, with a client of its own."""

    def __init__(self, service: Service, *addresses: str) -> None:
        super().__init__(daemon=True)
        self.service = Service(service.services, service.client.application.test_client())
        self.addresses, self.answer = addresses, None
        self.start()

    def run(self) -> None:
        tasks = [{"image": address} for address in self.addresses]
        self.answer = self.service.predict(CONFIG, *tasks)

    def told(self) -> Any:
        self.join(PATIENCE)
        assert self.answer is not None, "no answer"
        return self.answer


def put(files: FileServer, count: int) -> list[str]:
    addresses = [f"/data/upload/1/{number}.png" for number in range(count)]
    for number, address in enumerate(addresses):
        files.put(address, encoded(stripes("red", "blue", width=4 + number)))
    return addresses


def health(service: Service) -> Any:
    return service.client.get("/health").get_json()


def ready(service: Service) -> tuple[int, Any]:
    answer = service.client.get("/ready")
    return answer.status_code, answer.get_json()


def open_flights(service: Service) -> int:
    board = service.services.predictor.crew.workers[0].queue._flights
    return sum(flight.waiting for flight in list(board.values()))


def nothing_unasked(service: Service) -> bool:
    ahead = any(thread.name == "words" for thread in threading.enumerate())
    return not ahead and not open_flights(service)


def on(start_service: StartService, rack: Rack, **settings: Any) -> Service:
    return start_service(rack.source, answers=rack.answers, device=rack.names, **settings)


def lost_while_many_wait(
    service: Service, rack: Rack, files: FileServer, lost: Callable[[], None]
) -> list[Any]:
    """The answers of many requests of one task and of several, half of them at work or waiting on
    a device that is lost meanwhile."""
    addresses = put(files, MANY)
    service.setup(CONFIG)
    until(lambda: nothing_unasked(service), "words read and advice on the log")
    rack.hold()
    asked = [Asked(service, address) for address in addresses[:8]]
    asked.append(Asked(service, *addresses[8:]))
    for card in rack.cards:
        assert card.segmenter.began.acquire(timeout=PATIENCE)
    until(lambda: open_flights(service) >= 10, "all of them are at work or wait")
    lost()
    rack.let_go()
    return [one.told() for one in asked]


def test_a_device_that_is_lost_under_many_requests_loses_none_of_them(
    start_service: StartService, files: FileServer
):
    rack = Rack(2)
    service = on(start_service, rack, threads=MANY + 4)

    answers = lost_while_many_wait(service, rack, files, lambda: setattr(rack[1], "is_lost", True))

    assert [answer.status_code for answer in answers] == [200] * 9
    entries = [entry for answer in answers for entry in answer.get_json()["results"]]
    assert len(entries) == MANY
    assert all(entry["result"] for entry in entries)
    assert ready(service) == (200, {"ready": True, "reason": None})
    told = health(service)
    assert told["degraded"] == [
        "the device cuda:1 is out, and the others do its work: the device is lost (RuntimeError); "
        "start the service again"
    ]
    assert (told["device_lost"], told["model"]["state"]) == (None, "ready")
    assert [one["state"] for one in told["devices"]] == ["ready", "lost"]
    metrics = service.client.get("/metrics").get_data(as_text=True)
    assert 'cliper_device_ready{device="cuda:0"} 1.0' in metrics
    assert 'cliper_device_ready{device="cuda:1"} 0.0' in metrics
    assert "cliper_ready 1.0" in metrics


def test_where_all_are_lost_every_request_is_told_so(
    start_service: StartService, files: FileServer
):
    rack = Rack(2)
    service = on(start_service, rack, threads=MANY + 4)

    def lost() -> None:
        for card in rack.cards:
            card.is_lost = True

    answers = lost_while_many_wait(service, rack, files, lost)

    sentence = "the device is lost (RuntimeError); start the service again"
    assert {answer.status_code for answer in answers} == {503}
    assert [answer.get_json() for answer in answers] == [{"error": sentence}] * 9
    assert ready(service) == (503, {"ready": False, "reason": sentence})
    told = health(service)
    assert told["degraded"] == [f"the model could not be loaded: {sentence}"]
    assert (told["device_lost"], told["model"]["state"]) == (sentence, "failed")


def test_what_waits_and_was_looked_at_is_counted_by_device(
    start_service: StartService, files: FileServer
):
    rack = Rack(2)
    service = on(start_service, rack)
    addresses = put(files, 3)
    service.setup(CONFIG)  # else its words may be read on the second card when it is chosen
    until(lambda: nothing_unasked(service), "words read and advice on the log")
    rack.hold()
    asked = []
    for address, card in zip(addresses, rack.cards, strict=False):
        asked.append(Asked(service, address))
        assert card.segmenter.began.acquire(timeout=PATIENCE)
    asked.append(Asked(service, addresses[2]))
    waits = 'cliper_queue_depth{device="cuda:0",lane="people"} 1.0'
    until(lambda: waits in service.client.get("/metrics").get_data(as_text=True), "one waits")

    rack.let_go()
    assert all(one.told().status_code == 200 for one in asked)

    metrics = service.client.get("/metrics").get_data(as_text=True)
    assert 'cliper_batch_size_sum{device="cuda:0"} 2.0' in metrics
    assert 'cliper_batch_size_sum{device="cuda:1"} 1.0' in metrics


# -- the weights that are shipped -------------------------------------------------------------


@pytest.fixture
def started() -> Iterator[list[Services]]:
    services: list[Services] = []
    yield services
    for one in services:
        one.close()


def shipped(started: list[Services], files: FileServer, device: str) -> Service:
    services = wiring.build(Settings(profile="demo", device=device, label_studio_url=files.url))
    started.append(services)
    services.start()
    for worker in services.predictor.crew.workers:
        worker.models.own.join()
    return Service(services, create_app(services).test_client())


def test_masks_of_every_device_are_those_of_a_single_one_byte_by_byte(
    started: list[Services], files: FileServer
):
    (scene,) = everything(1, seed=5).pictures
    config = brush_config(list(scene.truth), 'model_instances="true"')
    files.put("/data/upload/1/scene.png", scene.to_png())
    single = shipped(started, files, "cpu")
    several = shipped(started, files, "cpu:0,cpu:1")
    assert several.setup(config).get_json() == single.setup(config).get_json()

    def answer(service: Service, held: int | None) -> bytes:
        """With the first device kept busy, so that the second is the one that looks."""
        go = threading.Event()
        if held is not None:
            queue = service.services.predictor.crew.workers[held].queue
            queue.submit("hold", lambda: go.wait(PATIENCE), Lane.PEOPLE)
        try:
            found: bytes = service.predict(config, {"image": "/data/upload/1/scene.png"}).data
        finally:
            go.set()
        return found

    expected = answer(single, None)
    assert b'"rle"' in expected
    assert answer(several, 0) == expected
    assert [one["looks"] for one in health(several)["devices"]] == [0, 1]


def test_devices_that_are_named_are_those_that_work(started: list[Services], files: FileServer):
    service = shipped(started, files, "cpu:1,cpu:0")

    told = health(service)

    assert [one["name"] for one in told["devices"]] == ["cpu:1", "cpu:0"]
    assert {one["state"] for one in told["devices"]} == {"ready"}
    assert {one["dtype"] for one in told["devices"]} == {told["dtype"]}
    assert told["degraded"] == []
