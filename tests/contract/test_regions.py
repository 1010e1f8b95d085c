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
from backend.labelstudio.label_config import CONTROL_TAGS
from backend.labelstudio.regions import FORMATS, RegionControl, RegionFormat

KINDS = sorted(FORMATS)
SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MASKS = SIZES.flatmap(lambda size: arrays(bool, size))


def encode(kind, mask, **changes):
    facts = {"from_name": "tag", "to_name": "image", "label": "Cat", "region_id": "r1"}
    control = RegionControl(kind=kind, **{**facts, "score": 0.5, **changes})
    return FORMATS[kind].encode(mask, control)


@pytest.mark.parametrize("kind", KINDS)
@given(mask=MASKS)
@settings(max_examples=60, deadline=None)
def test_a_mask_comes_back_as_it_went(kind: str, mask: np.ndarray):
    regions = json.loads(json.dumps(encode(kind, mask)))  # as over the wire

    back = np.zeros_like(mask)
    for region in regions:
        back |= FORMATS[kind].decode(region, mask.shape)

    np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_is_no_region(kind: str):
    assert encode(kind, np.zeros((5, 4), bool)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_says_whose_it_is_and_how_large_the_picture_is(kind: str):
    (region,) = encode(kind, np.ones((5, 4), bool))

    assert region["id"] == "r1"
    assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "image", kind)
    assert (region["original_width"], region["original_height"]) == (4, 5)
    assert region["image_rotation"] == 0
    assert region["value"][kind] == ["Cat"]
    assert region["score"] == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_nobody_knows_is_left_out(kind: str):
    (region,) = encode(kind, np.ones((5, 4), bool), score=None)

    assert "score" not in region


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alias", ["", 'alias="tabby"'])
def test_label_studio_s_own_validation_accepts_it(kind: str, alias: str):
    tag = CONTROL_TAGS[kind]
    config = (
        f'<View><Image name="image" value="$image"/><{tag} name="tag" toName="image">'
        f'<Label value="Cat" {alias}/></{tag}></View>'
    )
    label = "tabby" if alias else "Cat"
    prediction = {
        "result": encode(kind, np.eye(6, dtype=bool), label=label),
        "score": 0.5,
        "model_version": "demo-cliper-1a2b3c4d",
    }

    problems = LabelInterface(config).validate_prediction(prediction, return_errors=True)

    assert problems == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("region", [{}, {"value": {}}, {"value": None}])
def test_a_region_without_a_mask_is_refused(kind: str, region: dict):
    with pytest.raises(BadMask):
        FORMATS[kind].decode(region, (5, 4))


def test_every_format_has_a_tag_and_every_tag_a_format():
    assert set(FORMATS) == set(CONTROL_TAGS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_called_in_the_same_words(kind: str):
    for name in ("encode", "decode"):
        wall, ours = (getattr(one, name) for one in (RegionFormat, FORMATS[kind]))

        assert list(inspect.signature(ours).parameters) == [
            parameter for parameter in inspect.signature(wall).parameters if parameter != "self"
        ]
