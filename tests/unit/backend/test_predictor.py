"""Scores of tasks, and the JSON that is spliced rather than printed anew."""

import json
from typing import Any

import numpy as np
import pytest

from backend.errors import Unreachable
from backend.fetching import Pictures
from backend.labelstudio.tasks import PredictRequest, Task
from backend.looking import is_out_of_memory
from backend.model_host import ModelHost
from backend.model_pool import ModelPool
from backend.outcomes import NotPredicted, Predicted
from backend.predictor import Limits, Predictor
from cliper_model import decide

from ...doubles.colours import ColourSegmenter, colour_source
from ...doubles.pictures import brush_config, stripes


class Album:
    """Pictures by address, as arrays."""

    def __init__(self, **pictures: np.ndarray) -> None:
        self.pictures = pictures

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        return address.encode()

    def server(self, address: str) -> str | None:
        return None

    def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
        return self.pictures[data.decode()]


def predictor_of(
    pictures: Pictures, segmenter: ColourSegmenter | None = None, **options: Any
) -> Predictor:
    model = ModelHost(colour_source(segmenter))
    model.start()
    model.join()
    clock = {"clock": options.pop("clock")} if "clock" in options else {}
    chosen: dict[str, Any] = {"budget": 60, "fetch_timeout": 5, "waiting": 2, "result_bytes": 10**6}
    return Predictor(ModelPool(model), pictures, Limits(**{**chosen, **options}), **clock)


def request_of(*addresses: str, config: str | None = None) -> PredictRequest:
    tasks = tuple(Task(name, {"image": name, "a": name, "b": name}) for name in addresses)
    return PredictRequest(tasks=tasks, label_config=config or brush_config(["red"]))


def predict(config: str, segmenter: ColourSegmenter | None = None, **pictures: np.ndarray):
    predictor = predictor_of(Album(**pictures), segmenter)
    try:
        return predictor.predict(request_of(*pictures, config=config))
    finally:
        predictor.close()


def test_the_task_score_is_the_model_s_own_for_one_control():
    picture = stripes("red", "green", "green", "blue")
    segmenter = ColourSegmenter()
    vocabulary = segmenter.read(["red", "green"])
    scores = segmenter.score(segmenter.observe(picture), vocabulary)
    expected = decide(scores, segmenter.decision("objects")).score

    (outcome,) = predict(brush_config(["red", "green"]), a=picture)

    assert json.loads(outcome.to_json())["score"] == pytest.approx(expected, abs=1e-4)


def test_with_several_controls_areas_weigh_across_them():
    config = """<View><Image name="i" value="$a"/>
      <BrushLabels name="one" toName="i"><Label value="red"/></BrushLabels>
      <BrushLabels name="two" toName="i"><Label value="yellow"/></BrushLabels></View>"""

    (outcome,) = predict(config, a=stripes("red", "blue"))

    entry = json.loads(outcome.to_json())
    assert entry["score"] == pytest.approx(entry["result"][0]["score"], abs=1e-4)


def test_regions_of_several_pictures_are_one_list():
    config = """<View><Image name="i" value="$a"/><Image name="j" value="$b"/>
      <Image name="k" value="$image"/>
      <BrushLabels name="one" toName="i"><Label value="red"/></BrushLabels>
      <BrushLabels name="two" toName="j"><Label value="yellow"/></BrushLabels>
      <BrushLabels name="three" toName="k"><Label value="blue"/></BrushLabels></View>"""

    (outcome,) = predict(config, a=stripes("red", "blue"))

    entry = json.loads(outcome.to_json())
    assert [region["from_name"] for region in entry["result"]] == ["one", "three"]
    assert len({region["id"] for region in entry["result"]}) == 2


def test_words_are_encoded_once_for_many_pictures():
    segmenter = ColourSegmenter()

    predict(
        brush_config(["red"]), segmenter, a=stripes("red"), b=stripes("blue"), c=stripes("green")
    )

    assert segmenter.readings == [("red",)]


def test_scores_that_are_not_numbers_are_a_failure_and_never_printed():
    class Broken(ColourSegmenter):
        def score(self, state, vocabulary):
            scores = super().score(state, vocabulary)
            scores.presence[:] = np.nan
            return scores

    (outcome,) = predict(brush_config(["red"]), Broken(), a=stripes("red"))

    assert isinstance(outcome, NotPredicted)
    assert outcome.reason == "the model gave no finite scores for this picture"


def test_an_answer_without_regions_is_proper_json():
    outcome = Predicted(regions=(b"[]", b"[]"), score=None, model_version="v-1")

    assert json.loads(outcome.to_json()) == {"result": [], "score": None, "model_version": "v-1"}


def test_a_failed_task_has_no_result_and_keeps_its_reason():
    assert json.loads(NotPredicted(reason='a "quoted" word').to_json()) == {
        "error": 'a "quoted" word'
    }


def test_a_tiny_and_a_long_picture_are_predicted_like_others():
    outcomes = predict(
        brush_config(["red"]),
        dot=stripes("red", height=1, width=1),
        line=stripes("red", "blue", height=1, width=300),
    )

    sizes = [json.loads(outcome.to_json())["result"][0] for outcome in outcomes]
    assert [(r["original_width"], r["original_height"]) for r in sizes] == [(1, 1), (600, 1)]


class Trouble(Album):
    """Raises what stands in the place of a picture, when fetched or when decoded."""

    def __init__(self, error: Exception, at: str, **pictures: np.ndarray) -> None:
        super().__init__(**pictures)
        self.error, self.at = error, at

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        if (address, self.at) == ("bad", "fetch"):
            raise self.error
        return super().fetch(address, timeout=timeout, task_id=task_id)

    def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
        if data == b"bad":
            raise self.error
        return super().decode(data)


@pytest.mark.parametrize("at", ["fetch", "decode"])
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("Invalid IPv6 URL"), "the picture could not be had (ValueError)"),
        (MemoryError(), "not enough memory for this picture"),
    ],
)
def test_one_bad_task_loses_only_itself(error: Exception, sentence: str, at: str):
    predictor = predictor_of(Trouble(error, at, a=stripes("red"), z=stripes("red")))

    outcomes = predictor.predict(request_of("a", "bad", "z"))
    predictor.close()

    assert [type(outcome) for outcome in outcomes] == [Predicted, NotPredicted, Predicted]
    assert outcomes[1].reason.startswith(sentence)


@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 68719476736 bytes.",
        "CUDA error: out of memory",
        "MPS backend out of memory (MPS allocated: 1.00 GB)",
    ],
)
def test_memory_that_runs_out_is_recognised_by_torch_s_words(words: str):
    def exhaust(pixels: np.ndarray) -> None:
        raise RuntimeError(words)

    (outcome,) = predict(
        brush_config(["red"]), ColourSegmenter(on_observe=exhaust), a=stripes("red")
    )

    assert isinstance(outcome, NotPredicted)
    assert outcome.reason.startswith("not enough memory for this picture")


def test_other_troubles_are_not_taken_for_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


class Servers:
    """Addresses such as `slow/3`: of the servers in `hanging` each takes all the time."""

    def __init__(self, *hanging: str) -> None:
        self.hanging, self.now = set(hanging), 0.0
        self.asked: list[str] = []

    def __call__(self) -> float:
        return self.now

    def server(self, address: str) -> str | None:
        return address.split("/")[0]

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        self.asked.append(address)
        if self.server(address) in self.hanging:
            self.now += timeout
            raise Unreachable("nobody answers in time")
        return address.encode()

    def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
        return stripes("red", width=4 + len(data))


def kinds(outcomes: list[Any]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


def test_a_server_that_hangs_is_waited_for_once_per_request():
    servers = Servers("slow")
    predictor = predictor_of(servers, clock=servers, fetch_timeout=20)

    outcomes = predictor.predict(request_of("slow/1", "slow/2", "good/1", "slow/3", "good/2"))
    predictor.close()

    assert servers.asked == ["slow/1", "good/1", "good/2"]
    assert kinds(outcomes) == [
        "NotPredicted",
        "NotPredicted",
        "Predicted",
        "NotPredicted",
        "Predicted",
    ]
    assert outcomes[3].reason == "slow did not answer in time for an earlier task"
    assert not outcomes[3].later


def test_the_next_request_tries_servers_that_hung_last():
    servers = Servers("a", "b", "c")
    predictor = predictor_of(servers, clock=servers, fetch_timeout=20)
    request = request_of("a/1", "b/1", "c/1", "good/1")

    first = predictor.predict(request)
    servers.asked.clear()
    second = predictor.predict(request)
    servers.hanging.clear()
    servers.asked.clear()
    third, forgiven = predictor.predict(request), list(servers.asked)
    servers.asked.clear()
    predictor.predict(request)
    predictor.close()

    assert kinds(first) == ["NotPredicted"] * 4
    assert servers.asked == ["a/1", "b/1", "c/1", "good/1"]
    assert kinds(second) == ["NotPredicted"] * 3 + ["Predicted"]
    assert forgiven == ["good/1", "a/1", "b/1", "c/1"]
    assert kinds(third) == ["Predicted"] * 4


def test_a_picture_that_is_missing_says_nothing_about_its_server():
    class Missing(Servers):
        def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
            self.asked.append(address)
            self.now += 1
            raise Unreachable("answered HTTP 500")

    servers = Missing()
    predictor = predictor_of(servers, clock=servers, fetch_timeout=20)

    predictor.predict(request_of("a/1", "a/2", "a/3"))
    predictor.close()

    assert servers.asked == ["a/1", "a/2", "a/3"]
