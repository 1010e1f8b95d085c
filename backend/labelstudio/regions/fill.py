"""Shapes -> masks: a pixel is painted where its centre lies inside.

Overlaps of a shape with itself are painted, as a canvas does (nonzero winding). Shapes may reach
outside of the picture. Coordinates are pixels of the picture, see `percent`.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

BLOCK_PIXELS = 1 << 20  # windings held at once: 8 MB
THINNEST = 1e-6  # pixels of a radius; a smaller one holds no pixel's centre
BLOCK_CROSSINGS = 1 << 21  # edges that may cross rows at once: some 100 MB


def ring(
    points: Float[np.ndarray, "points 2"], size_hw: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """The inside of a closed ring of x, y; its last point is joined to its first.

    Every row's centre line is crossed with every edge; right of a crossing the winding number
    is one more or one less.
    """
    height, width = size_hw
    mask = np.zeros(size_hw, bool)
    if len(points) < 3:
        return mask
    following = np.roll(points, -1, axis=0)
    down = following[:, 1] > points[:, 1]
    # from top to bottom, so that a line there and back is crossed at one place to the last bit
    x0, y0 = np.where(down[:, None], points, following).T
    x1, y1 = np.where(down[:, None], following, points).T
    first = np.ceil(np.clip(y0 - 0.5, 0, height)).astype(np.int64)
    stop = np.ceil(np.clip(y1 - 0.5, 0, height)).astype(np.int64)
    sign = np.where(down, 1.0, -1.0)

    rows = max(1, min(BLOCK_PIXELS // width, BLOCK_CROSSINGS // len(points)))
    for top in range(int(first.min()), int(stop.max()), rows):
        bottom = min(top + rows, height)
        begin = np.maximum(first, top)
        counts = np.maximum(np.minimum(stop, bottom) - begin, 0)
        edge = np.repeat(np.arange(len(points)), counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - begin, counts)
        share = (row + 0.5 - y0[edge]) / (y1[edge] - y0[edge])
        crossing = x0[edge] + share * (x1[edge] - x0[edge])
        column = np.ceil(np.clip(crossing - 0.5, 0, width)).astype(np.int64)
        place = (row - top) * (width + 1) + column
        turns = np.bincount(place, sign[edge], minlength=(bottom - top) * (width + 1))
        winding = np.cumsum(turns.reshape(-1, width + 1), axis=1)
        mask[top:bottom] = winding[:, :width] != 0
    return mask


def ellipse(
    centre_xy: tuple[float, float],
    radii_xy: tuple[float, float],
    degrees: float,
    size_hw: tuple[int, int],
) -> Bool[np.ndarray, "height width"]:
    """The inside of an ellipse, turned clockwise about its centre; its rim belongs to it."""
    height, width = size_hw
    rx, ry = (abs(radius) for radius in radii_xy)
    if not (rx > THINNEST and ry > THINNEST):
        return np.zeros(size_hw, bool)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # a dx^2 + 2 b dx dy + c dy^2 <= 1, divided by a and solved for dx row by row
    a = (cos / rx) ** 2 + (sin / ry) ** 2
    b = cos * sin * (rx**-2 - ry**-2)
    dy = np.arange(height) + 0.5 - centre_xy[1]
    middle = centre_xy[0] - 0.5 - b / a * dy
    reach = 1 / a - (dy / (a * rx * ry)) ** 2  # b^2 - a c = -1 / (rx ry)^2
    half = np.sqrt(np.maximum(reach, 0.0))
    first = np.where(reach >= 0, np.ceil(np.clip(middle - half, 0, width)), width)
    last = np.floor(np.clip(middle + half, -1, width))
    columns = np.arange(width)
    return (columns >= first[:, None]) & (columns <= last[:, None])
