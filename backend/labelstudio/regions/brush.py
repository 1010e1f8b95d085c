"""BrushLabels: a mask as run-length encoded opacity (protocol notes §6)."""

import numpy as np
from jaxtyping import Bool

from ...errors import BadMask
from .. import rle
from ..tasks import Region

OPAQUE = 255
VISIBLE = 128  # strokes of the editor have soft edges; half opacity counts as painted


def encode(
    mask: Bool[np.ndarray, "height width"],
    *,
    from_name: str,
    to_name: str,
    label: str,
    region_id: str,
    score: float | None,
) -> list[Region]:
    """One region for everything the label covers; none for an empty mask.

    `mask` has the size of the picture as displayed. `score` is in [0, 1] or unknown.
    """
    if not mask.any():
        return []
    height, width = mask.shape
    packed = rle.encode(np.where(mask, np.uint8(OPAQUE), np.uint8(0)))
    region: Region = {
        "id": region_id,
        "from_name": from_name,
        "to_name": to_name,
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": list(packed), "brushlabels": [label]},
    }
    if score is not None:
        region["score"] = score
    return [region]


def decode(region: Region, *, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Where the region is painted. Raises BadMask."""
    value = region.get("value")
    if not isinstance(value, dict) or "rle" not in value:
        raise BadMask("the region has no run-length encoded mask")
    return rle.decode(value["rle"], size_hw=size_hw) >= VISIBLE
