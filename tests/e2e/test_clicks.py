"""Prompts through Label Studio's own endpoint, as the editor sends them."""

from typing import Any

import numpy as np
import pytest

from backend.demo.label_studio_api import LabelStudioApi
from backend.labelstudio.regions import FORMATS

from .pictures import ColourPicture

TWO_OF_A_KIND = ColourPicture(
    size_hw=(240, 320), boxes={"red": (30, 40, 150, 120), "blue": (180, 150, 300, 220)}
)
CONFIG = """<View><Image name="photo" value="$image"/>
  <{tag} name="masks" toName="photo"><Label value="red"/><Label value="blue"/></{tag}>
  <KeyPointLabels name="tips" toName="photo" smart="true">
    <Label value="red"/><Label value="blue"/></KeyPointLabels>
  <RectangleLabels name="boxes" toName="photo" smart="true">
    <Label value="red"/><Label value="blue"/></RectangleLabels></View>"""


def point(x: float, y: float, label: str = "red", *, positive: bool = True) -> dict[str, Any]:
    """A key point in percent, in the form the editor sends."""
    return {
        "id": f"p{x}-{y}",
        "from_name": "tips",
        "to_name": "photo",
        "type": "keypointlabels",
        "origin": "manual",
        "original_width": 320,
        "original_height": 240,
        "image_rotation": 0,
        "is_positive": positive,
        "value": {"x": x, "y": y, "width": 0.26, "labels": [label], "keypointlabels": [label]},
    }


def box(left: float, top: float, width: float, height: float, label: str) -> dict[str, Any]:
    place = {"x": left, "y": top, "width": width, "height": height, "rotation": 0}
    return {
        "id": "b",
        "from_name": "boxes",
        "to_name": "photo",
        "type": "rectanglelabels",
        "origin": "manual",
        "original_width": 320,
        "original_height": 240,
        "image_rotation": 0,
        "value": {**place, "rectanglelabels": [label]},
    }


class Editor:
    """Asks for one task of one project what the editor would ask for."""

    def __init__(self, api: LabelStudioApi, service: str, tag: str) -> None:
        self.api, self.tag = api, tag
        project = api.create_project("clicks", CONFIG.format(tag=tag))
        (self.task,) = api.upload(project, {"two.png": TWO_OF_A_KIND.to_png()}).values()
        self.model = api.connect(project, service, is_interactive=True)["id"]

    def ask(self, *prompts: dict[str, Any]) -> dict[str, np.ndarray]:
        """Label -> mask of the answer."""
        answer = self.api.call(
            "POST",
            f"/api/ml/{self.model}/interactive-annotating",
            json={"task": self.task, "context": {"result": list(prompts)}},
        )
        assert not answer.get("errors"), answer
        masks: dict[str, np.ndarray] = {}
        for region in answer["data"]["result"]:
            kind = region["type"]
            assert kind == self.tag.lower()
            mask = FORMATS[kind].decode(region, TWO_OF_A_KIND.size_hw)
            (label,) = region["value"][kind]
            masks[label] = masks.get(label, np.zeros_like(mask)) | mask
        return masks


@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels", "PolygonLabels"])
def test_clicks_and_boxes_give_the_masks_that_are_meant(
    api: LabelStudioApi, service: str, tag: str
):
    editor = Editor(api, service, tag)
    red, blue = TWO_OF_A_KIND.truth("red"), TWO_OF_A_KIND.truth("blue")

    clicked = editor.ask(point(25, 30))
    other = editor.ask(point(75, 75, "blue"))
    refused = editor.ask(point(25, 30), point(40, 45, positive=False))
    boxed = editor.ask(box(50, 55, 50, 45, "blue"))

    assert clicked.keys() == {"red"}
    assert overlap(clicked["red"], red) > 0.97
    assert overlap(other["blue"], blue) > 0.97
    row, column = round(240 * 0.45), round(320 * 0.40)
    assert refused["red"][72, 80]
    assert not refused["red"][row, column]
    assert overlap(boxed["blue"], blue) > 0.97


def test_a_label_no_mask_has_gets_an_empty_answer(api: LabelStudioApi, service: str):
    editor = Editor(api, service, "BrushLabels")

    assert editor.ask(point(25, 30, "green")) == {}


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))
