"""A stored mask, moved onto the edges of its picture: what edge-aware masks would have saved.

One guided filter on a bounded grid. Inside a method the same rule works on the model's own maps,
which say more than a finished mask: this is an indication, not what that would bring exactly. A
mask that was made edge-aware already should hardly change.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cliper_model.stages import edges

LONGEST: Final = 512  # cells of the longer side the mask is filtered on
REACH: Final = (
    1 / 32
)  # of the longer side, that a window reaches to every side: about a cell of a model

Guide = Float[Tensor, "3 guide_h guide_w"]
Small = Float[Tensor, "guide_h guide_w"]


def guide_of(image: UInt8[np.ndarray, "height width 3"]) -> Guide:
    """The picture at the size masks are filtered on, colours from 0 to 1."""
    return edges.guide_of(image, rule="guided", longest=LONGEST).float() / 255


def shrunk(mask: Bool[np.ndarray, "height width"], guide: Guide) -> Small:
    """The share of every cell of the guide that the mask covers."""
    size_wh = (guide.shape[2], guide.shape[1])
    whole = np.ascontiguousarray(mask, np.float32)
    return torch.from_numpy(cv2.resize(whole, size_wh, interpolation=cv2.INTER_AREA))


def moved(masks: Sequence[Small], guide: Guide) -> list[Small]:
    """Masks with their outlines where the picture's edges are; far from these nothing changes."""
    if not masks:
        return []
    reach = max(1, round(REACH * max(guide.shape[1:])))
    filtered = edges.guided(
        torch.stack(list(masks)), guide, radius_hw=(reach, reach), epsilon=edges.EPSILON
    )
    return list(filtered)


def enlarged(cells: Small, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Back at the picture's size."""
    large = cv2.resize(cells.numpy(), size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    found: Bool[np.ndarray, "height width"] = large >= 0.5
    return found
