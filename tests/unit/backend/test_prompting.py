"""Clicks and boxes as the editor sends them -> what is asked, and who answers."""

from typing import Any

import pytest

from backend.labelstudio.label_config import parse
from backend.plan import vocabularies
from backend.prompting import Prompt, read, target

CONFIG = """<View><Image name="photo" value="$image"/>
  <RectangleLabels name="plain" toName="photo"><Label value="box"/></RectangleLabels>
  <BrushLabels name="masks" toName="photo">
    <Label value="red" alias="r"/><Label value="blue"/></BrushLabels>
  <KeyPointLabels name="tips" toName="photo" smart="true">
    <Label value="red" alias="r"/><Label value="blue"/></KeyPointLabels></View>"""


def point(x: float, y: float, label: str = "red", **fields: Any) -> dict[str, Any]:
    """As captured from the editor of Label Studio 1.23.2."""
    return {
        "value": {"x": x, "y": y, "width": 0.26, "labels": [label], "keypointlabels": [label]},
        "is_positive": True,
        "from_name": "tips",
        "to_name": "photo",
        "type": "keypointlabels",
        "origin": "manual",
        **fields,
    }


def box(x: float, y: float, width: float, height: float, label: str = "red") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    return {
        "value": {**value, "rectanglelabels": [label]},
        "from_name": "boxes",
        "to_name": "photo",
        "type": "rectanglelabels",
    }


def test_clicks_add_and_take_away():
    prompt = read({"result": [point(30, 20), point(70, 45, is_positive=False)]})

    assert prompt == Prompt(
        label="red", to_name="photo", positive=((0.3, 0.2),), negative=((0.7, 0.45),)
    )


def test_a_click_without_a_sign_adds():
    item = point(30, 20)
    del item["is_positive"]

    prompt = read({"result": [item]})

    assert prompt is not None
    assert prompt.positive == ((0.3, 0.2),)


def test_boxes_are_corners_of_the_picture():
    prompt = read({"result": [box(10, 20, 30, 40)]})

    assert prompt is not None
    assert prompt.boxes == ((0.1, 0.2, pytest.approx(0.4), pytest.approx(0.6)),)


def test_of_a_turned_rectangle_the_box_around_it_counts():
    item = box(50, 10, 30, 10)
    item["value"]["rotation"] = 90  # about its top left corner, on a picture twice as wide as high
    item |= {"original_width": 200, "original_height": 100}

    prompt = read({"result": [item]})

    assert prompt is not None
    (found,) = prompt.boxes
    assert found == pytest.approx((0.45, 0.1, 0.5, 0.7))


def test_a_tool_with_its_labels_beside_it_sends_two_items_that_are_one_prompt():
    value = {"x": 30, "y": 20, "width": 0.26, "labels": ["red"]}
    own = point(30, 20, type="keypoint", value=value)
    labels = point(30, 20, type="labels", from_name="names", value=value)

    assert read({"result": [own, labels]}) == Prompt(
        label="red", to_name="photo", positive=((0.3, 0.2),)
    )


def test_the_newest_prompt_says_which_label_is_meant():
    prompt = read({"result": [point(1, 1, "blue"), point(2, 2), point(3, 3, "blue")]})

    assert prompt is not None
    assert (prompt.label, len(prompt.positive)) == ("blue", 2)


def test_a_prompt_in_a_list_of_pictures_knows_which():
    prompt = read({"result": [point(1, 1, item_index=2)]})

    assert prompt is not None
    assert prompt.index == 2


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"type": "keypointlabels"},
        point(1, 1, value={"x": 1, "y": 1}),
        point(1, 1, value={"x": "a", "y": 1, "keypointlabels": ["red"]}),
        point(float("nan"), 1),
        box(10, 10, 0, 20),
        point(1, 1, type="ellipselabels"),
    ],
    ids=str,
)
def test_what_is_no_prompt_is_passed_over(item: dict[str, Any]):
    assert read({"result": [item]}) is None
    found = read({"result": [item, point(30, 20)]})
    assert found is not None
    assert found.positive == ((0.3, 0.2),)


@pytest.mark.parametrize("context", [{}, {"result": None}, {"result": []}, {"result": [3]}])
def test_no_prompts_ask_for_nothing(context: dict[str, Any]):
    assert read(context) is None


@pytest.mark.parametrize(("label", "number"), [("r", 0), ("red", 0), ("blue", 1)])
def test_the_answer_goes_to_the_mask_that_has_the_label(label: str, number: int):
    wanted = vocabularies(parse(CONFIG), ())

    found = target(Prompt(label=label, to_name="photo"), wanted)

    assert found is not None
    assert (found[0].control.from_name, found[1]) == ("masks", number)


@pytest.mark.parametrize(("label", "picture"), [("box", "photo"), ("red", "other"), ("x", "photo")])
def test_where_no_mask_has_the_label_nobody_answers(label: str, picture: str):
    assert target(Prompt(label=label, to_name=picture), vocabularies(parse(CONFIG), ())) is None
