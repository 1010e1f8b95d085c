"""`Looking.segmented`: what would be written of a picture, and what led there."""

import json
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from backend.errors import CouldNotPredict
from backend.labelstudio.regions import FORMATS
from backend.labelstudio.tasks import Task
from backend.looking import Looking, Picture
from backend.metrics.meters import Meters
from backend.model_pool import ModelChoice
from backend.outcomes import ImageResult
from backend.painting import masks
from backend.plan import ConfigReader, View
from cliper_model import decide

from ...doubles.colours import IDENTITY, ColourSegmenter
from ...doubles.pictures import brush_config, stripes

CONFIG = """<View><Image name="image" value="$image"/>
  <BrushLabels name="masks" toName="image" model_smooth="2" model_score_threshold="0.3">
    <Label value="red"/><Label value="green"/><Label value="Background" model_fill="true"/>
  </BrushLabels>
  <Choices name="said" toName="image" choice="multiple" model_fill="true"><Choice value="blue"/>
    <Choice value="yellow"/></Choices></View>"""


def view_of(config: str = CONFIG) -> View:
    plan = ConfigReader({}).read(config, {}).plan({ModelChoice(): IDENTITY}, None)
    (view,) = plan.views(Task(1, {"image": "flag.png"}))
    return view


def picture(name: str = "flag") -> Picture:
    return Picture(name, 1, lambda: stripes("red", "green", "blue", height=12, width=10))


def looking(**more: object) -> Looking:
    return Looking(state_bytes=10_000_000, brush_megapixels=25.0, **more)  # type: ignore[arg-type]


def test_every_control_has_its_scores_its_decision_and_what_was_decided():
    found = looking().segmented(picture(), view_of(), {ModelChoice(): ColourSegmenter()})

    brush, said = found
    assert (brush.one.control.from_name, said.one.control.from_name) == ("masks", "said")
    assert brush.vocabulary.labels == brush.scores.labels == ("red", "green")
    assert (brush.decision.smooth, brush.decision.presence_threshold) == (2, (0.3, 0.3))
    assert (brush.size_hw, brush.quality) == ((12, 30), None)
    assert np.array_equal(
        brush.segmentation.label_map, decide(brush.scores, brush.decision).label_map
    )
    assert said.segmentation.presence.tolist() == pytest.approx([0.9, 0.0])


def test_what_is_segmented_is_what_is_written():
    segmenters = {ModelChoice(): ColourSegmenter()}
    view, one = view_of(), looking()

    brush, _ = one.segmented(picture(), view, segmenters)
    result = one.result(picture(), view, segmenters, seed="")

    written = {
        region["value"]["brushlabels"][0]: FORMATS["brushlabels"].decode(region, brush.size_hw)
        for region in json.loads(result.regions)
        if region["type"] == "brushlabels"
    }
    drawn = {label.name: mask for label, mask in masks(brush.painted, size_hw=brush.size_hw)}
    assert list(written) == list(drawn) == ["red", "green", "Background"]
    for name, mask in drawn.items():
        assert np.array_equal(mask, written[name])


def test_pieces_that_are_not_written_are_not_in_the_masks():
    """Of all labels together the largest two."""

    def spots() -> np.ndarray:
        pixels = stripes("white", height=20, width=40)
        pixels[2:8, 2:8] = pixels[12:15, 20:23] = (255, 0, 0)
        pixels[2:7, 30:35] = (0, 0, 255)
        return pixels

    view = view_of(brush_config(["red", "blue"], 'model_instances="true" model_max_regions="2"'))
    (found,) = looking().segmented(
        Picture("spots", 1, spots), view, {ModelChoice(): ColourSegmenter()}
    )

    drawn = {label.name: mask for label, mask in masks(found.painted, size_hw=found.size_hw)}
    assert {name: np.count_nonzero(mask) for name, mask in drawn.items()} == {"red": 36, "blue": 25}
    assert np.count_nonzero(found.segmentation.mask(0)) == 36 + 9


def test_masks_are_as_large_as_the_picture_displayed():
    view = view_of(brush_config(["red"]))
    (found,) = looking().segmented(picture(), view, {ModelChoice(): ColourSegmenter()})

    ((_, mask),) = masks(found.painted, size_hw=(24, 60))

    assert mask.shape == (24, 60)
    assert mask[:, :20].all()
    assert not mask[:, 20:].any()


def test_others_go_first_between_its_steps_and_it_looks_once():
    others: list[int] = []

    def let_by() -> float:
        others.append(1)
        return 0.0

    segmenter = ColourSegmenter()
    one = looking(let_by=let_by)
    one.segmented(picture(), view_of(), {ModelChoice(): segmenter})
    one.segmented(picture(), view_of(), {ModelChoice(): segmenter})

    assert len(others) == 2 * 2 * 2  # twice, two controls, before scores and before a decision
    assert len(segmenter.looks) == 1


class Notes:
    """Stands for the store; it never knows a look."""

    def __init__(self, order: list[str]) -> None:
        self.order = order

    def look(self, *asked: object) -> None:
        return None

    def keep_look(self, *told: object, nbytes: int) -> None:
        self.order.append("to the store")


class Stages(Meters):
    """Notes which stages were measured, in their order."""

    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self.order = order

    def stage_took(self, name: str, seconds: float) -> None:
        self.order.append(name)


@pytest.mark.parametrize("fails", [False, True])
def test_a_look_goes_to_the_store_after_the_masks_are_made(fails: bool):
    order: list[str] = []

    class Noting(ColourSegmenter):
        def score(self, state: Any, vocabulary: Any) -> Any:
            if fails:
                raise ValueError("no idea")
            return super().score(state, vocabulary)

    one = looking(keeping=Notes(order), meters=Stages(order))
    view, segmenters = view_of(brush_config(["red"])), {ModelChoice(): Noting()}
    if fails:
        with pytest.raises(CouldNotPredict, match="the model failed on this picture"):
            one.result(picture(), view, segmenters, seed="")
    else:
        one.result(picture(), view, segmenters, seed="")

    made = ["score"] if fails else ["score", "decide", "write"]
    assert order == ["read", "look", *made, "to the store"]


def test_whoever_goes_by_and_looks_at_the_same_picture_looks_for_both():
    """A person asks with other words for what a batch is at."""
    view, other = view_of(brush_config(["red"])), view_of(brush_config(["green", "blue"]))
    people, found = ["somebody"], list[ImageResult]()

    class Stepping(ColourSegmenter):
        def observe_in_steps(self, image: np.ndarray) -> Generator[None, None, Any]:
            yield
            yield
            return self.observe(image)

    def let_by() -> float:
        if people:
            people.clear()
            found.append(one.result(picture(), other, segmenters, seed=""))
        return 1.0

    order: list[str] = []
    one = looking(keeping=Notes(order), let_by=let_by)
    segmenter = Stepping()
    segmenters = {ModelChoice(): segmenter}

    result = one.result(picture(), view, segmenters, seed="")

    assert one.looks == len(segmenter.looks) == 1
    assert order == ["to the store"]
    alone, alone_too = (
        looking().result(picture(), asked, segmenters, seed="") for asked in (view, other)
    )
    assert (result, found[0]) == (alone, alone_too)


def test_what_is_not_kept_is_looked_at_again():
    segmenter = ColourSegmenter()
    one = looking()
    for _ in range(2):
        one.segmented(picture(), view_of(), {ModelChoice(): segmenter}, keep=False)

    assert len(segmenter.looks) == 2


def test_what_the_model_stumbles_over_is_one_sentence(caplog: pytest.LogCaptureFixture):
    def stumble(pixels: np.ndarray) -> None:
        raise RuntimeError("inside")

    with pytest.raises(CouldNotPredict, match="the model failed on this picture"):
        looking().segmented(
            picture(), view_of(), {ModelChoice(): ColourSegmenter(on_observe=stumble)}
        )


def test_scores_that_are_no_numbers_draw_nothing():
    view = view_of(brush_config(["red"]))
    (found,) = looking().segmented(picture(), view, {ModelChoice(): ColourSegmenter()})
    found.segmentation.presence[0] = np.nan

    with pytest.raises(CouldNotPredict, match="no finite scores"):
        list(masks(found.painted, size_hw=found.size_hw))
