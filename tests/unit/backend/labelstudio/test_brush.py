"""Brush regions: opaque where painted, soft edges of the editor count from half."""

import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle

from backend.labelstudio.regions import brush


def test_painted_pixels_are_opaque_in_all_four_channels():
    mask = np.array([[True, False, True]])

    (region,) = brush.encode(
        mask, from_name="seg", to_name="image", label="Cat", region_id="a", score=None
    )

    rgba = decode_rle(region["value"]["rle"]).reshape(1, 3, 4)
    np.testing.assert_array_equal(rgba[0], [[255] * 4, [0] * 4, [255] * 4])
    assert region["value"]["format"] == "rle"


def test_half_opacity_is_where_painting_begins():
    edges = np.array([[0, 1, 127, 128, 255]], np.uint8)

    mask = brush.decode({"value": {"rle": mask2rle(edges)}}, size_hw=(1, 5))

    np.testing.assert_array_equal(mask, [[False, False, False, True, True]])
