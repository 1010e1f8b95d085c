"""A stored mask, moved onto the edges of its picture: what edge-aware masks would have saved.

One guided filter on a bounded grid, as `model_edge_aware` does it with the model's own maps; here
only the finished mask is known, so this is a lower bound of what that brings.
"""

from typing import Final

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cliper_model.stages import edges

LONGEST: Final = 512  # cells of the longer side the mask is filtered on
REACH: Final = 1 / 64  # of the longer side, that a window reaches to every side: a model's cell

Guide = Float[Tensor, "3 guide_h guide_w"]


def guide_of(image: UInt8[np.ndarray, "height width 3"]) -> Guide:
    """The picture at the size masks are filtered on, colours from 0 to 1."""
    return edges.guide_of(image, rule="guided", longest=LONGEST).float() / 255


def snapped(
    mask: Bool[np.ndarray, "height width"], guide: Guide
) -> Bool[np.ndarray, "height width"]:
    """The mask with its outline where the picture's edges are; far from it nothing changes."""
    height, width = mask.shape
    cells_hw = (guide.shape[1], guide.shape[2])
    reach = max(1, round(REACH * max(cells_hw)))
    whole = np.ascontiguousarray(mask, np.float32)
    small = torch.from_numpy(cv2.resize(whole, cells_hw[::-1], interpolation=cv2.INTER_AREA))
    filtered = edges.guided(small[None], guide, radius_hw=(reach, reach), epsilon=edges.EPSILON)[0]
    large = cv2.resize(filtered.numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    found: Bool[np.ndarray, "height width"] = large >= 0.5
    return found
