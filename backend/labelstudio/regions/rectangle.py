"""RectangleLabels and Rectangle: the box around each connected piece (protocol notes §6)."""

import math

import numpy as np
from jaxtyping import Bool

from ..tasks import Region
from . import fill, percent
from .base import RegionControl, results
from .pieces import pieces


def encode(mask: Bool[np.ndarray, "height width"], control: RegionControl) -> list[Region]:
    """One upright box per piece, the largest piece first; none for an empty mask."""
    mask_hw = (mask.shape[0], mask.shape[1])
    regions = []
    for number, piece in enumerate(pieces(mask)):
        corners = np.array(piece.box_xyxy, np.float64).reshape(2, 2)
        (left, top), (right, bottom) = percent.from_pixels(corners, mask_hw).tolist()
        value = {
            "x": left,
            "y": top,
            "width": round(right - left, percent.DECIMALS),
            "height": round(bottom - top, percent.DECIMALS),
            "rotation": 0,
        }
        regions += results(control, value, size_hw=control.size_hw or mask_hw, number=number)
    return regions


def decode(region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Pixels whose centre lies inside; the box turns clockwise about its top left corner.

    It is turned in pixels: percent of width and of height are not equally long.
    Raises BadMask.
    """
    value = percent.value_of(region, "x", "y", "width", "height")
    height, width = size_hw
    across = percent.number(value, "width") / 100 * width
    down = percent.number(value, "height") / 100 * height
    turn = math.radians(percent.number(value, "rotation"))
    x_axis = np.array([math.cos(turn), math.sin(turn)]) * across
    y_axis = np.array([-math.sin(turn), math.cos(turn)]) * down
    corner = percent.number(value, "x") / 100 * width, percent.number(value, "y") / 100 * height
    return fill.ring(corner + np.stack([0 * x_axis, x_axis, x_axis + y_axis, y_axis]), size_hw)
