"""Pictures looked at together: which, how many, what memory allows, and the same masks as alone."""

import json
import logging
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.batching import ON_A_GPU, REMEMBERED_BUCKETS, Batches
from backend.device import Lane
from backend.labelstudio.tasks import PredictRequest, Task
from backend.looking import Looking
from backend.metrics.meters import Meters
from backend.model_pool import ModelChoice
from backend.outcomes import NotPredicted, Outcome, Predicted
from backend.predictor import Predictor
from backend.streaming import ON_DEVICE
from cliper_model.tiled import Tiled, TilePlan

from ...doubles.colours import ColourSegmenter, ManyColours
from ...doubles.pictures import brush_config, stripes
from ...doubles.waiting import PATIENCE, until
from .test_predictor import Album, predictor_of

CONFIG = brush_config(["red", "blue"])
OWN = ModelChoice()
TALL, WIDE, DOT = (9, 4), (6, 8), (1, 1)  # the last is never looked at with others


def picture(size_hw: tuple[int, int], number: int) -> np.ndarray:
    """Red on the left and blue on the right, and a pixel of its own."""
    made = stripes("red", "blue", height=size_hw[0], width=max(1, size_hw[1] // 2)).copy()
    made[0, 0] = (number % 256, 0, number // 256)
    return made


def album_of(*sizes: tuple[int, int]) -> Album:
    return Album(**{f"p{number}": picture(size, number) for number, size in enumerate(sizes)})


def tasks_of(album: Album) -> tuple[Task, ...]:
    return tuple(Task(name, {"image": name}) for name in album.pictures)


@dataclass
class Busy:
    """A predictor whose device is held by a job of its own until `go`, so that all others wait."""

    predictor: Predictor
    go: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.predictor.crew.workers[0].queue.submit(
            "hold", lambda: self.go.wait(PATIENCE), Lane.PEOPLE
        )

    def predict(self, album: Album, *, waits: int) -> list[Outcome]:
        """A request for all of an album; the device is let go once `waits` of it wait."""
        request = PredictRequest(tasks=tasks_of(album), label_config=CONFIG)
        return self._all(lambda: self.predictor.predict(request), waits)

    def stream(self, album: Album, *, waits: int) -> list[Outcome]:
        tasks, desk = tasks_of(album), self.predictor.desk(CONFIG)

        def streamed() -> list[Outcome]:
            found = {task.id: outcome for task, outcome in self.predictor.stream(tasks, desk)}
            return [found[task.id] for task in tasks]

        return self._all(streamed, waits)

    def _all(self, ask: Any, waits: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        asking = threading.Thread(target=lambda: outcomes.extend(ask()))
        asking.start()
        until(
            lambda: self.predictor.crew.workers[0].queue.waiting()["bulk"] >= waits, f"{waits} wait"
        )
        self.go.set()
        asking.join(PATIENCE)
        return outcomes


@pytest.fixture
def made() -> Iterator[list[Predictor]]:
    predictors: list[Predictor] = []
    yield predictors
    for one in predictors:
        one.close()


def busy(
    made: list[Predictor], segmenter: ColourSegmenter, album: Album, batch: int | None, **more: Any
) -> Busy:
    made.append(predictor_of(album, segmenter, batch=batch, **more))
    return Busy(made[-1])


def told(outcomes: Sequence[Outcome]) -> list[str]:
    return [one.to_json() for one in outcomes]


# -- sizes ------------------------------------------------------------------------------------


@dataclass
class On:
    """Stands for a backbone."""

    device: torch.device


@pytest.mark.parametrize(
    ("device", "wanted", "size", "why"),
    [
        ("cpu", None, 1, "a processor gains nothing from more"),
        ("cuda:1", None, ON_A_GPU, "a graphics card (cuda:1)"),
        ("mps", None, ON_A_GPU, "a graphics card (mps)"),
        ("cpu", 3, 3, "BATCH"),
        ("cuda", 1, 1, "BATCH"),
    ],
)
def test_the_device_says_how_many_unless_somebody_does(
    device: str, wanted: int | None, size: int, why: str
):
    segmenter = ManyColours()
    segmenter.clip = On(torch.device(device))  # type: ignore[attr-defined]
    batches = Batches(wanted)

    assert batches.size(segmenter) == size
    assert batches.facts(segmenter) == {"size": size, "why": why, "halved": {}}


@pytest.mark.parametrize("wanted", [None, 8])
def test_a_method_that_cannot_looks_at_one_at_a_time(wanted: int | None):
    batches = Batches(wanted)

    assert batches.size(ColourSegmenter()) == 1
    assert batches.facts(ColourSegmenter())["why"] == "the method looks at one picture at a time"


def test_before_there_is_a_model_nothing_is_said():
    assert Batches(4).facts(None) == {"size": None, "why": "no model yet", "halved": {}}


@settings(deadline=None)
@given(st.integers(2, 64))
def test_halving_ends_at_one_and_only_for_its_bucket(size: int):
    batches, steps = Batches(size), []
    while (most := batches.most((OWN, "a"), size)) > 1:
        batches.halve((OWN, "a"), most)
        steps.append(most)

    assert steps == [size >> n for n in range(len(steps))]
    assert batches.most((OWN, "b"), size) == size
    assert batches.facts(ManyColours())["halved"] == {"a": 1}


def test_only_so_many_buckets_are_remembered():
    batches = Batches(8)
    for number in range(REMEMBERED_BUCKETS + 1):
        batches.halve((OWN, number), 8)

    assert batches.most((OWN, 0), 8) == 8
    assert batches.most((OWN, REMEMBERED_BUCKETS), 8) == 4


# -- together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["predict", "stream"])
@pytest.mark.parametrize("batch", [2, 4])
def test_pictures_of_a_size_are_looked_at_together_and_masks_are_those_of_one_alone(
    made: list[Predictor], ask: str, batch: int
):
    sizes = [TALL, WIDE, TALL, DOT, TALL, WIDE, TALL, WIDE]
    album, alone, many = album_of(*sizes), ColourSegmenter(), ManyColours()
    one_by_one = busy(made, alone, album, None)
    together = busy(made, many, album, batch)

    expected = getattr(one_by_one, ask)(album, waits=1)
    found = getattr(together, ask)(album, waits=min(8, ON_DEVICE * batch))

    assert told(found) == told(expected)
    assert all(isinstance(one, Predicted) for one in found)
    assert max(many.together) == batch  # whichever size came first
    assert len(many.looks) == len(sizes)
    assert made[-1].device_facts()["queue"]["looks"] == len(sizes)


def test_a_request_for_one_picture_is_never_part_of_a_batch(made: list[Predictor]):
    album, many = album_of(TALL, TALL, TALL), ManyColours()
    made.append(predictor_of(album, many, batch=8))
    for one in tasks_of(album):
        made[0].predict(PredictRequest(tasks=(one,), label_config=CONFIG))

    assert many.together == []
    assert len(many.looks) == 3


def test_the_same_picture_twice_in_a_batch_is_looked_at_once(made: list[Predictor]):
    album, many = album_of(TALL, TALL), ManyColours()
    config = """<View><Image name="i" value="$a"/><Image name="j" value="$b"/>
      <BrushLabels name="one" toName="i"><Label value="red"/></BrushLabels>
      <BrushLabels name="two" toName="j"><Label value="blue"/></BrushLabels></View>"""
    held = busy(made, many, album, 8)
    request = PredictRequest(
        tasks=(Task(1, {"a": "p0", "b": "p0"}), Task(2, {"a": "p1", "b": "p1"})),
        label_config=config,
    )

    found = held._all(lambda: made[0].predict(request), waits=4)

    assert [len(json.loads(one.to_json())["result"]) for one in found] == [2, 2]
    assert many.together == [2]
    assert len(many.looks) == 2


def test_a_picture_seen_before_needs_no_look(made: list[Predictor]):
    album, many = album_of(TALL, TALL, TALL), ManyColours()
    made.append(predictor_of(album, many, batch=8, state_bytes=10**7))
    opened = PredictRequest(tasks=tasks_of(album)[:1], label_config=brush_config(["blue"]))
    made[0].predict(opened)
    held = Busy(made[0])

    held.predict(album, waits=3)

    assert many.together == [2]
    assert len(many.looks) == 3


def test_looks_of_a_batch_are_kept_for_clicks_where_a_request_asks(made: list[Predictor]):
    album = album_of(TALL, TALL)
    asked = busy(made, ManyColours(), album, 8, state_bytes=10**7)
    streamed = busy(made, ManyColours(), album, 8, state_bytes=10**7)

    asked.predict(album, waits=2)
    streamed.stream(album, waits=2)

    assert len(made[0].crew.workers[0].looking._seen) == 4  # a look and its scores, twice
    assert len(made[1].crew.workers[0].looking._seen) == 0


def test_a_picture_the_model_fails_on_costs_its_batch_nothing_but_time(made: list[Predictor]):
    def stumble(pixels: np.ndarray) -> None:
        if pixels[0, 0, 0] == 1:
            raise RuntimeError("mat1 and mat2")

    album = album_of(TALL, TALL, TALL, TALL)
    held = busy(made, ManyColours(on_observe=stumble), album, 8)

    found = held.predict(album, waits=4)

    assert [type(one) for one in found] == [Predicted, NotPredicted, Predicted, Predicted]
    assert "RuntimeError" in found[1].to_json()


def test_words_one_task_cannot_have_cost_no_look(made: list[Predictor]):
    album, many = album_of(TALL, TALL, TALL), ManyColours()
    config = """<View><Image name="i" value="$image"/>
      <BrushLabels name="b" toName="i" value="$words"/></View>"""
    held = busy(made, many, album, 8)
    words = [["red"], ["ultraviolet"], ["blue"]]
    request = PredictRequest(
        tasks=tuple(
            Task(n, {"image": f"p{n}", "words": [{"value": word} for word in one]})
            for n, one in enumerate(words)
        ),
        label_config=config,
    )

    found = held._all(lambda: made[0].predict(request), waits=3)

    assert [type(one) for one in found] == [Predicted, NotPredicted, Predicted]
    assert many.together == [2]
    assert len(many.looks) == 2


# -- out of memory ----------------------------------------------------------------------------


def test_out_of_memory_halves_the_batch_says_so_once_and_goes_on(
    made: list[Predictor], caplog: pytest.LogCaptureFixture
):
    album, many = album_of(*[TALL] * 16), ManyColours(room=2)
    held = busy(made, many, album, 8)

    with caplog.at_level(logging.WARNING, logger="backend.batching"):
        found = held.predict(album, waits=16)

    assert {type(one) for one in found} == {Predicted}
    assert many.together == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert len(many.looks) == 16
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory over 8 pictures at once ((9, 4)); from now on 4",
        "out of memory over 4 pictures at once ((9, 4)); from now on 2",
    ]
    assert made[0].device_facts()["batch"] == {
        "size": 8,
        "why": "BATCH",
        "halved": {"(9, 4)": 2},
    }


def test_another_size_keeps_its_own_batch(made: list[Predictor]):
    album, many = album_of(*[TALL] * 4, *[WIDE] * 4), ManyColours(room=2)
    held = busy(made, many, album, 4)
    many.room = 3

    held.predict(album, waits=8)

    assert many.together == [4, 2, 2, 4, 2, 2]


def test_one_alone_that_is_too_much_is_its_own_trouble(made: list[Predictor]):
    def too_much(pixels: np.ndarray) -> None:
        if pixels[0, 0, 0] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    album = album_of(*[TALL] * 4)
    many = ManyColours(room=1, on_observe=too_much)
    held = busy(made, many, album, 4)

    found = held.predict(album, waits=4)

    assert [type(one) for one in found] == [Predicted, Predicted, NotPredicted, Predicted]
    assert "memory" in found[2].to_json()
    assert many.together == [4, 2]
    assert made[0].device_facts()["batch"]["halved"] == {"(9, 4)": 1}


# -- bounds -----------------------------------------------------------------------------------


def most_waiting(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures wait on the device, every time one more does."""
    counts: list[int] = []
    queue = predictor.crew.workers[0].queue
    submit = queue.submit

    def noting(*given: Any, **more: Any) -> Any:
        ticket = submit(*given, **more)
        counts.append(queue.waiting()["bulk"])
        return ticket

    monkeypatch.setattr(queue, "submit", noting)
    return counts


@pytest.mark.parametrize("ask", ["predict", "stream"])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_as_many_wait_on_the_device_as_two_batches_hold(
    made: list[Predictor], monkeypatch: pytest.MonkeyPatch, batch: int, ask: str
):
    album = album_of(*[TALL] * 40)
    held = busy(made, ManyColours(), album, batch)
    counts = most_waiting(made[0], monkeypatch)

    found = getattr(held, ask)(album, waits=ON_DEVICE * batch)

    assert len(found) == 40
    assert max(counts) == ON_DEVICE * batch


@pytest.mark.parametrize("ask", ["predict", "stream"])
def test_large_pictures_do_not_wait_in_batches(
    made: list[Predictor], monkeypatch: pytest.MonkeyPatch, ask: str
):
    """However many a batch holds, those that wait take so many bytes at most."""
    size = picture(TALL, 0).nbytes
    monkeypatch.setattr("backend.streaming.AHEAD_BYTES", 3 * size)
    monkeypatch.setattr("backend.predictor.AHEAD_BYTES", 3 * size)
    album = album_of(*[TALL] * 40)
    held = busy(made, ManyColours(), album, 8)
    counts = most_waiting(made[0], monkeypatch)

    found = getattr(held, ask)(album, waits=3)

    assert len(found) == 40
    assert max(counts) == 3


def test_an_abandoned_request_leaves_nothing_in_the_batch(made: list[Predictor]):
    album, many = album_of(*[TALL] * 3), ManyColours()
    held = busy(made, many, album, 8, budget=0.05)
    request = PredictRequest(tasks=tasks_of(album), label_config=CONFIG)

    found = made[0].predict(request)  # gives up although the device is still held
    held.go.set()
    made[0].crew.workers[0].queue.submit("last", lambda: None, Lane.WHENEVER).wait(PATIENCE)

    assert {type(one) for one in found} == {NotPredicted}
    assert many.looks == []


# -- time, and those who go by ----------------------------------------------------------------


def nothing_unasked(predictor: Predictor) -> bool:
    """Whoever reads words ahead has queued all there is, and nothing of it is left."""
    ahead = any(thread.name == "words" for thread in threading.enumerate())
    return not ahead and not predictor.crew.workers[0].queue._flights


def test_between_the_steps_of_a_result_others_may_come_in():
    steps: list[str] = []

    class Noting(ColourSegmenter):
        def observe(self, image: np.ndarray) -> Any:
            steps.append("look")
            return super().observe(image)

        def score(self, state: Any, vocabulary: Any) -> Any:
            steps.append("score")
            return super().score(state, vocabulary)

    def let_by() -> float:
        steps.append("by")
        return 1000.0

    spent: dict[str, float] = {}
    predictor = predictor_of(album_of(TALL), Noting())
    predictor.crew.workers[0].looking = Looking(state_bytes=0, brush_megapixels=1, let_by=let_by)
    desk = predictor.desk(CONFIG)
    until(lambda: nothing_unasked(predictor), "words read and advice on the log")
    steps.clear()
    list(
        predictor.stream(
            tasks_of(album_of(TALL)), desk, lambda what, seconds: spent.update({what: seconds})
        )
    )
    predictor.close()

    assert steps == ["look", "by", "score", "by", "by"]
    assert spent["model"] < 0  # the time of others is not this picture's


def test_people_go_by_in_the_middle_of_a_look():
    steps: list[str] = []

    class Stepping(ColourSegmenter):
        def observe_in_steps(self, image: np.ndarray) -> Generator[None, None, Any]:
            steps.append("first half")
            yield
            steps.append("second half")
            return self.observe(image)

    def let_by() -> float:
        steps.append("by")
        return 1000.0

    predictor = predictor_of(album_of(TALL), Stepping())
    took: list[float] = []
    looking = predictor.crew.workers[0].looking = Looking(
        state_bytes=0, brush_megapixels=1, let_by=let_by, meters=Taking(took)
    )
    predictor.desk(CONFIG)
    until(lambda: nothing_unasked(predictor), "words read and advice on the log")
    steps.clear()
    (outcome,) = predictor.predict(
        PredictRequest(tasks=tuple(tasks_of(album_of(TALL))), label_config=CONFIG)
    )
    predictor.close()

    assert isinstance(outcome, Predicted)
    assert steps[:3] == ["first half", "by", "second half"]
    assert looking.looks == 1
    assert took[0] < 0  # the time of others is not the look's


class Taking(Meters):
    """Notes how long looks took."""

    def __init__(self, took: list[float]) -> None:
        super().__init__()
        self.took = took

    def stage_took(self, name: str, seconds: float) -> None:
        if name == "look":
            self.took.append(seconds)


# -- large pictures ---------------------------------------------------------------------------


class TileableMany(ManyColours):
    def presence(self, strength: np.ndarray, *, preset: str) -> np.ndarray:
        return strength


class Tileable(ColourSegmenter):
    def presence(self, strength: np.ndarray, *, preset: str) -> np.ndarray:
        return strength


SMALL = TilePlan(above_megapixels=0.01, smallest_tile=64, most_pixels=20_000)


def test_tiles_pass_small_pictures_on_and_large_ones_have_no_bucket():
    inner = TileableMany()
    tiled = Tiled(inner, SMALL)
    pictures = [picture(TALL, n) for n in range(3)]

    states = tiled.observe_many(pictures)

    assert inner.together == [3]
    assert [state.pixels[0, 0, 0].item() for state in states] == [0, 1, 2]  # type: ignore[attr-defined]
    assert tiled.bucket(TALL) == TALL
    assert tiled.bucket((200, 200)) is None
    assert Batches(8).size(tiled) == 8


def test_tiles_around_a_method_that_cannot_look_at_one_at_a_time():
    tiled = Tiled(Tileable(), SMALL)

    states = tiled.observe_many([picture(TALL, n) for n in range(2)])

    assert len(states) == 2
    assert tiled.bucket(TALL) is None
    assert Batches(8).size(tiled) == 1


def test_a_large_picture_among_small_ones_is_seen_in_tiles():
    inner = TileableMany()
    tiled = Tiled(inner, SMALL)

    large, small = tiled.observe_many([np.zeros((200, 200, 3), np.uint8), picture(TALL, 1)])

    assert inner.together == []
    assert large.kind == "tiled-1"
    assert small.kind == "colours-1"
