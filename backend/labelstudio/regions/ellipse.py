"""EllipseLabels and Ellipse: the ellipse with the second moments of each connected piece.

It has the piece's centre, direction and spread; a piece that is an ellipse is met exactly
(protocol notes §6 for the fields).
"""

import math

import cv2
import numpy as np
from jaxtyping import Bool

from ..tasks import Region
from . import fill, percent
from .base import RegionControl, results
from .pieces import Piece, pieces

LONGEST_RADIUS = 50.0  # percent; Label Studio's validation refuses more
PIXEL_VARIANCE = 1 / 12  # of a pixel's own square, along either side


def encode(mask: Bool[np.ndarray, "height width"], control: RegionControl) -> list[Region]:
    """One ellipse per piece, the largest piece first; none for an empty mask.

    A radius beyond half of the picture's side is cut to it.
    """
    mask_hw = (mask.shape[0], mask.shape[1])
    size_hw = control.size_hw or mask_hw
    regions = []
    for number, piece in enumerate(pieces(mask)):
        value = _value(piece, mask_hw, size_hw)
        regions += results(control, value, size_hw=size_hw, number=number)
    return regions


def decode(region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Pixels whose centre lies inside; it turns clockwise about its centre. Raises BadMask."""
    value = percent.value_of(region, "x", "y", "radiusX", "radiusY")
    across, down = size_hw[1] / 100, size_hw[0] / 100
    return fill.ellipse(
        (percent.number(value, "x") * across, percent.number(value, "y") * down),
        (percent.number(value, "radiusX") * across, percent.number(value, "radiusY") * down),
        percent.number(value, "rotation"),
        size_hw,
    )


def _value(piece: Piece, mask_hw: tuple[int, int], size_hw: tuple[int, int]) -> dict[str, float]:
    across, down = size_hw[1] / mask_hw[1], size_hw[0] / mask_hw[0]
    left, top = piece.box_xyxy[:2]
    found = cv2.moments(piece.crop.view(np.uint8), binaryImage=True)
    area = found["m00"]
    centre = np.array(
        [
            [
                (left + found["m10"] / area + 0.5) * across,
                (top + found["m01"] / area + 0.5) * down,
            ]
        ]
    )
    spread_x = (found["mu20"] / area + PIXEL_VARIANCE) * across**2
    spread_y = (found["mu02"] / area + PIXEL_VARIANCE) * down**2
    together = found["mu11"] / area * across * down

    # eigenvalues of [[spread_x, together], [together, spread_y]]; radius = 2 standard deviations
    middle, apart = (spread_x + spread_y) / 2, math.hypot((spread_x - spread_y) / 2, together)
    long, short = 2 * math.sqrt(middle + apart), 2 * math.sqrt(max(middle - apart, 0.0))
    degrees = math.degrees(math.atan2(2 * together, spread_x - spread_y) / 2) % 180
    height, width = size_hw
    lying = long / width * 100, short / height * 100, degrees
    upright = short / width * 100, long / height * 100, (degrees + 90) % 180
    radius_x, radius_y, degrees = min(lying, upright, key=_beyond)
    ((x, y),) = percent.from_pixels(centre, size_hw).tolist()
    return {
        "x": x,
        "y": y,
        "radiusX": round(min(radius_x, LONGEST_RADIUS), percent.DECIMALS),
        "radiusY": round(min(radius_y, LONGEST_RADIUS), percent.DECIMALS),
        "rotation": round(degrees, percent.DECIMALS) % 180,
    }


def _beyond(turned: tuple[float, float, float]) -> float:
    """How much of both radii would be cut off; one ellipse can be written in two ways."""
    return sum(max(0.0, radius - LONGEST_RADIUS) for radius in turned[:2])
