"""Segmentations -> regions: sizes, pieces, answers."""

import json

import numpy as np
import pytest

from backend.labelstudio.label_config import CONTROL_TAGS, parse
from backend.labelstudio.regions import FORMATS, TAGS
from backend.outcomes import ImageResult, combined
from backend.painting import Painted, image_result
from backend.plan import vocabularies
from cliper_model import Decision, Segmentation

SMALL, LARGE = (30, 40), (90, 120)


def found(
    *boxes: tuple[int, int, int, int], presence: tuple[float, ...] = (0.8, 0.1)
) -> Segmentation:
    """The first of two labels in boxes of a small map; the second nowhere."""
    label_map = np.zeros(SMALL, np.int32)
    for left, top, right, bottom in boxes:
        label_map[top:bottom, left:right] = 1
    return Segmentation(
        labels=("cat", "dog"),
        label_map=label_map,
        confidence=np.array([0.5, 0.0], np.float32),
        presence=np.array(presence, np.float32),
    )


def painted(
    tag: str, segmentation: Segmentation, attributes: str = "", *, index: int | None = None
) -> list[dict]:
    labels = '<Label value="cat"/><Label value="dog"/>'
    inside = (
        f'<{tag} name="seg" toName="image" {attributes}>{labels}</{tag}>'
        if tag.endswith("Labels")
        else f'<Labels name="words" toName="image">{labels}</Labels>'
        f'<{tag} name="seg" toName="image" {attributes}/>'
    )
    result = result_of(inside, segmentation, index=index)
    return json.loads(result.regions)


def result_of(inside: str, segmentation: Segmentation, *, index: int | None = None) -> ImageResult:
    config = f'<View><Image name="image" value="$image"/>{inside}</View>'
    (one,) = vocabularies(parse(config), ())
    each = Painted(one=one, segmentation=segmentation, decision=one.decision(Decision()))
    return image_result([each], size_hw=LARGE, index=index, seed="s")


@pytest.mark.parametrize("kind", sorted(TAGS))
def test_a_map_smaller_than_the_picture_covers_all_of_it(kind: str):
    regions = painted(TAGS[kind], found((10, 5, 30, 25)))

    (region,) = (one for one in regions if one["type"] == kind)
    assert (region["original_width"], region["original_height"]) == (120, 90)
    mask = FORMATS[kind].decode(region, LARGE)
    truth = np.zeros(LARGE, bool)
    truth[15:75, 30:90] = True
    if kind.startswith("keypoint"):
        assert truth[mask].all()
    elif kind.startswith("ellipse"):
        assert (mask & truth).sum() / (mask | truth).sum() > 0.75
    else:
        assert (mask & truth).sum() / (mask | truth).sum() > 0.97


@pytest.mark.parametrize("tag", ["PolygonLabels", "RectangleLabels", "KeyPointLabels", "Polygon"])
def test_shapes_are_written_piece_by_piece_the_largest_first(tag: str):
    regions = painted(tag, found((2, 2, 8, 8), (12, 2, 38, 28)))

    own = [one for one in regions if one["type"] == tag.lower()]
    assert len(own) == 2
    areas = [FORMATS[tag.lower()].decode(one, LARGE).sum() for one in own]
    assert areas[0] >= areas[1]
    assert len({one["id"] for one in own}) == 2


def test_a_region_of_a_list_of_pictures_says_which():
    (region,) = painted("BrushLabels", found((2, 2, 8, 8)), index=3)

    assert region["item_index"] == 3


def test_equal_pictures_give_equal_regions_and_others_give_other_ids():
    one, again = (painted("BrushLabels", found((2, 2, 8, 8))) for _ in range(2))

    assert one == again


def test_score_and_area_follow_the_masks():
    result = result_of(
        '<BrushLabels name="seg" toName="image"><Label value="cat"/><Label value="dog"/>'
        "</BrushLabels>",
        found((0, 0, 20, 30)),
    )

    assert result.area == pytest.approx(0.5)
    assert result.weighted_score == pytest.approx(0.5 * 0.8 * 0.5)
    assert result.presence == pytest.approx(0.8)


ANSWER = '<{tag} name="what" toName="image" model_fill="true" {more}>{choices}</{tag}>'
CHOICES = '<Choice value="cat" alias="c"/><Choice value="dog"/>'


@pytest.mark.parametrize(
    ("more", "presence", "chosen"),
    [
        ("", (0.8, 0.1), [["c"]]),
        ('choice="multiple"', (0.6, 0.9), [["dog", "c"]]),
        ("", (0.6, 0.9), [["dog"]]),
        ('choice="multiple"', (0.1, 0.2), []),
        ('choice="multiple" model_score_threshold="0.05"', (0.1, 0.2), [["dog", "c"]]),
    ],
)
def test_choices_are_what_is_there_the_likeliest_first(more: str, presence, chosen):
    result = result_of(
        ANSWER.format(tag="Choices", more=more, choices=CHOICES), found(presence=presence)
    )

    assert [one["value"]["choices"] for one in json.loads(result.regions)] == chosen
    assert result.area == 0


def test_a_sure_answer_is_a_sure_task():
    sure = result_of(ANSWER.format(tag="Choices", more="", choices=CHOICES), found())
    nothing = result_of(
        ANSWER.format(tag="Choices", more="", choices=CHOICES), found(presence=(0.1, 0.2))
    )

    assert combined([sure], "v").score == pytest.approx(0.8)
    assert combined([nothing], "v").score == pytest.approx(0.8)


def test_crumbs_that_touch_over_a_corner_are_dropped_too():
    crumb = found((2, 2, 20, 20), (20, 20, 21, 21))

    assert len(painted("RectangleLabels", crumb, 'model_min_area="1%"')) == 1
    assert len(painted("RectangleLabels", crumb, 'model_min_area="0"')) == 2


def test_a_taxonomy_is_answered_with_the_whole_way():
    choices = f'<Choice value="animal" alias="a">{CHOICES}</Choice>'

    (answer,) = json.loads(
        result_of(ANSWER.format(tag="Taxonomy", more="", choices=choices), found()).regions
    )

    assert answer["value"] == {"taxonomy": [["a", "c"]]}
    assert CONTROL_TAGS[answer["type"]] == "Taxonomy"
