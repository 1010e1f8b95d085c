"""KeyPointLabels and KeyPoint: the innermost point of each connected piece (protocol notes §6).

A point carries no area; read back it is the disc the editor draws there.
"""

import cv2
import numpy as np
from jaxtyping import Bool

from ..tasks import Region
from . import fill, percent
from .base import RegionControl, results
from .pieces import Piece, pieces

RADIUS = 0.5  # `width`: percent of the picture's width; the editor's own points have 0.25 or so


def encode(mask: Bool[np.ndarray, "height width"], control: RegionControl) -> list[Region]:
    """One point per piece, the largest piece first; none for an empty mask."""
    mask_hw = (mask.shape[0], mask.shape[1])
    regions = []
    for number, piece in enumerate(pieces(mask)):
        ((x, y),) = percent.from_pixels(np.array([_innermost(piece)]), mask_hw).tolist()
        value = {"x": x, "y": y, "width": RADIUS}
        regions += results(control, value, size_hw=control.size_hw or mask_hw, number=number)
    return regions


def decode(region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """The disc as drawn, at least the pixel under a point of the picture. Raises BadMask.

    `width` is its radius in percent of the picture's width.
    """
    value = percent.value_of(region, "x", "y")
    height, width = size_hw
    x = percent.number(value, "x") / 100 * width
    y = percent.number(value, "y") / 100 * height
    radius = percent.number(value, "width", RADIUS) / 100 * width
    mask = fill.ellipse((x, y), (radius, radius), 0.0, size_hw)
    if 0 <= x <= width and 0 <= y <= height:
        mask[min(int(y), height - 1), min(int(x), width - 1)] = True
    return mask


def _innermost(piece: Piece) -> tuple[float, float]:
    """Centre of the pixel farthest from everything else; the picture's border counts too.

    Of several such pixels, as along the middle of a bar, the one nearest to the middle of them.
    """
    left, top = piece.box_xyxy[:2]
    padded = np.pad(piece.crop, 1).view(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    deepest = np.argwhere(depth == depth.max())
    row, column = deepest[np.argmin(((deepest - deepest.mean(axis=0)) ** 2).sum(axis=1))]
    return left + int(column) - 0.5, top + int(row) - 0.5
