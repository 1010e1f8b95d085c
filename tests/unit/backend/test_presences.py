"""How likely every label is in a picture: told to whoever asks, and to nobody else."""

import json

import pytest

from backend.labelstudio.tasks import Task
from backend.outcomes import ImageResult, Predicted, Presence

from ...doubles.pictures import brush_config, stripes
from .test_predictor import Album, predictor_of

TWO_CONTROLS = """<View><Image name="i" value="$image"/>
  <BrushLabels name="one" toName="i"><Label value="red"/><Label value="blue"/></BrushLabels>
  <BrushLabels name="two" toName="i"><Label value="red"/><Label value="green"/></BrushLabels>
  <Taxonomy name="tree" toName="i" model_fill="true"><Choice value="warm"><Choice value="yellow"/>
  </Choice></Taxonomy></View>"""
RESULT = ImageResult(regions=b"[]", area=0.0, weighted_score=0.0, presence=0.4)


def streamed(config: str, **options) -> Predicted:
    picture = stripes("red", "green", height=12, width=8)
    predictor = predictor_of(Album(a=picture))
    try:
        desk = predictor.desk(config)
        tasks = [Task(1, {"image": "a"})]
        ((_, outcome),) = predictor.stream(tasks, desk, **options)
    finally:
        predictor.close()
    assert isinstance(outcome, Predicted)
    return outcome


def test_labels_that_are_not_found_are_told_too():
    (presences,) = streamed(brush_config(["red", "blue"])).presences

    assert [(one.control, one.label) for one in presences] == [("seg", "red"), ("seg", "blue")]
    assert [one.value for one in presences] == pytest.approx([0.9, 0.0])


def test_a_label_that_another_control_writes_is_told_once_and_a_choice_with_its_path():
    (presences,) = streamed(TWO_CONTROLS).presences

    assert [(one.control, one.label) for one in presences] == [
        ("one", "red"),
        ("one", "blue"),
        ("two", "green"),
        ("tree", "warm/yellow"),
    ]


def test_label_studio_hears_nothing_of_them():
    assert set(json.loads(streamed(brush_config(["red"])).to_json())) == {
        "result",
        "score",
        "model_version",
    }


def test_they_count_where_memory_is_counted():
    told = ImageResult(**{**vars(RESULT), "presences": (Presence("a", "b", 0.5),) * 34})

    assert told.nbytes >= RESULT.nbytes + 34 * 100


def test_they_outlive_the_process_and_results_from_before_them_are_read():
    told = ImageResult(**{**vars(RESULT), "presences": (Presence("a", "b", 0.5),)})

    assert ImageResult.from_bytes(told.to_bytes()) == told
    header, _, regions = told.to_bytes().partition(b"\n")
    older = {name: value for name, value in json.loads(header).items() if name != "presences"}
    assert ImageResult.from_bytes(json.dumps(older).encode() + b"\n" + regions) == RESULT


def test_whoever_asks_is_shown_the_pictures():
    shown = []

    streamed(
        brush_config(["red"]),
        sees=lambda task, view, pixels: shown.append((task.id, view.address, pixels.shape)),
    )

    assert shown == [(1, "a", (12, 16, 3))]


def test_a_viewer_that_fails_spoils_that_picture_only():
    def broken(*_: object) -> None:
        raise ValueError

    predictor = predictor_of(Album(a=stripes("red")))
    try:
        desk = predictor.desk(brush_config(["red"]))
        outcomes = [
            one for _, one in predictor.stream([Task(1, {"image": "a"})], desk, sees=broken)
        ]
    finally:
        predictor.close()

    assert [one.reason for one in outcomes] == ["the picture could not be had (ValueError)"]
