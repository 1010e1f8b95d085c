"""Patch embeddings x text rows -> per-layer class probabilities (specification §5)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .products import product

SHORTEST = 1e-12  # length of a vector that has a direction


def cosine_logits(
    patches: Float[Tensor, "layers tokens embed"],
    rows: Float[Tensor, "rows embed"],
    *,
    scale: float,
) -> Float[Tensor, "layers tokens rows"]:
    """`scale` times the cosine between every token of every layer and every text row."""
    lengths = patches.norm(dim=-1, keepdim=True).clamp_min_(SHORTEST)
    words = scale * functional.normalize(rows, dim=-1, eps=SHORTEST)
    return product(patches.flatten(0, -2), words).view(*patches.shape[:-1], -1) / lengths


def fold_synonyms(
    logits: Float[Tensor, "layers tokens rows"], *, row_class: Sequence[int], classes: int
) -> Float[Tensor, "layers tokens folded"]:
    """Rows of one label become one channel: the maximum over its synonyms.

    `row_class` names the label of each of the first rows; the remaining rows (background
    words, mean row) follow unchanged. Folding before the softmax means a repeated synonym
    takes no probability from anybody.
    """
    foreground = len(row_class)
    if list(row_class) == list(range(classes)):
        return logits
    index = torch.tensor(row_class, device=logits.device)
    folded = logits.new_full((*logits.shape[:-1], classes), -torch.inf)
    folded = folded.scatter_reduce(
        -1,
        index.expand(*logits.shape[:-1], foreground),
        logits[..., :foreground],
        reduce="amax",
    )
    return torch.cat([folded, logits[..., foreground:]], dim=-1)


def probabilities(
    logits: Float[Tensor, "layers rows h w"], *, classes: int
) -> Float[Tensor, "layers classes h w"]:
    """Softmax over all rows, then only the labels' channels: no renormalisation."""
    return torch.softmax(logits, dim=1)[:, :classes]


def to_grid(
    logits: Float[Tensor, "layers patches rows"], *, grid_hw: tuple[int, int]
) -> Float[Tensor, "layers rows h w"]:
    return logits.transpose(1, 2).reshape(logits.shape[0], logits.shape[2], *grid_hw)
