"""Many pictures in any order: bounded, each task once, and nothing left behind."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from backend import streaming
from backend.device import DeviceQueue, Ticket
from backend.errors import (
    ConfigError,
    CouldNotPredict,
    ImageBroken,
    ModelFailed,
    TaskDataMissing,
    Unreachable,
)
from backend.labelstudio.tasks import PredictRequest, Task
from backend.outcomes import ImageResult, NotPredicted, Predicted
from backend.predictor import Predictor
from backend.streaming import AHEAD, FETCHERS, ON_DEVICE, Steps, stream

from ...doubles.colours import IDENTITY, ColourSegmenter
from ...doubles.pictures import brush_config, stripes
from ...doubles.studio_server import soon
from .test_predictor import Album, Trouble, predictor_of
from .test_prompting import point

MEGABYTE = 1_000_000


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [one.name for one in threading.enumerate() if one.name.startswith("fetch")]


@dataclass(frozen=True)
class Unpacked:
    name: str
    nbytes: int = 100


@dataclass(frozen=True)
class Look:
    """A picture of a task, as `steps.views` names it."""

    name: str


def result(name: str) -> ImageResult:
    return ImageResult(regions=f'["{name}"]'.encode(), area=0.0, weighted_score=0.0, presence=0.0)


def names(results: streaming.Results) -> list[str]:
    assert isinstance(results, list)
    return [json.loads(one.regions)[0] for one in results]


@dataclass
class Works:
    """Tasks are named by what their pictures are: `Task("a b", {})` has the pictures a and b.

    `unpack` and `think` may block, raise, or return something else. `alive` counts pictures
    that are unpacked and not yet worked on; `most` is the largest number so far.
    """

    unpack: Callable[[str], Any] = lambda name: Unpacked(name)
    think: Callable[[str], ImageResult] = result
    key: Callable[[str], str] = lambda name: name
    alive: int = 0
    most: int = 0
    begun: list[str] = field(default_factory=list)
    device: DeviceQueue = field(default_factory=DeviceQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def steps(self) -> Steps[Unpacked]:
        return Steps(views=self._views, unpack=self._unpack, queue=self._queue)  # type: ignore[arg-type]

    def _views(self, task: Task) -> list[Look]:
        if task.id == "missing":
            raise TaskDataMissing("image", ())
        return [Look(name) for name in str(task.id).split()]

    def _unpack(self, task: Task, look: Look) -> Any:
        with self.lock:
            self.begun.append(look.name)
            self.alive += 1
            self.most = max(self.most, self.alive)
        found = self.unpack(look.name)
        if not isinstance(found, Unpacked):
            with self.lock:
                self.alive -= 1
        return found

    def _queue(self, look: Look, ready: Unpacked, follows: bool) -> Ticket[ImageResult]:
        def job() -> ImageResult:
            try:
                return self.think(ready.name)
            finally:
                with self.lock:
                    self.alive -= 1

        return self.device.submit(self.key(look.name), job)


@pytest.fixture
def works() -> Iterator[Works]:
    made = Works()
    yield made
    made.device.close()


def tasks_of(*names: str) -> list[Task]:
    return [Task(name) for name in names]


def told(works: Works, *names_: str) -> dict[str, streaming.Results]:
    found = list(stream(iter(tasks_of(*names_)), works.steps()))
    assert len(found) == len(names_), "every task once"
    return {str(task.id): results for task, results in found}


def test_no_tasks_are_no_answers(works: Works):
    assert told(works) == {}


@pytest.mark.parametrize("count", [1, 2, AHEAD, 5 * AHEAD])
def test_every_task_comes_once(works: Works, count: int):
    found = told(works, *(f"t{n}" for n in range(count)))

    assert {name: names(results) for name, results in found.items()} == {
        f"t{n}": [f"t{n}"] for n in range(count)
    }


def test_pictures_of_a_task_keep_their_order_whenever_they_come(works: Works):
    gate = threading.Event()

    def unpack(name: str) -> Any:
        if name == "a":
            assert gate.wait(60)
        return Unpacked(name) if name in "ac" else result(name)

    works.unpack = unpack
    works.think = lambda name: (gate.set(), result(name))[1]

    assert names(told(works, "a b c")["a b c"]) == ["a", "b", "c"]


def test_a_slow_picture_does_not_hold_up_the_others(works: Works):
    gate = threading.Event()
    works.unpack = lambda name: (name == "slow" and gate.wait(60), Unpacked(name))[1]
    answers = stream(iter(tasks_of("slow", "b", "c", "d")), works.steps())

    first = [next(answers)[0].id for _ in range(3)]
    gate.set()

    assert sorted(first) == ["b", "c", "d"]
    assert [task.id for task, _ in answers] == ["slow"]


def test_what_is_known_already_needs_no_device(works: Works):
    works.unpack = result
    works.device.close()

    assert names(told(works, "a b")["a b"]) == ["a", "b"]


def test_a_task_without_pictures_has_no_results(works: Works):
    assert told(works, "", "a")[""] == []


@pytest.mark.parametrize("count", [2, 3, 20])
def test_equal_pictures_share_the_work_and_each_task_is_told(works: Works, count: int):
    looks: list[str] = []
    works.key = lambda name: "the same"
    works.think = lambda name: (looks.append(name), result("same"))[1]

    found = told(works, *(f"t{n}" for n in range(count)))

    assert [names(results) for results in found.values()] == [["same"]] * count
    assert len(looks) <= count


def test_equal_pictures_of_one_task_are_all_told(works: Works):
    works.key = lambda name: "the same"

    assert len(names(told(works, "a b c d")["a b c d"])) == 4


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["views", "unpack", "think"])
def test_an_error_is_its_task_s_and_no_other_s(works: Works, place: str):
    def think(name: str) -> ImageResult:
        if name == "bad" and place == "think":
            raise ImageBroken("broken")
        return result(name)

    works.think = think
    works.unpack = lambda name: (
        ImageBroken("broken") if (name, place) == ("bad", "unpack") else Unpacked(name)
    )
    bad = "missing" if place == "views" else "bad"

    found = told(works, "a", bad, "b", f"c {bad}" if place != "views" else "c", "d")

    assert isinstance(found[bad], CouldNotPredict)
    assert [names(found[name]) for name in "abd"] == [["a"], ["b"], ["d"]]
    if place != "views":
        assert isinstance(found["c bad"], CouldNotPredict)


def test_what_is_left_of_a_broken_task_is_spared(works: Works):
    works.unpack = lambda name: ImageBroken("broken")
    many = " ".join(f"p{n}" for n in range(150))

    assert isinstance(told(works, many)[many], ImageBroken)
    assert len(works.begun) <= 2 * FETCHERS


@pytest.mark.parametrize("error", [ConfigError("x"), ModelFailed("x"), RuntimeError("x")])
@pytest.mark.parametrize("place", ["views", "unpack", "queue", "think"])
def test_an_error_that_is_everybody_s_ends_it(works: Works, place: str, error: Exception):
    def fail(*_: object) -> Any:
        raise error

    steps = works.steps()
    if place == "think":
        works.think = fail
    else:
        steps = replace(steps, **{place: fail})

    with pytest.raises(type(error)):
        list(stream(iter(tasks_of("a", "b", "c")), steps))


def test_tasks_that_cannot_be_listed_end_it(works: Works):
    def tasks() -> Iterator[Task]:
        yield Task("a")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        list(stream(tasks(), works.steps()))


# -- bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [[f"t{n}" for n in range(60)], [" ".join(map(str, range(60)))]])
def test_pictures_under_way_are_few_however_slow_the_device(works: Works, tasks: list[str]):
    gate = threading.Event()
    works.think = lambda name: (gate.wait(60), result(name))[1]
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.extend(stream(tasks_of(*tasks), works.steps())))
    thread.start()
    soon(lambda: works.most >= AHEAD + ON_DEVICE)
    gate.set()
    thread.join()

    assert len(done) == len(tasks)
    assert works.most <= AHEAD + ON_DEVICE


def test_large_pictures_wait_in_small_numbers(works: Works, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streaming, "AHEAD_BYTES", 10 * MEGABYTE)
    gate = threading.Event()
    works.unpack = lambda name: Unpacked(name, nbytes=10 * MEGABYTE)
    works.think = lambda name: (gate.wait(60), result(name))[1]
    done: list[object] = []
    tasks = tasks_of(*(f"t{n}" for n in range(40)))
    thread = threading.Thread(target=lambda: done.extend(stream(tasks, works.steps())))
    thread.start()
    soon(lambda: works.alive > ON_DEVICE)
    gate.set()
    thread.join()

    assert len(done) == 40
    assert works.most <= ON_DEVICE + 1 + FETCHERS


def test_with_several_devices_as_many_times_as_many_are_under_way(works: Works):
    gate = threading.Event()
    works.think = lambda name: (gate.wait(60), result(name))[1]
    done: list[object] = []
    tasks = tasks_of(*(f"t{n}" for n in range(60)))
    thread = threading.Thread(
        target=lambda: done.extend(stream(tasks, works.steps(), devices=lambda: 3))
    )
    thread.start()
    soon(lambda: works.most >= 3 * (AHEAD + ON_DEVICE))
    gate.set()
    thread.join()

    assert len(done) == 60
    assert works.most <= 3 * (AHEAD + ON_DEVICE)


def test_large_pictures_wait_in_small_numbers_for_several_devices_too(
    works: Works, monkeypatch: pytest.MonkeyPatch
):
    """One for each device and one that waits, whatever they take, beside those being fetched."""
    monkeypatch.setattr(streaming, "AHEAD_BYTES", 10 * MEGABYTE)
    gate = threading.Event()
    works.unpack = lambda name: Unpacked(name, nbytes=10 * MEGABYTE)
    works.think = lambda name: (gate.wait(60), result(name))[1]
    done: list[object] = []
    tasks = tasks_of(*(f"t{n}" for n in range(60)))
    thread = threading.Thread(
        target=lambda: done.extend(stream(tasks, works.steps(), devices=lambda: 3))
    )
    thread.start()
    soon(lambda: works.alive > 3 + 1)
    gate.set()
    thread.join()

    assert len(done) == 60
    assert works.most <= 3 + 1 + 1 + 3 * FETCHERS


def test_few_pictures_are_fetched_at_once(works: Works):
    gate = threading.Event()
    works.unpack = lambda name: (gate.wait(60), Unpacked(name))[1]
    asked: list[str] = []

    def tasks() -> Iterator[Task]:
        for number in range(50):
            asked.append(str(number))
            yield Task(str(number))

    answers = stream(tasks(), works.steps())
    thread = threading.Thread(target=lambda: next(answers))
    thread.start()
    soon(lambda: len(works.begun) == FETCHERS)
    assert len(asked) <= FETCHERS
    gate.set()
    thread.join()
    answers.close()


def test_tasks_are_taken_as_they_are_needed(works: Works):
    taken: list[int] = []

    def tasks() -> Iterator[Task]:
        for number in range(1000):
            taken.append(number)
            yield Task(f"t{number}")

    answers = stream(tasks(), works.steps())
    for _ in range(10):
        next(answers)
    answers.close()

    assert len(taken) <= 10 + AHEAD + ON_DEVICE + FETCHERS


# -- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 2, 5, 19])
def test_whoever_stops_early_leaves_no_thread_and_no_place(works: Works, after: int):
    answers = stream(iter(tasks_of(*(f"t{n}" for n in range(20)))), works.steps())
    for _ in range(after):
        next(answers)

    answers.close()

    works.device.submit("last", lambda: result("last")).wait(60)
    soon(lambda: not works.device._flights)


def test_jobs_nobody_waits_for_any_more_are_not_done(works: Works):
    begun, gate = threading.Event(), threading.Event()
    looks: list[str] = []

    def think(name: str) -> ImageResult:
        looks.append(name)
        begun.set()
        assert gate.wait(60)
        return result(name)

    works.think = think

    def tasks() -> Iterator[Task]:
        yield Task("a")
        yield Task("b")
        yield Task("missing")
        assert begun.wait(60)
        soon(lambda: len(works.begun) == 2)
        yield Task("missing")

    answers = stream(tasks(), works.steps())
    assert next(answers)[0].id == "missing"
    answers.close()
    gate.set()
    works.device.submit("last", lambda: result("last")).wait(60)

    assert len(looks) <= 1


# -- the predictor's ---------------------------------------------------------------------------


CONFIG = brush_config(["red", "blue"])
LISTED = """<View><Image name="image" valueList="$images"/>
  <BrushLabels name="seg" toName="image"><Label value="red"/></BrushLabels></View>"""


def task(name: str, number: int) -> Task:
    return Task(number, {"image": name})


def streamed(predictor: Predictor, tasks: list[Task], config: str = CONFIG) -> dict[Any, Any]:
    found = list(predictor.stream(iter(tasks), predictor.desk(config)))
    assert len(found) == len(tasks)
    return {one.id: outcome for one, outcome in found}


PICTURES = {
    "a": stripes("red", "green"),
    "b": stripes("blue", "red", height=3, width=5),
    "dot": stripes("red", height=1, width=1),
    "nothing": stripes("green"),
}


def test_a_stream_says_what_a_request_says():
    tasks = [task(name, number) for number, name in enumerate([*PICTURES, "a", "a"])]
    one, other = predictor_of(Album(**PICTURES)), predictor_of(Album(**PICTURES))

    found = streamed(one, tasks)
    asked = other.predict(PredictRequest(tasks=tuple(tasks), label_config=CONFIG))
    one.close()
    other.close()

    assert [found[n].to_json() for n in range(len(tasks))] == [each.to_json() for each in asked]
    assert [found[n].count for n in range(4)] == [1, 2, 1, 0]


def test_a_stream_of_lists_of_pictures_says_what_a_request_says():
    tasks = [Task(n, {"images": ["a", "b", "a", "nothing"][: n + 1]}) for n in range(4)]
    one, other = predictor_of(Album(**PICTURES)), predictor_of(Album(**PICTURES))

    found = streamed(one, tasks, LISTED)
    asked = other.predict(PredictRequest(tasks=tuple(tasks), label_config=LISTED))
    one.close()
    other.close()

    assert [found[n].to_json() for n in range(4)] == [each.to_json() for each in asked]


@pytest.mark.parametrize(
    ("error", "kind", "passing"),
    [
        (Unreachable("nobody answers"), "unreachable", True),
        (ImageBroken("truncated"), "image broken", False),
        (ValueError("Invalid IPv6 URL"), "could not predict", False),
        (MemoryError(), "out of memory", False),
    ],
)
def test_a_bad_picture_is_told_by_its_kind(error: Exception, kind: str, passing: bool):
    predictor = predictor_of(Trouble(error, "fetch", a=stripes("red"), z=stripes("blue")))

    found = streamed(predictor, [task("a", 1), task("bad", 2), task("z", 3)])
    predictor.close()

    assert isinstance(found[1], Predicted)
    assert isinstance(found[3], Predicted)
    assert isinstance(found[2], NotPredicted)
    assert (found[2].kind, found[2].passing, found[2].later) == (kind, passing, False)


@pytest.mark.parametrize(
    "data",
    [{}, {"image": None}, {"image": 7}, {"image": []}, {"image": {"a": 1}}, {"image": "  "}],
)
def test_a_task_without_a_picture_costs_nobody_else(data: dict):
    predictor = predictor_of(Album(**PICTURES))

    found = streamed(predictor, [task("a", 1), Task(2, data), task("b", 3)])
    predictor.close()

    assert [found[n].__class__ for n in (1, 2, 3)] == [Predicted, NotPredicted, Predicted]
    assert found[2].kind == "task data missing"


def test_a_task_over_which_the_plan_itself_stumbles_costs_nobody_else():
    class Odd(dict):
        def get(self, *_: object) -> object:
            raise RecursionError

    predictor = predictor_of(Album(**PICTURES))
    found = streamed(predictor, [task("a", 1), Task(2, Odd()), task("b", 3)])
    predictor.close()

    assert [found[n].__class__ for n in (1, 2, 3)] == [Predicted, NotPredicted, Predicted]


def test_a_picture_the_model_fails_on_costs_nobody_else():
    def stumble(pixels: np.ndarray) -> None:
        if pixels.shape[0] == 1:
            raise RuntimeError("mat1 and mat2")

    predictor = predictor_of(Album(**PICTURES), ColourSegmenter(on_observe=stumble))
    found = streamed(predictor, [task("a", 1), task("dot", 2), task("b", 3)])
    predictor.close()

    assert [found[n].__class__ for n in (1, 2, 3)] == [Predicted, NotPredicted, Predicted]
    assert found[2].reason == "the model failed on this picture (RuntimeError)"


def test_words_nobody_knows_are_said_before_anything_is_done():
    predictor = predictor_of(Album(**PICTURES))

    with pytest.raises(ConfigError):
        predictor.desk(brush_config(["ultraviolet"]))
    predictor.close()


def test_a_stream_has_no_budget():
    class Slow(Album):
        now = 0.0

        def __call__(self) -> float:
            return self.now

        def fetch(self, address: str, **options: Any) -> bytes:
            self.now += 50
            return super().fetch(address, **options)

    album = Slow(**PICTURES)
    predictor = predictor_of(album, clock=album, budget=60)

    found = streamed(predictor, [task("a", n) for n in range(20)])
    predictor.close()

    assert {type(one) for one in found.values()} == {Predicted}


def test_time_is_told_by_step():
    spent: dict[str, float] = {}
    predictor = predictor_of(Album(**PICTURES))
    desk = predictor.desk(CONFIG)

    list(
        predictor.stream([task("a", 1)], desk, lambda what, seconds: spent.update({what: seconds}))
    )
    predictor.close()

    assert set(spent) == {"download", "decode", "model", "encode"}
    assert min(spent.values()) >= 0


def test_requests_are_answered_while_a_stream_goes_on():
    """A request waits for the pictures on the device, and not for the stream."""
    segmenter = ColourSegmenter()
    album = Album(**{f"p{n}": stripes("red", width=4 + n) for n in range(60)}, mine=stripes("blue"))
    predictor = predictor_of(album, segmenter, waiting=1)
    answers = predictor.stream([task(f"p{n}", n) for n in range(60)], predictor.desk(CONFIG))
    next(answers)
    segmenter.gate.clear()
    request = PredictRequest(tasks=(task("mine", 99),), label_config=CONFIG)
    outcomes: list[Any] = []
    asking = threading.Thread(target=lambda: outcomes.extend(predictor.predict(request)))
    asking.start()
    segmenter.gate.set()
    asking.join(60)

    assert not asking.is_alive(), "nobody takes the stream's answers, and it is answered"
    assert json.loads(outcomes[0].to_json())["result"][0]["value"]["brushlabels"] == ["blue"]
    assert len(segmenter.looks) < 60
    answers.close()
    predictor.close()


def test_a_stream_that_is_left_leaves_no_job_behind():
    segmenter = ColourSegmenter()
    predictor = predictor_of(Album(**PICTURES), segmenter)
    answers = predictor.stream([task(name, 1) for name in PICTURES], predictor.desk(CONFIG))
    next(answers)

    answers.close()

    soon(lambda: not predictor.crew.workers[0].queue._flights)
    predictor.close()


def test_pictures_of_a_stream_are_not_kept_for_clicks():
    segmenter = ColourSegmenter()
    predictor = predictor_of(Album(**PICTURES), segmenter, state_bytes=10**9)

    streamed(predictor, [task("a", 1), task("b", 2)])

    assert predictor.crew.workers[0].looking._newest is None
    predictor.close()


def test_a_stream_does_not_make_clicks_fetch_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("backend.clicks.REMEMBERED_PICTURES", 1)
    fetched: list[str] = []

    class Noting(Album):
        def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
            fetched.append(address)
            return super().fetch(address, timeout=timeout, task_id=task_id)

    smart = CONFIG.replace(
        "</View>",
        '<KeyPointLabels name="tips" toName="image" smart="true"><Label value="red"/>'
        "</KeyPointLabels></View>",
    )
    predictor = predictor_of(Noting(**PICTURES), state_bytes=10**9)
    request = PredictRequest(tasks=(task("a", 1),), label_config=smart)
    predictor.predict(request)
    list(predictor.stream(iter([task("b", 2)]), predictor.desk(smart)))

    predictor.predict(replace(request, context={"result": [point(1, 1, to_name="image")]}))
    predictor.close()

    assert fetched == ["a", "b"]


def test_what_was_predicted_for_a_request_is_not_done_again():
    segmenter = ColourSegmenter(identity=IDENTITY)
    predictor = predictor_of(Album(**PICTURES), segmenter)
    request = PredictRequest(tasks=(task("a", 1),), label_config=CONFIG)
    (asked,) = predictor.predict(request)

    found = streamed(predictor, [task("a", 1)])
    predictor.close()

    assert found[1].to_json() == asked.to_json()
    assert len(segmenter.looks) == 1
