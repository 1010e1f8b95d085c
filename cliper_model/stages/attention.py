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

BITS = math.log2(math.e)  # of an exponent: powers of two are computed three times as fast
FAINTEST = -101.0  # bits; 2 to it is 4e-31: sums of float32 do not feel it, and it is not subnormal
REACH = 50.0  # bits; 2 to them, one over it, their sums and shares are all ordinary float32 numbers
CACHE_VALUES = 2**20  # of a block that stays in a processor's cache: 4 MB of float32
GPU_VALUES = 2**26  # of a block that is worth a kernel: 256 MB of float32
LARGEST_FACTOR = 1e30  # of a row or column that is empty; times any other it is still a number


def at_once(values_each: int, device: torch.device) -> int:
    """How many rows, or maps, of so many values are best treated together; at least one."""
    room = CACHE_VALUES if device.type == "cpu" else GPU_VALUES
    return max(1, room // max(1, values_each))


def maps_at_once(maps: Float[Tensor, "maps n n"], *, beside: int = 0) -> int:
    """How many of the maps are best treated together, as many for every thread, where so many
    more arrays are needed at the same time."""
    step = at_once((1 + beside) * maps[0].numel(), maps.device)
    threads = torch.get_num_threads() if maps.device.type == "cpu" else 1
    return min(len(maps), math.ceil(step / threads) * threads)


def softmax_(
    bits: Float[Tensor, "*batch keys"], *, reach: float = math.inf
) -> Float[Tensor, "*batch keys"]:
    """Softmax over the last axis, in place; see `powers_`. A GPU has a kernel for all of it."""
    if bits.device.type != "cpu":
        return torch.softmax(bits.mul_(1 / BITS), dim=-1, out=bits)
    powers_(bits, reach=reach)
    return bits.mul_(bits.sum(dim=-1, keepdim=True).reciprocal_())


def powers_(
    bits: Float[Tensor, "*batch keys"], *, reach: float = math.inf
) -> float | Float[Tensor, "*batch"]:
    """Two to the power of logits, in place, over two to the power of what is returned.

    That is 0 where no logit is beyond `REACH`, and `reach` says so, else every row's largest. What
    is then weaker than `FAINTEST` is raised to it. Peaked attention is full of numbers below
    1e-38 otherwise, and a processor takes a hundred times as long for each of them, here and in
    every product that follows.
    """
    if reach <= REACH:
        bits.exp2_()
        return 0.0
    most = bits.amax(dim=-1)
    bits.sub_(most[..., None]).clamp_min_(FAINTEST).exp2_()
    return most


def in_bits(queries: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
    """Scaled so that products with keys are logits to the base of two."""
    return queries * _to_bits(queries.shape[-1])


def in_bits_(queries: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
    """`in_bits`, in place."""
    return queries.mul_(_to_bits(queries.shape[-1]))


def _to_bits(width: int) -> float:
    return BITS * width**-0.5


def reach(queries: Float[Tensor, "*n width"], keys: Float[Tensor, "*m width"]) -> float:
    """What no product of theirs is beyond (Cauchy and Schwarz). Infinity where it would have to be
    waited for, and NaN, which is not within anything, where they are not numbers."""
    if queries.device.type != "cpu":
        return math.inf
    return float(queries.norm(dim=-1).amax() * keys.norm(dim=-1).amax())


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
    step = maps_at_once(maps, beside=1)
    sums = _sums(maps)  # first: row by row, which brings the maps near the processor
    turned = maps.mT.contiguous()  # products and sums along columns want them side by side
    fused, scratch = torch.empty_like(maps), torch.empty_like(maps[:step])
    told = _factors_in_turn(maps, turned, sums, rounds=rounds, epsilon=epsilon)
    for rows, columns, mean in told:
        for start in range(0, len(maps), step):
            part = slice(start, start + step)
            down, over = rows[part, :, None] / 2, columns[part, None, :]
            factors = torch.mul(down, over, out=scratch[: down.shape[0]])
            above = torch.addcmul(-mean[part, None, :], maps[part], factors, out=fused[part])
            factors = torch.mul(over.mT, down.mT, out=factors)
            above.addcmul_(turned[part], factors).clamp_min_(0)
            above.div_(above.sum(dim=-1, keepdim=True) + epsilon)
        yield fused.view_as(accumulated)


def factors(
    accumulated: Float[Tensor, "*batch heads n n"], *, rounds: int, epsilon: float = 0.0
) -> tuple[Float[Tensor, "rounds maps n"], ...]:
    """What makes the maps of `fuse` of the accumulated ones, round by round: factors of rows, of
    columns, and the mean of every column of what is then symmetric."""
    maps = accumulated.flatten(0, -3)
    told = _factors_in_turn(maps, maps.mT, _sums(maps), rounds=rounds, epsilon=epsilon)
    return tuple(torch.stack(one) for one in zip(*told, strict=True))


def _factors_in_turn(
    maps: Float[Tensor, "maps n n"],
    turned: Float[Tensor, "maps n n"],
    sums: Float[Tensor, "maps n"],
    *,
    rounds: int,
    epsilon: float,
) -> Iterator[tuple[Float[Tensor, "maps n"], ...]]:
    """Of rows, of columns, and the mean of the symmetric map's columns; `turned` and `sums` are
    the maps' rows for columns, and the sums of their columns."""
    rows, columns = maps.new_ones(maps.shape[:-1]), maps.new_ones(maps.shape[:-1])
    for _ in range(rounds):
        across, columns = _by_column(turned, columns, sums, epsilon=epsilon)
        rows = _by_row(rows, across, epsilon=epsilon)
        sums = _along(rows, maps)
        yield rows, columns, (columns * sums + rows * across) / (2 * maps.shape[-1])


def fused_by(
    accumulated: Float[Tensor, "*batch heads n n"],
    rows: Float[Tensor, "maps n"],
    columns: Float[Tensor, "maps n"],
    mean: Float[Tensor, "maps n"],
    *,
    epsilon: float = 0.0,
) -> Float[Tensor, "*batch heads n n"]:
    """The maps of one round of `fuse`, of what `factors` gave for it."""
    maps = accumulated.flatten(0, -3)
    normalised = maps * (rows[:, :, None] * columns[:, None, :])
    above = ((normalised + normalised.mT) / 2 - mean[:, None, :]).clamp_min_(0)
    return above.div_(above.sum(dim=-1, keepdim=True) + epsilon).view_as(accumulated)


def _by_column(
    turned: Float[Tensor, "maps n n"],
    columns: Float[Tensor, "maps n"],
    sums: Float[Tensor, "maps n"],
    *,
    epsilon: float,
) -> tuple[Float[Tensor, "maps n"], Float[Tensor, "maps n"]]:
    """First half of `column_row_normalise`: every row's sum, less its own factor, and factors of
    the columns.

    turned  the maps with rows for columns
    sums    of every column, less its own factor

    An empty column's factor is bounded, so that it stays empty instead of becoming NaN; with
    `epsilon` 0 it becomes NaN, as published.
    """
    columns = (columns / (columns * sums + epsilon)).clamp_max(_most(epsilon))
    return _along(columns, turned), columns


def _by_row(
    rows: Float[Tensor, "maps n"], across: Float[Tensor, "maps n"], *, epsilon: float
) -> Float[Tensor, "maps n"]:
    """Second half: factors of the rows."""
    return (rows / (rows * across + epsilon)).clamp_max(_most(epsilon))


def _most(epsilon: float) -> float:
    return LARGEST_FACTOR if epsilon else torch.inf


def _sums(maps: Float[Tensor, "maps n n"]) -> Float[Tensor, "maps n"]:
    """Of the columns."""
    return _along(maps.new_ones(maps.shape[:-1]), maps)


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
    queries = in_bits(queries)
    return softmax_(products(queries, keys, out=out), reach=reach(queries, keys))


def products(
    queries: Float[Tensor, "*batch n d"],
    keys: Float[Tensor, "*batch m d"],
    *,
    out: Float[Tensor, "*batch n m"] | None = None,
) -> Float[Tensor, "*batch n m"]:
    """`q kᵀ`; `out` may be used for it. Those of a single map in float32 by the faster library."""
    if queries.shape[:-2].numel() != 1 or queries.dtype != torch.float32:
        return torch.matmul(queries, keys.mT, out=out)
    one = None if out is None else out.view(out.shape[-2:])
    found = product(queries.flatten(0, -2), keys.flatten(0, -2), out=one)
    return found.view(*queries.shape[:-1], -1)


def patch_links(last_map: Float[Tensor, "n n"]) -> Float[Tensor, "patches patches"]:
    """Head mean of the last layer's map without the class token, not renormalised.

    Source: specification §5 step 5, `R`.
    """
    return last_map[1:, 1:]
