"""PolygonLabels and Polygon: one ring per connected piece, holes cut open (protocol notes §6)."""

import numpy as np
from jaxtyping import Bool

from ...errors import BadMask
from ..tasks import Region
from . import fill, outline, percent
from .base import RegionControl, results
from .pieces import pieces


def encode(mask: Bool[np.ndarray, "height width"], control: RegionControl) -> list[Region]:
    """One region per piece, the largest first; none for an empty mask."""
    size_hw = control.size_hw or (mask.shape[0], mask.shape[1])
    regions = []
    for number, piece in enumerate(pieces(mask)):
        ring = outline.trace(piece, (mask.shape[0], mask.shape[1]), control)
        value = {"points": ring.tolist(), "closed": True}
        regions += results(control, value, size_hw=size_hw, number=number)
    return regions


def decode(region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Pixels whose centre lies inside; rings people drew may cross themselves. Raises BadMask.

    A ring that was never closed is read as the editor fills it: closed.
    """
    points = percent.points(percent.value_of(region, "points")["points"])
    if not len(points):
        raise BadMask("the region's polygon has no points")
    return fill.ring(percent.to_pixels(points, size_hw), size_hw)
