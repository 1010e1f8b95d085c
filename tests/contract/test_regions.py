"""What every region format keeps: a mask survives the way into Label Studio and back."""

import inspect
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_studio_sdk.label_interface import LabelInterface

from backend.errors import BadMask
from backend.labelstudio.regions import FORMATS, TAGS, RegionControl, RegionFormat
from backend.labelstudio.regions.pieces import pieces

from ..doubles.smooth_masks import discs, iou, smooth_mask

KINDS = sorted(FORMATS)
LABELLED = [kind for kind in KINDS if kind.endswith("labels")]
PAIRED = [kind for kind in KINDS if not kind.endswith("labels")]
EXACT = ["brushlabels", "bitmasklabels"]
OUTLINES = ["polygonlabels", "vectorlabels"]
WHOLE = ["brush", "brushlabels", "bitmask", "bitmasklabels"]  # one region for the whole mask
AS_DRAWN = {"tolerance": 0.0, "most_points": 5_000}

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MASKS = SIZES.flatmap(lambda size: arrays(bool, size))
WEIRD = [
    np.ones((1, 1), bool),
    np.ones((1, 9), bool),
    np.ones((7, 1), bool),
    np.ones((6, 11), bool),
    np.eye(9, 13, dtype=bool),
    ~np.eye(8, dtype=bool),
    np.indices((7, 10)).sum(axis=0) % 2 == 0,
    np.pad(np.zeros((3, 4), bool), 1, constant_values=True),
    np.kron(np.indices((3, 3)).sum(axis=0) % 2 == 0, np.ones((3, 3), bool)),
]


def encode(kind, mask, **changes):
    facts = {"from_name": "tag", "to_name": "image", "label": "Cat", "region_id": "r1"}
    facts |= {} if kind in LABELLED else {"labels_name": "names"}
    control = RegionControl(kind=kind, **{**facts, "score": 0.5, **changes})
    return json.loads(json.dumps(FORMATS[kind].encode(mask, control)))  # as over the wire


def decode(kind, regions, size_hw):
    """All regions of the kind, joined; halves that only carry the label hold nothing new."""
    back = np.zeros(size_hw, bool)
    for region in regions:
        if region["type"] == kind:
            back |= FORMATS[kind].decode(region, size_hw)
    return back


def config(kind: str, alias: str = "") -> str:
    label, tag = f'<Label value="Cat" {alias}/>', TAGS[kind]
    inside = (
        f'<{tag} name="tag" toName="image">{label}</{tag}>'
        if kind in LABELLED
        else f'<{tag} name="tag" toName="image"/>'
        f'<Labels name="names" toName="image">{label}</Labels>'
    )
    return f'<View><Image name="image" value="$image"/>{inside}</View>'


@pytest.mark.parametrize("kind", EXACT)
@given(mask=MASKS)
@settings(max_examples=60, deadline=None)
def test_a_painted_mask_comes_back_as_it_went(kind: str, mask: np.ndarray):
    np.testing.assert_array_equal(decode(kind, encode(kind, mask), mask.shape), mask)


@pytest.mark.parametrize("kind", OUTLINES)
@given(mask=MASKS)
@settings(max_examples=60, deadline=None)
def test_an_outline_as_drawn_comes_back_as_it_went(kind: str, mask: np.ndarray):
    """Every slit may cost a pixel; without a hole there is none."""
    regions = encode(kind, mask, **AS_DRAWN)

    wrong = np.count_nonzero(decode(kind, regions, mask.shape) ^ mask)

    assert wrong <= holes(mask)


def holes(mask: np.ndarray) -> int:
    """Bare parts within, counted generously: those that share a side."""
    return max(0, sum(1 for _ in pieces(~np.pad(mask, 1))) - 1)


@pytest.mark.parametrize("mask", WEIRD, ids=lambda mask: "x".join(map(str, mask.shape)))
@pytest.mark.parametrize("kind", KINDS)
def test_strange_little_masks_are_covered_and_stay_in_the_picture(kind: str, mask: np.ndarray):
    regions = encode(kind, mask)

    back = decode(kind, regions, mask.shape)

    assert back.any()
    assert (back & mask).any()
    for x, y in corners(regions):
        assert 0 <= x <= 100
        assert 0 <= y <= 100
    assert LabelInterface(config(kind)).validate_prediction(
        {"result": regions, "score": 0.5, "model_version": "m"}
    )


def corners(regions):
    for region in regions:
        value = region["value"]
        yield from value.get("points", ())
        yield from ((one["x"], one["y"]) for one in value.get("vertices", ()))
        if "x" in value:
            yield value["x"], value["y"]
            if "height" in value:
                yield value["x"] + value["width"] - 1e-4, value["y"] + value["height"] - 1e-4


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kind", "least"),
    [*((kind, 1.0) for kind in EXACT), *((kind, 0.97) for kind in OUTLINES)],
)
def test_smooth_things_with_holes_at_the_border_survive(kind: str, least: float, seed: int):
    mask = smooth_mask((240, 330), seed)
    mask |= discs(mask.shape, (0, 0, 40), (240, 200, 50))
    mask &= ~discs(mask.shape, (120, 160, 25), (60, 90, 20), (190, 250, 15))

    regions = encode(kind, mask)

    assert iou(decode(kind, regions, mask.shape), mask) >= least


@pytest.mark.parametrize("kind", OUTLINES)
def test_a_hole_stays_a_hole_and_a_second_thing_a_region(kind: str):
    mask = discs((120, 160), (60, 50, 40), (60, 130, 20)) & ~discs((120, 160), (60, 50, 20))

    regions = encode(kind, mask)

    assert [region["id"] for region in regions] == ["r1", "r1-2"]
    first, second = (FORMATS[kind].decode(region, mask.shape) for region in regions)
    assert not first[60, 50]
    assert first[60, 20]
    assert not first[:, 100:].any()
    assert second[60, 130]


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_is_no_region(kind: str):
    assert encode(kind, np.zeros((5, 4), bool)) == []


@pytest.mark.parametrize("kind", LABELLED)
def test_a_region_says_whose_it_is_and_how_large_the_picture_is(kind: str):
    (region,) = encode(kind, np.ones((5, 4), bool))

    assert region["id"] == "r1"
    assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "image", kind)
    assert (region["original_width"], region["original_height"]) == (4, 5)
    assert region["image_rotation"] == 0
    assert region["value"][kind] == ["Cat"]
    assert region["score"] == 0.5
    assert "item_index" not in region


@pytest.mark.parametrize("kind", PAIRED)
def test_a_shape_and_its_label_are_two_results_of_one_id(kind: str):
    shape, label = encode(kind, np.ones((5, 4), bool), item_index=2)

    assert (shape["from_name"], shape["type"]) == ("tag", kind)
    assert (label["from_name"], label["type"]) == ("names", "labels")
    assert shape["id"] == label["id"] == "r1"
    assert label["value"] == {**shape["value"], "labels": ["Cat"]}
    assert shape["item_index"] == label["item_index"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_several_things_have_ids_of_their_own(kind: str):
    mask = np.zeros((20, 30), bool)
    mask[2:5, 3:8], mask[10:18, 15:28] = True, True

    ids = [region["id"] for region in encode(kind, mask) if region["type"] == kind]

    assert ids == (["r1"] if kind in WHOLE else ["r1", "r1-2"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_nobody_knows_is_left_out(kind: str):
    for region in encode(kind, np.ones((5, 4), bool), score=None):
        assert "score" not in region


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_a_list_says_which(kind: str):
    for region in encode(kind, np.ones((5, 4), bool), item_index=0):
        assert region["item_index"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_smaller_than_the_picture_covers_all_of_it(kind: str):
    mask = np.zeros((20, 30), bool)
    mask[4:16, 6:24] = True

    regions = encode(kind, mask, size_hw=(100, 90))
    back = decode(kind, regions, (100, 90))

    assert {(one["original_height"], one["original_width"]) for one in regions} == {(100, 90)}
    whole = np.zeros((100, 90), bool)
    whole[20:80, 18:72] = True
    assert back[45:55, 40:50].any()
    if "keypoint" in kind:
        assert not (back & ~whole).any()
    else:
        assert iou(back, whole) >= (0.8 if "ellipse" in kind else 0.98)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alias", ["", 'alias="tabby"'])
def test_label_studio_s_own_validation_accepts_it(kind: str, alias: str):
    label = "tabby" if alias else "Cat"
    for mask in (np.eye(6, dtype=bool), np.ones((3, 5), bool), smooth_mask((60, 90), 1)):
        prediction = {
            "result": encode(kind, mask, label=label),
            "score": 0.5,
            "model_version": "demo-cliper-1a2b3c4d",
        }

        found = LabelInterface(config(kind, alias)).validate_prediction(
            prediction, return_errors=True
        )

        assert found == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("region", [{}, {"value": {}}, {"value": None}])
def test_a_region_without_a_mask_is_refused(kind: str, region: dict):
    with pytest.raises(BadMask):
        FORMATS[kind].decode(region, (5, 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", ["text", True, float("nan"), float("inf"), 10**400, [], {}])
def test_a_value_with_something_else_for_numbers_is_refused(kind: str, wrong: object):
    (region, *_) = encode(kind, np.ones((5, 4), bool))
    name, good = next(
        (name, good) for name, good in region["value"].items() if name not in ("format", "width")
    )
    value = {**region["value"], name: [[wrong, 1]] * 3 if isinstance(good, list) else wrong}

    with pytest.raises(BadMask):
        FORMATS[kind].decode({**region, "value": value}, (5, 4))


def test_every_format_has_a_tag_and_every_tag_a_format():
    assert set(FORMATS) == set(TAGS)
    assert all(tag.lower() == kind for kind, tag in TAGS.items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_called_in_the_same_words(kind: str):
    for name in ("encode", "decode"):
        wall, ours = (getattr(one, name) for one in (RegionFormat, FORMATS[kind]))

        assert list(inspect.signature(ours).parameters) == [
            parameter for parameter in inspect.signature(wall).parameters if parameter != "self"
        ]
