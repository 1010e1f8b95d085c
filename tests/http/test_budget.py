"""A batch longer than the time budget keeps what was computed."""

import threading

import numpy as np
import pytest

from backend.errors import Unreachable
from backend.labelstudio.tasks import PredictRequest, Task
from backend.model_host import ModelHost
from backend.model_pool import ModelPool
from backend.outcomes import NotPredicted
from backend.predictor import Limits, Predictor
from backend.settings import Settings
from backend.wiring import pictures

from ..doubles.colours import ColourSegmenter, colour_source
from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded

CONFIG = brush_config(["red"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def reddish(index: int) -> bytes:
    """Pictures that differ, so that none is known from another."""
    pixels = np.full((4, 4 + index, 3), (255, 0, 0), np.uint8)
    return encoded(pixels)


@pytest.fixture
def predictor_of(files: FileServer):
    made: list[Predictor] = []

    def make(segmenter: ColourSegmenter, clock: Clock | None = None, **options) -> Predictor:
        model = ModelHost(colour_source(segmenter))
        model.start()
        model.join()
        chosen = {"budget": 80.0, "fetch_timeout": 20.0, "waiting": 4, "result_bytes": 10**6}
        predictor = Predictor(
            ModelPool(model),
            pictures(Settings(label_studio_url=files.url)),
            Limits(**{**chosen, **options}),
            **({"clock": clock} if clock else {}),
        )
        made.append(predictor)
        return predictor

    yield make
    for predictor in made:
        predictor.close()


def batch(files: FileServer, count: int) -> PredictRequest:
    for index in range(count):
        files.put(f"/data/upload/1/{index}.png", reddish(index))
    tasks = tuple(Task(i, {"image": f"/data/upload/1/{i}.png"}) for i in range(count))
    return PredictRequest(tasks=tasks, label_config=CONFIG)


def outcomes_of(predictor: Predictor, request: PredictRequest) -> list[str]:
    return [type(outcome).__name__ for outcome in predictor.predict(request)]


def test_what_the_budget_allows_is_answered_and_the_next_request_goes_on(
    predictor_of, files: FileServer
):
    clock, segmenter = Clock(), ColourSegmenter()

    def take_thirty_seconds(pixels: np.ndarray) -> None:
        clock.now += 30

    segmenter.on_observe = take_thirty_seconds
    predictor = predictor_of(segmenter, clock)
    request = batch(files, 8)

    first = predictor.predict(request)
    looked_first = len(segmenter.looks)
    second = outcomes_of(predictor, request)

    names = [type(outcome).__name__ for outcome in first]
    done = names.count("Predicted")
    assert 2 <= done <= 4
    assert names == ["Predicted"] * done + ["NotPredicted"] * (8 - done)
    assert "the request's 80 s were over" in first[-1].to_json()
    assert second.count("Predicted") > done  # the earlier ones cost nothing now
    assert len({look.shape for look in segmenter.looks}) == len(segmenter.looks)
    assert looked_first >= done


def test_a_request_leaves_at_its_deadline_and_the_running_look_is_kept(
    predictor_of, files: FileServer
):
    segmenter = ColourSegmenter()
    segmenter.gate.clear()
    predictor = predictor_of(segmenter, budget=0.2)
    request = batch(files, 3)

    gave_up = outcomes_of(predictor, request)  # returns although the look never ended
    segmenter.gate.set()
    later = predictor_of(segmenter)
    assert gave_up == ["NotPredicted"] * 3

    while "Predicted" not in outcomes_of(predictor, batch(files, 1)):
        threading.Event().wait(0.01)

    assert [look.shape[1] for look in segmenter.looks].count(4) == 1
    assert outcomes_of(later, request) == ["Predicted"] * 3


def test_a_look_nobody_waits_for_any_more_is_not_begun(predictor_of, files: FileServer):
    segmenter = ColourSegmenter()
    segmenter.gate.clear()
    predictor = predictor_of(segmenter, budget=0.2)

    assert outcomes_of(predictor, batch(files, 4)) == ["NotPredicted"] * 4
    segmenter.gate.set()
    predictor.crew.workers[0].queue._worker.shutdown(wait=True)  # let the queue run dry

    assert len(segmenter.looks) == 1


def test_one_slow_request_does_not_spend_the_budget_of_another(predictor_of, files: FileServer):
    clock, segmenter = Clock(), ColourSegmenter()
    predictor = predictor_of(segmenter, clock)
    request = batch(files, 2)

    clock.now = 1000.0

    assert outcomes_of(predictor, request) == ["Predicted"] * 2


def test_the_fetch_of_a_picture_never_outlasts_the_budget(files: FileServer):
    asked: list[float] = []

    class SlowPictures:
        def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
            asked.append(timeout)
            clock.now += 50
            return reddish(len(asked))

        def server(self, address: str) -> str | None:
            return None

        def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
            return np.zeros((2, 2, 3), np.uint8)

    clock = Clock()
    model = ModelHost(colour_source())
    model.start()
    model.join()
    predictor = Predictor(
        ModelPool(model),
        SlowPictures(),
        Limits(budget=80.0, fetch_timeout=60.0, waiting=1, result_bytes=0),
        clock=clock,
    )
    tasks = tuple(Task(index, {"image": "x"}) for index in range(4))

    predictor.predict(PredictRequest(tasks=tasks, label_config=CONFIG))
    predictor.close()

    assert asked == [60.0, 30.0]


def test_a_fetch_cut_short_by_the_budget_is_not_blamed_on_label_studio():
    class StallingPictures:
        def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
            clock.now += timeout
            raise Unreachable("nobody answers in time")

        def server(self, address: str) -> str | None:
            return address

        def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
            raise AssertionError("nothing was fetched")

    clock = Clock()
    model = ModelHost(colour_source())
    model.start()
    model.join()
    predictor = Predictor(
        ModelPool(model),
        StallingPictures(),
        Limits(budget=50.0, fetch_timeout=30.0, waiting=1, result_bytes=0),
        clock=clock,
    )
    tasks = tuple(Task(index, {"image": f"host {index}"}) for index in range(3))

    outcomes = predictor.predict(PredictRequest(tasks=tasks, label_config=CONFIG))
    predictor.close()

    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, NotPredicted)]
    assert reasons[0] == "nobody answers in time"
    assert all("the request's 50 s were over" in reason for reason in reasons[1:])
    assert len(reasons) == 3
