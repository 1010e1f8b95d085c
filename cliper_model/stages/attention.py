"""Attention of many layers -> one map per layer for the last block (specification §4).

Every function takes a batch in front (`...`) and leaves its input untouched; `softmax_` works
in place, and `out` takes memory that is there already: fresh pages cost more than arithmetic.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .products import product

FAINTEST = -70.0  # e to it is 4e-31: sums of float32 do not feel it, and it is no subnormal number
CACHE_VALUES = 2**20  # of a block that stays in a processor's cache: 4 MB of float32
GPU_VALUES = 2**26  # of a block that is worth a kernel: 256 MB of float32
LARGEST_FACTOR = 1e36  # of a row or column that is empty


def at_once(values_each: int, device: torch.device) -> int:
    """How many rows, or maps, of so many values are best treated together; at least one."""
    room = CACHE_VALUES if device.type == "cpu" else GPU_VALUES
    return max(1, room // max(1, values_each))


def maps_at_once(maps: Float[Tensor, "maps n n"]) -> int:
    """How many of the maps are best treated together: as many for every thread."""
    step = at_once(maps[0].numel(), maps.device)
    threads = torch.get_num_threads() if maps.device.type == "cpu" else 1
    return min(len(maps), math.ceil(step / threads) * threads)


def softmax_(
    logits: Float[Tensor, "*batch keys"], *, most: Float[Tensor, "*batch"] | None = None
) -> Float[Tensor, "*batch keys"]:
    """Softmax over the last axis, in place; `most` are the largest of every row, if known.

    What is weaker than `FAINTEST` against the strongest key is raised to it. Peaked attention
    is full of numbers below 1e-38 otherwise, and a processor takes a hundred times as long
    for each of them, here and in every product that follows.
    """
    most = logits.amax(dim=-1) if most is None else most
    torch.maximum(logits, (most + FAINTEST)[..., None], out=logits)
    return torch.softmax(logits, dim=-1, out=logits)


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
    return [one.clone() for one in fused_in_turn(accumulated, rounds=rounds, epsilon=epsilon)]


def fused_in_turn(
    accumulated: Float[Tensor, "*batch heads n n"], *, rounds: int, epsilon: float = 0.0
) -> Iterator[Float[Tensor, "*batch heads n n"]]:
    """The maps of `fuse`, made one after the other in the same memory: each ends the one before.

    A column-row step only multiplies rows and columns, so what it does is kept as one factor
    per row and one per column, and only what leaves is ever written down. Equals `sharpen` of
    that many `column_row_normalise` up to rounding.
    """
    maps = accumulated.flatten(0, -3)
    turned = maps.mT.contiguous()  # products and sums along columns want them side by side
    step = maps_at_once(maps)
    rows, columns = maps.new_ones(maps.shape[:-1]), maps.new_ones(maps.shape[:-1])
    sums = _along(rows, maps)
    fused, scratch = torch.empty_like(maps), torch.empty_like(maps[:step])
    for _ in range(rounds):
        rows, columns = balance(turned, rows, columns, sums, epsilon=epsilon)
        sums = _along(rows, maps)
        for start in range(0, len(maps), step):
            part = slice(start, start + step)
            symmetric = torch.mul(maps[part], columns[part, None, :], out=fused[part])
            symmetric.mul_(rows[part, :, None] / 2)
            other = torch.mul(turned[part], rows[part, None, :], out=scratch[: len(symmetric)])
            symmetric.addcmul_(other, columns[part, :, None] / 2)
            above = symmetric.sub_(symmetric.mean(dim=-2, keepdim=True)).clamp_min_(0)
            above.div_(above.sum(dim=-1, keepdim=True) + epsilon)
        yield fused.view_as(accumulated)


def balance(
    turned: Float[Tensor, "maps n n"],
    rows: Float[Tensor, "maps n"],
    columns: Float[Tensor, "maps n"],
    sums: Float[Tensor, "maps n"],
    *,
    epsilon: float,
) -> tuple[Float[Tensor, "maps n"], Float[Tensor, "maps n"]]:
    """`column_row_normalise` of `rows[:, None] * maps * columns`, as new factors.

    turned  the maps with rows for columns
    sums    `rows @ maps`

    An empty column's factor is bounded, so that it stays empty instead of becoming NaN; with
    `epsilon` 0 it becomes NaN, as published.
    """
    most = LARGEST_FACTOR if epsilon else torch.inf
    columns = (columns / (columns * sums + epsilon)).clamp_max(most)
    across = rows * _along(columns, turned)
    return (rows / (across + epsilon)).clamp_max(most), columns


def _along(
    weights: Float[Tensor, "maps n"], maps: Float[Tensor, "maps n n"]
) -> Float[Tensor, "maps n"]:
    """Weighted sum over the queries of every map."""
    return (weights[:, None] @ maps)[:, 0]


def self_similarity(
    queries: Float[Tensor, "*batch heads n d"],
    keys: Float[Tensor, "*batch heads n d"],
    *,
    out: Float[Tensor, "*batch heads n n"] | None = None,
) -> Float[Tensor, "*batch heads n n"]:
    """`softmax(q kᵀ / √d)`; with q = k this is q-q, k-k or v-v attention (specification §4.3).

    For inference: nothing is kept for a gradient.
    """
    queries = queries * queries.shape[-1] ** -0.5
    if queries.shape[:-2].numel() == 1 and queries.dtype == torch.float32:
        one = None if out is None else out.view(out.shape[-2:])
        logits = product(queries.flatten(0, -2), keys.flatten(0, -2), out=one)
        return softmax_(logits.view(*queries.shape[:-1], -1))
    return softmax_(torch.matmul(queries, keys.mT, out=out))


def patch_links(last_map: Float[Tensor, "n n"]) -> Float[Tensor, "patches patches"]:
    """Head mean of the last layer's map without the class token, not renormalised.

    Source: specification §5 step 5, `R`.
    """
    return last_map[1:, 1:]
