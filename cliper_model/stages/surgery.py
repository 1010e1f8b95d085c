"""CLIP Surgery: consistent self-attention, redundancy removal, maps and point prompts.

Source: specification clip_surgery §1, §3 and §4.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from .attention import self_similarity
from .resize import resize_maps

CLASS_TOKEN_SCALE = 2.0  # literal in the published code
EPSILON = 1e-8  # keeps a map without any contrast from becoming NaN
COARSER = 2  # points are chosen on a map with half as many cells per side
THRESHOLD = 0.8  # of the stretched map, for points inside


def consistent_attention(values: Float[Tensor, "heads n d"]) -> Float[Tensor, "heads n d"]:
    """`softmax(v vᵀ / √d) v`: tokens take from those that are like them (§1, `s_l`)."""
    return (self_similarity(values.float(), values.float()) @ values.float()).to(values.dtype)


def class_token_weights(cosines: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """How much the whole picture speaks for each text row; the weights average to 1.

    `cosines` are those of the class token. Source: §3 step 1, `w`.
    """
    likely = torch.softmax(CLASS_TOKEN_SCALE * cosines, dim=-1)
    return likely / likely.mean()


def remove_redundancy(
    cosines: Float[Tensor, "n rows"], weights: Float[Tensor, " rows"]
) -> Float[Tensor, "n rows"]:
    """Weighted cosines minus their mean over all rows at the same place (§3 step 2).

    Arg-max and softmax over the rows depend on the weights only; the subtraction is for maps
    that are read one at a time.
    """
    weighted = cosines * weights
    return weighted - weighted.mean(dim=-1, keepdim=True)


def remove_given_redundancy(
    features: Float[Tensor, "n embed"],
    rows: Float[Tensor, "rows embed"],
    redundant: Float[Tensor, " embed"],
) -> Float[Tensor, "n rows"]:
    """Similarity to what a text row has beyond `redundant`, such as the empty name's row (§3).

    No weights, so single words work.
    """
    return functional.normalize(features, dim=-1) @ (rows - redundant).T


def stretch(
    maps: Float[Tensor, "classes *grid"], *, epsilon: float
) -> Float[Tensor, "classes *grid"]:
    """Each map to [0, 1] by its own minimum and maximum; 0 as `epsilon` is as published (NaN
    where a map is constant)."""
    flat = maps.flatten(1)
    smallest, largest = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    return ((flat - smallest) / (largest - smallest + epsilon)).view_as(maps)


@dataclass(frozen=True)
class Points:
    """Prompts for a promptable segmenter: pixels (x, y), and whether they lie on the thing."""

    places_xy: Int[np.ndarray, "points 2"]
    inside: Bool[np.ndarray, " points"]


def points(
    grid_map: Float[Tensor, "h w"],
    *,
    size_hw: tuple[int, int],
    threshold: float = THRESHOLD,
    epsilon: float = EPSILON,
) -> Points:
    """The strongest places of one map as positive points, as many of the weakest as negative.

    The map is halved and stretched to [0, 1]; places of at least `threshold` are taken, at
    most half of all. Positive points come first; both groups rise in value. A map with a
    single cell, or without contrast, gives no points.

    Source: §4.
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    height, width = (max(1, side // COARSER) for side in grid_map.shape)
    coarse = resize_maps(grid_map[None].float(), size_hw=(height, width))
    values = stretch(coarse, epsilon=epsilon).flatten().cpu()
    count = min(int((values >= threshold).sum()), len(values) // 2)
    order = values.sort().indices
    chosen = torch.cat([order[len(order) - count :], order[:count]]).numpy()
    across = np.minimum((chosen % width + 0.5) * (size_hw[1] / width), size_hw[1] - 1)
    down = np.minimum((chosen // width + 0.5) * (size_hw[0] / height), size_hw[0] - 1)
    return Points(
        places_xy=np.stack([across, down], axis=1).astype(np.int64),
        inside=np.arange(2 * count) < count,
    )


def points_together(
    grid_maps: Float[Tensor, "texts h w"],
    *,
    size_hw: tuple[int, int],
    threshold: float = THRESHOLD,
    epsilon: float = EPSILON,
) -> Points:
    """Prompts for one thing that several texts describe ("cat+dog").

    Positive points come from each text's map as in `points`, text by text; a place that two
    texts agree on is named twice. Negative points come from the average of the maps, each
    stretched to [0, 1] first, and rise in value there: what one text is weak at may be what
    another one means.

    Source: §4.
    """
    single = [
        points(one, size_hw=size_hw, threshold=threshold, epsilon=epsilon) for one in grid_maps
    ]
    average = stretch(grid_maps.float(), epsilon=epsilon).mean(dim=0)
    joint = points(average, size_hw=size_hw, threshold=threshold, epsilon=epsilon)
    positive = [found.places_xy[found.inside] for found in single]
    negative = joint.places_xy[~joint.inside]
    places = np.concatenate([*positive, negative])
    return Points(places_xy=places, inside=np.arange(len(places)) < len(places) - len(negative))
