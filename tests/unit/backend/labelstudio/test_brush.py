"""Brush regions: opaque where painted, soft edges of the editor count from half."""

import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle

from backend.labelstudio.regions import RegionControl, brush


def test_painted_pixels_are_opaque_in_all_four_channels():
    mask = np.array([[True, False, True]])

    control = RegionControl(
        from_name="seg", to_name="image", kind="brushlabels", label="Cat", region_id="a"
    )

    (region,) = brush.encode(mask, control)

    rgba = decode_rle(region["value"]["rle"]).reshape(1, 3, 4)
    np.testing.assert_array_equal(rgba[0], [[255] * 4, [0] * 4, [255] * 4])
    assert region["value"]["format"] == "rle"


def test_half_opacity_is_where_painting_begins():
    edges = np.array([[0, 1, 127, 128, 255]], np.uint8)

    mask = brush.decode({"value": {"rle": mask2rle(edges)}}, (1, 5))

    np.testing.assert_array_equal(mask, [[False, False, False, True, True]])
