"""Maps on the model's grid -> maps whose edges lie on edges of the picture.

Two rules, both pure and without weights: the guided filter (He, Sun, Tang: Guided Image
Filtering; TPAMI 35, 2013) and PAMR (Araslanov, Roth: Single-Stage Semantic Segmentation from
Image Labels; CVPR 2020, pixel-adaptive mask refinement).

Both leave a map as it is where the picture around a place has one colour: there is nothing to
learn from it, and the rules as published would only blur. Values never leave the range the map
had, so thresholds mean what they meant.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

from ..errors import IncompatibleState
from ..segmenter import Scores
from .resize import resize_maps

RULES = ("none", "guided", "pamr")
GUIDE_SIDE = 96  # cells of the longer side of a guide
FINER = 4  # a guide has at most so many cells along a cell of the maps
BLOCK_VALUES = 2_000_000  # values of a block of classes held at once: 8 MB of float32

RADIUS = 1.0  # of the guided filter's window, in cells of the maps
EPSILON = 1e-3  # variance of colour that counts as an edge; colours are in [0, 1]

DILATIONS = (1, 2, 4)  # PAMR: distances of the eight neighbours; published: up to 24
ITERATIONS = 5  # PAMR; published: 10, for masks of the picture's own size
CONTRAST = 0.1  # PAMR: differences of colour are counted in this share of their deviation


def check_rule(rule: str, *, published: bool = False) -> None:
    """Raises ValueError for a rule that does not exist, or any rule of a published form."""
    if rule not in RULES:
        raise ValueError(f"edge_aware must be one of {', '.join(RULES)}, got {rule!r}")
    if published and rule != "none":
        raise ValueError(f"edge_aware must be 'none' where published is set, got {rule!r}")


def guide_of(
    image: UInt8[np.ndarray, "height width 3"], *, rule: str, longest: int = GUIDE_SIDE
) -> UInt8[Tensor, "3 guide_h guide_w"]:
    """The picture at a bounded size: `longest` cells along its longer side, never enlarged.

    Empty for the rule "none".
    """
    check_rule(rule)
    if rule == "none":
        return torch.zeros(3, 0, 0, dtype=torch.uint8)
    height, width = image.shape[:2]
    share = min(1.0, longest / max(height, width))
    size_wh = (max(1, round(width * share)), max(1, round(height * share)))
    small = PilImage.fromarray(image).resize(size_wh, PilImage.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


def sharpen(scores: Scores, guide: UInt8[Tensor, "3 guide_h guide_w"], *, rule: str) -> Scores:
    """`scores` whose maps, or what decides pixels in their place, follow edges of the picture.

    Row logits and maps of clusters are sharpened where a method has them; `strength` and
    `presence` stay those of the maps before. "none" changes nothing. Raises IncompatibleState
    for a picture that was observed without a guide.
    """
    check_rule(rule)
    if rule == "none":
        return scores
    if not guide.numel():
        raise IncompatibleState("a method with edge_aware='none'", f"edge_aware={rule!r}")

    def sharp(values: Float[np.ndarray, "some h w"]) -> Float[np.ndarray, "some h2 w2"]:
        return at_edges(torch.from_numpy(values), guide, rule=rule).numpy()

    if scores.rows is None:
        return replace(scores, maps=sharp(scores.maps))
    clusters = None if scores.clusters is None else sharp(scores.clusters)
    rows = replace(scores.rows, values=sharp(scores.rows.values))
    return replace(scores, rows=rows, clusters=clusters)


def at_edges(
    maps: Float[Tensor, "classes h w"], guide: UInt8[Tensor, "3 guide_h guide_w"], *, rule: str
) -> Float[Tensor, "classes h2 w2"]:
    """Maps enlarged to the guide's grid, at most `FINER` times their own, by "guided" or "pamr".

    Maps finer than the guide come back on the guide's grid. A block of classes at a time.
    """
    h, w = maps.shape[1:]
    size_hw = (min(guide.shape[1], FINER * h), min(guide.shape[2], FINER * w))
    colours = guide.to(maps.device).float() / 255
    if size_hw != (guide.shape[1], guide.shape[2]):
        colours = functional.interpolate(colours[None], size=size_hw, mode="area")[0]
    radius_hw = (_radius(size_hw[0], h), _radius(size_hw[1], w))
    step = max(1, BLOCK_VALUES // (4 * size_hw[0] * size_hw[1]))
    done = []
    for block in maps.split(step):
        enlarged = resize_maps(block.float(), size_hw=size_hw)
        match rule:
            case "guided":
                done.append(guided(enlarged, colours, radius_hw=radius_hw, epsilon=EPSILON))
            case "pamr":
                done.append(pamr(enlarged, colours, dilations=DILATIONS, iterations=ITERATIONS))
            case _:
                raise ValueError(f"rule must be 'guided' or 'pamr', got {rule!r}")
    return torch.cat(done)


def _radius(cells: int, coarse: int) -> int:
    """Of windows on the guide's grid. An enlarged map is blurred over about one cell of its own."""
    return max(1, round(RADIUS * cells / coarse))


# -- guided filter --------------------------------------------------------------------


def guided(
    maps: Float[Tensor, "classes h w"],
    guide: Float[Tensor, "3 h w"],
    *,
    radius_hw: tuple[int, int],
    epsilon: float,
) -> Float[Tensor, "classes h w"]:
    """In every window a map is a linear function of the colour, the best one there is.

    radius_hw  windows reach so many cells up and down, left and right; cut at the border
    epsilon    variance of colour, colours in [0, 1], below which a window counts as flat

    Source: He, Sun, Tang 2013, equations 19 to 21 (colour guide). Ours: what the filter says
    counts in the share of colour variance around a place, Σ / (Σ + epsilon), and the map as it
    was in the rest.
    """
    means = box_mean(guide, radius_hw)
    products = box_mean(guide[:, None] * guide[None], radius_hw)
    covariance = products - means[:, None] * means[None]
    inverse = _inverse(covariance + epsilon * torch.eye(3, device=guide.device)[..., None, None])

    own = box_mean(maps, radius_hw)
    shared = box_mean(maps[:, None] * guide, radius_hw) - own[:, None] * means
    slopes = torch.stack([(shared * row).sum(dim=1) for row in inverse], dim=1)
    offsets = own - (slopes * means).sum(dim=1)
    filtered = (box_mean(slopes, radius_hw) * guide).sum(dim=1) + box_mean(offsets, radius_hw)

    variance = torch.diagonal(covariance).sum(dim=-1).clamp_min(0)
    trust = box_mean(variance / (variance + epsilon), radius_hw)
    return _within_range(torch.lerp(maps, filtered, trust), maps)


def box_mean(
    maps: Float[Tensor, "*maps h w"], radius_hw: tuple[int, int]
) -> Float[Tensor, "*maps h w"]:
    """Mean over a window around every cell, cut at the border.

    Two products with banded matrices: at a few hundred cells faster than running sums, and
    without their rounding.
    """
    down, across = (
        _band(cells, radius, maps) for cells, radius in zip(maps.shape[-2:], radius_hw, strict=True)
    )
    return down @ (maps @ across.T)


def _band(cells: int, radius: int, like: Tensor) -> Float[Tensor, "cells cells"]:
    places = torch.arange(cells, device=like.device)
    near = ((places[:, None] - places).abs() <= radius).to(like.dtype)
    return near / near.sum(dim=1, keepdim=True)


def _inverse(matrices: Float[Tensor, "3 3 h w"]) -> Float[Tensor, "3 3 h w"]:
    """Of symmetric matrices: the adjugate over the determinant."""
    (a, b, c), (_, d, e), (_, _, f) = matrices
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    rows = (
        (first, second, third),
        (second, a * f - c * c, b * c - a * e),
        (third, b * c - a * e, a * d - b * b),
    )
    determinant = a * first + b * second + c * third
    return torch.stack([torch.stack(row) for row in rows]) / determinant


# -- PAMR -----------------------------------------------------------------------------


def pamr(
    maps: Float[Tensor, "classes h w"],
    guide: Float[Tensor, "3 h w"],
    *,
    dilations: tuple[int, ...],
    iterations: int,
) -> Float[Tensor, "classes h w"]:
    """Every place becomes the mean of its neighbours, again and again; similar colours count more.

    dilations  distances of eight neighbours each, in cells

    Source: Araslanov, Roth 2020, §4.2. Ours: the result counts in the share of colour variance
    among the neighbours, and the map as it was in the rest.
    """
    reach = max(dilations)
    steps = (-1, 0, 1)
    places = [(d * y, d * x) for d in dilations for y in steps for x in steps if y or x]
    around = torch.stack(list(_shifted(guide, places, reach=reach)))
    deviation = _deviation(torch.cat([around, guide[None]]))
    unlike = (around - guide).abs() / (CONTRAST * deviation + 1e-8)
    weights = torch.softmax(-unlike.mean(dim=1), dim=0)
    refined = maps
    for _ in range(iterations):
        total = torch.zeros_like(maps)
        for weight, neighbour in zip(weights, _shifted(refined, places, reach=reach), strict=True):
            total.addcmul_(weight, neighbour)
        refined = total
    variance = deviation.square().sum(dim=0)
    trust = variance / (variance + EPSILON)
    return _within_range(torch.lerp(maps, refined, trust), maps)


def _deviation(samples: Float[Tensor, "samples *rest"]) -> Float[Tensor, " *rest"]:
    """Of the samples, as `std` has it, which takes several times as long over the first axis."""
    apart = samples - samples.mean(dim=0)
    return (apart.square_().sum(dim=0) / (len(samples) - 1)).sqrt_()


def _shifted(
    maps: Float[Tensor, "some h w"], places: Sequence[tuple[int, int]], *, reach: int
) -> Iterator[Float[Tensor, "some h w"]]:
    """What lies at each of `places` (rows down, columns right) from every cell; borders repeat."""
    h, w = maps.shape[1:]
    padded = functional.pad(maps[None], (reach,) * 4, mode="replicate")[0]
    for down, right in places:
        yield padded[:, reach + down : reach + down + h, reach + right : reach + right + w]


def _within_range(
    changed: Float[Tensor, "classes h w"], before: Float[Tensor, "classes h w"]
) -> Float[Tensor, "classes h w"]:
    lowest, highest = before.amin(dim=(1, 2), keepdim=True), before.amax(dim=(1, 2), keepdim=True)
    return changed.clamp(lowest, highest)
