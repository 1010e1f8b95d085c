"""MaskCLIP's two refinements: words nobody sees are muted, and alike keys share their evidence.

Source: specification maskclip §3.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

MUTED = -100.0  # what a muted row gets everywhere; no cosine comes near
LOGIT_SCALE = 100.0  # of the softmax both refinements look at

KEY_AXES = ("channels", "positions")


def row_probabilities(cosines: Float[Tensor, "rows *grid"]) -> Float[Tensor, "rows *grid"]:
    """Softmax over the text rows of 100 times the cosines."""
    return torch.softmax(LOGIT_SCALE * cosines, dim=0)


def mute_unseen_rows(
    cosines: Float[Tensor, "rows *grid"], *, threshold: float, may_mute_all: bool = False
) -> Float[Tensor, "rows *grid"]:
    """Prompt denoising: a text row that is nowhere likely loses every place.

    A row whose probability stays below `threshold` at all places becomes -100 everywhere;
    0.5 is published, 0 mutes nothing. Where no row reaches the threshold all would be equal
    and the first would win everything, as published; by default nothing is muted then.
    """
    best = row_probabilities(cosines).flatten(1).amax(dim=1)
    unseen = best < threshold
    if bool(unseen.all()) and not may_mute_all:
        return cosines
    return cosines.masked_fill(unseen.view(-1, *(1 for _ in cosines.shape[1:])), MUTED)


def key_similarity(
    keys: Float[Tensor, "patches width"], *, axis: str = "channels"
) -> Float[Tensor, "patches patches"]:
    """Inner products of the keys after normalisation.

    axis  "channels" gives the cosine between patches, which the paper describes; "positions"
          is what was published (every channel has unit length over the picture, so rows do
          not have a diagonal of one)
    """
    if axis not in KEY_AXES:
        raise ValueError(f"axis must be one of {', '.join(KEY_AXES)}, got {axis!r}")
    unit = functional.normalize(keys, dim=1 if axis == "channels" else 0)
    return unit @ unit.T


def smooth_by_keys(
    cosines: Float[Tensor, "rows h w"],
    similarity: Float[Tensor, "patches patches"],
    *,
    threshold: float,
) -> Float[Tensor, "rows h w"]:
    """Key smoothing: an unsure patch takes the probabilities of the patches with alike keys.

    Unsure is a patch whose likeliest row stays below `threshold` (1 is published: practically
    all patches). It receives `Σ_j W_ij P_j`, not renormalised; the others keep their own
    probabilities, so the result orders labels but is no probability.
    """
    likely = row_probabilities(cosines).flatten(1)
    unsure = likely.amax(dim=0) < threshold
    smoothed = likely @ similarity.T
    return torch.where(unsure, smoothed, likely).view_as(cosines)
