"""Attention of many layers -> one map per layer for the last block (specification §4).

Every function takes a batch in front (`...`) and leaves its input untouched, so the
same lines serve inference and the training of the demo weights.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def accumulate(
    attentions: Sequence[Float[Tensor, "*batch heads n n"]],
) -> Float[Tensor, "*batch heads n n"]:
    """Sum the attention of the plain blocks head by head: a sum, so rows add up to their number.

    Source: specification §4.1, `M_0`.
    """
    total = attentions[0].clone()
    for attention in attentions[1:]:
        total = total + attention
    return total


def column_row_normalise(
    accumulated: Float[Tensor, "*batch heads n n"], *, epsilon: float = 0.0
) -> Float[Tensor, "*batch heads n n"]:
    """One Sinkhorn-like step: columns (over queries) first, then rows (over keys).

    Each layer that passes through the last block takes one more such step, because the
    authors' code overwrites the shared map; published numbers contain it. `epsilon` 0 is
    the published form. Source: specification §4.2 step 1, `M_{k+1}`.
    """
    columns = accumulated / (accumulated.sum(dim=-2, keepdim=True) + epsilon)
    return columns / (columns.sum(dim=-1, keepdim=True) + epsilon)


def sharpen(
    accumulated: Float[Tensor, "*batch heads n n"], *, epsilon: float = 0.0
) -> Float[Tensor, "*batch heads n n"]:
    """Symmetrise, keep what exceeds the column mean, make rows sum to one.

    With `epsilon` 0 a row without any link above the mean becomes NaN, as published.
    Source: specification §4.2 steps 2 to 4, `W_k`.
    """
    symmetric = (accumulated + accumulated.transpose(-1, -2)) / 2
    above_mean = (symmetric - symmetric.mean(dim=-2, keepdim=True)).clamp_min(0)
    return above_mean / (above_mean.sum(dim=-1, keepdim=True) + epsilon)


def fuse(
    accumulated: Float[Tensor, "*batch heads n n"], *, rounds: int, epsilon: float = 0.0
) -> list[Float[Tensor, "*batch heads n n"]]:
    """The map each layer is mixed with in the last block: layer `k` after `k + 1` rounds."""
    weights = []
    for _ in range(rounds):
        accumulated = column_row_normalise(accumulated, epsilon=epsilon)
        weights.append(sharpen(accumulated, epsilon=epsilon))
    return weights


def self_similarity(
    queries: Float[Tensor, "*batch heads n d"], keys: Float[Tensor, "*batch heads n d"]
) -> Float[Tensor, "*batch heads n n"]:
    """`softmax(q kᵀ / √d)`; with q = k this is q-q, k-k or v-v attention (specification §4.3)."""
    return torch.softmax(queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5, dim=-1)


def patch_links(weights: Float[Tensor, "heads n n"]) -> Float[Tensor, "patches patches"]:
    """Head mean of the last layer's map without the class token, not renormalised.

    Source: specification §5 step 5, `R`.
    """
    return weights.mean(dim=0)[1:, 1:]
