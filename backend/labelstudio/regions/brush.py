"""BrushLabels: a mask as run-length encoded opacity (protocol notes §6)."""

import numpy as np
from jaxtyping import Bool

from ...errors import BadMask
from .. import rle
from ..tasks import Region
from .base import RegionControl

OPAQUE = 255
VISIBLE = 128  # strokes of the editor have soft edges; half opacity counts as painted


def encode(mask: Bool[np.ndarray, "height width"], control: RegionControl) -> list[Region]:
    """One region for everything the label covers; none for an empty mask.

    `mask` has the size of the picture as displayed.
    """
    if not mask.any():
        return []
    height, width = mask.shape
    packed = rle.encode(np.where(mask, np.uint8(OPAQUE), np.uint8(0)))
    region: Region = {
        "id": control.region_id,
        "from_name": control.from_name,
        "to_name": control.to_name,
        "type": control.kind,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": list(packed), control.kind: [control.label]},
    }
    if control.score is not None:
        region["score"] = control.score
    return [region]


def decode(region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Where the region is painted. Raises BadMask."""
    value = region.get("value")
    if not isinstance(value, dict) or "rle" not in value:
        raise BadMask("the region has no run-length encoded mask")
    return rle.decode(value["rle"], size_hw=size_hw) >= VISIBLE
