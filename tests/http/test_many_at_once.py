"""Many requests at once: one look for equal ones, people first, and health all the while."""

import threading
from collections.abc import Callable
from typing import Any

from ..doubles.colours import ColourSegmenter
from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded, stripes
from ..doubles.waiting import PATIENCE, until
from .conftest import Service, StartService

CONFIG = brush_config(["red", "blue"])
EQUAL = 50


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
        return self.answer.get_json()


def put(files: FileServer, count: int) -> list[str]:
    """Pictures that differ in their widths: the first is 8 pixels wide, the next 10, ..."""
    addresses = [f"/data/upload/1/{number}.png" for number in range(count)]
    for number, address in enumerate(addresses):
        files.put(address, encoded(stripes("red", "blue", width=4 + number)))
    return addresses


def widths(segmenter: ColourSegmenter) -> list[int]:
    return [look.shape[1] for look in segmenter.looks]


def waiting(service: Service) -> dict[str, int]:
    found: dict[str, int] = service.client.get("/health").get_json()["queue"]["waiting"]
    return found


def many_wait(service: Service, number: int) -> Callable[[], bool]:
    flights = service.services.predictor.crew.workers[0].queue._flights
    return lambda: sum(flight.waiting for flight in list(flights.values())) == number


def nothing_unasked(service: Service) -> bool:
    """Whoever reads words ahead has queued all there is, and nothing of it is left."""
    ahead = any(thread.name == "words" for thread in threading.enumerate())
    return not ahead and not service.services.predictor.crew.workers[0].queue._flights


def settled(start_service: StartService, **settings: Any) -> Service:
    """A service that knows the label config, with nothing left that nobody asked for."""
    service = start_service(**settings)
    service.setup(CONFIG)
    until(lambda: nothing_unasked(service), "words read and advice on the log")
    return service


def test_equal_requests_cost_one_look_however_many(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter
):
    service = settled(start_service, threads=EQUAL + 2)
    (address,) = put(files, 1)
    segmenter.gate.clear()

    asked = [Asked(service, address) for _ in range(EQUAL)]
    until(many_wait(service, EQUAL), "everybody waits for the one look")
    segmenter.gate.set()
    answers = [one.told() for one in asked]

    assert answers == [answers[0]] * EQUAL
    assert answers[0]["results"][0]["result"]
    assert len(segmenter.looks) == 1
    assert service.client.get("/health").get_json()["queue"]["looks"] == 1


def test_health_says_what_waits_without_waiting_itself(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter
):
    service = settled(start_service)
    addresses = put(files, 5)
    segmenter.gate.clear()

    running = Asked(service, *addresses[:3])
    assert segmenter.began.acquire(timeout=PATIENCE)
    until(lambda: waiting(service) == {"people": 0, "bulk": 1, "whenever": 0})
    people = [Asked(service, address) for address in addresses[3:]]
    until(lambda: waiting(service) == {"people": 2, "bulk": 1, "whenever": 0})

    segmenter.gate.set()
    assert len(running.told()["results"]) == 3
    assert all(one.told()["results"][0]["result"] for one in people)
    assert waiting(service) == {"people": 0, "bulk": 0, "whenever": 0}


def test_an_opened_task_goes_ahead_of_a_batch_under_way(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter
):
    """After the look at work, and before anything else of the batch."""
    service = settled(start_service)
    addresses = put(files, 6)
    segmenter.gate.clear()

    bulk = Asked(service, *addresses[:5])
    assert segmenter.began.acquire(timeout=PATIENCE)
    until(lambda: waiting(service)["bulk"] == 1)
    person = Asked(service, addresses[5])
    until(lambda: waiting(service)["people"] == 1)
    segmenter.gate.set()

    assert person.told()["results"][0]["result"]
    results = [entry["result"] for entry in bulk.told()["results"]]
    assert [{region["original_width"] for region in one} for one in results] == [
        {8},
        {10},
        {12},
        {14},
        {16},
    ]
    assert widths(segmenter) == [8, 18, 10, 12, 14, 16]


def test_a_person_who_asks_for_what_waits_in_bulk_moves_it_up(
    start_service: StartService, files: FileServer, segmenter: ColourSegmenter
):
    service = settled(start_service)
    addresses = put(files, 3)
    segmenter.gate.clear()

    first = Asked(service, *addresses[:2], addresses[0])
    assert segmenter.began.acquire(timeout=PATIENCE)
    until(lambda: waiting(service)["bulk"] == 1)
    person = Asked(service, addresses[1])
    until(lambda: waiting(service) == {"people": 1, "bulk": 0, "whenever": 0})
    segmenter.gate.set()

    assert person.told()["results"][0] == first.told()["results"][1]
    assert len(segmenter.looks) == 2
