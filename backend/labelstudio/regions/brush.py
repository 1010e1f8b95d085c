"""BrushLabels and Brush: a mask as run-length encoded opacity (protocol notes §6)."""

import numpy as np
from jaxtyping import Bool

from ...errors import BadMask
from .. import rle
from ..tasks import Region
from .base import RegionControl, results

OPAQUE = 255
VISIBLE = 128  # strokes of the editor have soft edges; half opacity counts as painted


def encode(mask: Bool[np.ndarray, "height width"], control: RegionControl) -> list[Region]:
    """One region for everything the label covers; none for an empty mask.

    The editor takes no other size than the displayed picture's: a smaller mask is enlarged.
    """
    if not mask.any():
        return []
    size_hw = control.size_hw or (mask.shape[0], mask.shape[1])
    if mask.shape != size_hw:
        mask = enlarged(mask, size_hw)
    packed = rle.encode(np.ascontiguousarray(mask).view(np.uint8) * np.uint8(OPAQUE))
    return results(control, {"format": "rle", "rle": list(packed)}, size_hw=size_hw)


def decode(region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Where the region is painted. Raises BadMask."""
    value = region.get("value")
    if not isinstance(value, dict) or "rle" not in value:
        raise BadMask("the region has no run-length encoded mask")
    return rle.decode(value["rle"], size_hw=size_hw) >= VISIBLE


def enlarged(
    mask: Bool[np.ndarray, "small_h small_w"], size_hw: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """A mask at the size of the displayed picture; every pixel takes the one it lies in."""
    rows, columns = (
        (np.arange(large) * small) // large
        for small, large in zip(mask.shape, size_hw, strict=True)
    )
    return mask[rows[:, None], columns]
