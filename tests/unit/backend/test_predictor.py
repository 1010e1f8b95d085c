"""Scores of tasks, and the JSON that is spliced rather than printed anew."""

import json

import numpy as np
import pytest

from backend.labelstudio.tasks import PredictRequest, Task
from backend.model_host import ModelHost
from backend.predictor import NotPredicted, Predicted, Predictor
from cliper_model import decide

from ...doubles.colours import ColourSegmenter, colour_source
from ...doubles.pictures import brush_config, stripes


class Album:
    """Pictures by address, as arrays."""

    def __init__(self, **pictures: np.ndarray) -> None:
        self.pictures = pictures

    def fetch(self, address: str, *, timeout: float) -> bytes:
        return address.encode()

    def decode(self, data: bytes) -> np.ndarray:
        return self.pictures[data.decode()]


def predict(config: str, segmenter: ColourSegmenter | None = None, **pictures: np.ndarray):
    model = ModelHost(colour_source(segmenter))
    model.start()
    model.join()
    predictor = Predictor(
        model, Album(**pictures), budget=60, fetch_timeout=5, waiting=2, cache_bytes=10**6
    )
    tasks = tuple(Task(name, {"image": name, "a": name, "b": name}) for name in pictures)
    try:
        return predictor.predict(PredictRequest(tasks=tasks, label_config=config))
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
