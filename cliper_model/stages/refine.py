"""Coarse maps + diffusion self-attention -> refined maps (specification §8).

The chain is applied right to left, one head at a time: thin products, the same answer as
multiplying all maps first, and a block of one `n x n` matrix in memory instead of ten.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .attention import BITS, FAINTEST, at_once, in_bits, powers_, reach, self_similarity
from .cards import kernels
from .products import laid_out, product
from .proxy import proxy_attention
from .resize import resize_maps

EPSILON = 1e-5
NOTHING = 1e30  # times a negative number of bits; two to the power of it is 0
LANES = 16  # values of float32 that a processor multiplies at once


def attention_map(
    queries: Float[Tensor, "rows width"], keys: Float[Tensor, "n width"]
) -> Float[Tensor, "rows n"]:
    """Self-attention probabilities of one head, or of some of its queries, in float32."""
    return self_similarity(queries.float(), keys.float())


@dataclass(frozen=True)
class Levels:
    """What relates an entry of a head's map to its row and to its column; of the picture alone.

    rows       logarithm of the sum of every row's exponentials: what softmax divides by
    strongest  the strongest query of every key: the maximum of every column of the map

    Whoever keeps them computes every map once per question instead of twice.
    Source: specification §8 step 1, §13 form 2.
    """

    rows: Float[Tensor, "heads n"]
    strongest: Float[Tensor, "heads n"]


def mix(
    queries: Float[Tensor, "b heads n width"],
    keys: Float[Tensor, "b heads n width"],
    values: Float[Tensor, "b heads n width"],
) -> tuple[Float[Tensor, "b heads n width"], list[Levels]]:
    """What every head gives, its `attention_map` times the values, and every picture's `levels`.

    A block of queries at a time, in float32; only the products with values are in their format.
    """
    mixed = torch.empty_like(values)
    rows, strongest = (keys.new_zeros(keys.shape[:-1], dtype=torch.float32) for _ in range(2))
    for one in np.ndindex(*keys.shape[:2]):
        weighed = values[one].contiguous().mT
        for part, weights in _maps(queries[one], keys[one], Levels(rows[one], strongest[one])):
            here: Any = (*one, part)
            mixed[here] = product(weights.to(values.dtype), weighed)
    return mixed, [Levels(*pair) for pair in zip(rows, strongest, strict=True)]


def attend_in_blocks(
    queries: Float[Tensor, "b heads n width"],
    keys: Float[Tensor, "b heads n width"],
    values: Float[Tensor, "b heads n width"],
) -> Float[Tensor, "b heads n width"]:
    """`mix` without levels: scaled dot product attention, a block of queries at a time.

    What softmax divides by divides the products: not for float16, in which they have no room.
    """
    mixed = torch.empty_like(values)
    for one in np.ndindex(*keys.shape[:2]):
        weighed = values[one].contiguous().mT
        for part, powers, _ in _powers(queries[one], keys[one]):
            here: Any = (*one, part)
            sums = powers.sum(dim=-1, keepdim=True)
            mixed[here] = product(powers.to(values.dtype), weighed) / sums
    return mixed


def levels(queries: Float[Tensor, "heads n width"], keys: Float[Tensor, "heads n width"]) -> Levels:
    """Head by head, a block of queries at a time; by a kernel where there is one."""
    if (own := kernels(queries.device, width=queries.shape[-1])) is not None:
        return Levels(*own.levels(queries, keys))
    rows, strongest = (keys.new_zeros(keys.shape[:2], dtype=torch.float32) for _ in range(2))
    for head in range(len(queries)):
        for _ in _maps(queries[head], keys[head], Levels(rows[head], strongest[head])):
            pass
    return Levels(rows, strongest)


def _maps(
    queries: Float[Tensor, "n width"], keys: Float[Tensor, "n width"], found: Levels
) -> Iterator[tuple[slice, Float[Tensor, "rows n"]]]:
    """One head's attention probabilities, a block of queries after the other, in memory that is
    then used again; its levels, zeros so far, are `found` on the way."""
    for part, powers, over in _powers(queries, keys):
        sums = powers.sum(dim=-1)
        found.rows[part] = (over + sums.log2()) / BITS
        powers.mul_(sums.reciprocal_()[:, None])
        torch.maximum(found.strongest, powers.amax(dim=0), out=found.strongest)
        yield part, powers


def _powers(
    queries: Float[Tensor, "n width"], keys: Float[Tensor, "n width"]
) -> Iterator[tuple[slice, Float[Tensor, "rows n"], float | Float[Tensor, " rows"]]]:
    """Exponentials of one head's logits `q kᵀ / √d`, block by block, as `powers_` gives them."""
    scaled, keys = in_bits(queries.float()), keys.float()
    within, step = reach(scaled, keys), at_once(len(keys), keys.device)
    compared = laid_out(keys) if step < len(scaled) else keys
    room = scaled.new_empty(min(step, len(keys)), len(keys))
    for start in range(0, len(scaled), step):
        block = scaled[start : start + step]
        bits = product(block, compared, out=room[: len(block)])
        over = powers_(bits, reach=within)
        yield slice(start, start + step), bits, over


def join_levels(*several: Levels) -> Levels:
    """Of more heads, one after the other."""
    return Levels(
        torch.cat([one.rows for one in several]), torch.cat([one.strongest for one in several])
    )


def keep_strong_links(
    attention: Float[Tensor, "rows n"], *, floor: float
) -> Float[Tensor, "rows n"]:
    """Divide each key's column by its strongest query; cut what is below `floor`.

    Rows are not yet normalised (see `apply_rows`). Source: specification §8 steps 1 and 2.
    """
    relative = attention / (attention.amax(dim=-2) + EPSILON)
    return relative.where(relative >= floor, 0.0)


def apply_rows(
    links: Float[Tensor, "rows n"], maps: Float[Tensor, "n classes"]
) -> Float[Tensor, "rows classes"]:
    """Row-normalised product; a row that lost all links gives zero."""
    return links @ maps / (links.sum(dim=-1, keepdim=True) + EPSILON)


def spread(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "n width"],
    keys: Float[Tensor, "n width"],
    *,
    rows: Float[Tensor, " n"],
    strongest: Float[Tensor, " n"],
    floor: float,
) -> Float[Tensor, "n classes"]:
    """One head's map, columns by their strongest query and weak links cut, times class maps.

    A block of queries is compared with all keys at a time, so memory grows with n and not with
    its square. `rows` and `strongest` are the head's `levels`: as two more channels of queries
    and keys they make the product itself the logarithm of `keep_strong_links` over the floor: what
    is weak is negative, and cut before anything is raised to a power.
    Source: specification §8 steps 1 to 3, §13 form 2.
    """
    if kernels(queries.device, width=queries.shape[-1]) is not None:
        known = Levels(rows[None], strongest[None])
        return chain(maps, queries[None], keys[None], floor=floor, known=known)
    weakest = _weakest(floor)
    ones = rows.new_ones(len(rows), 1)
    above = -BITS * (strongest + EPSILON).log() - weakest
    left = torch.cat([in_bits(queries.float()), -BITS * rows[:, None], ones], dim=1)
    right = torch.cat([keys.float(), ones, above[:, None]], dim=1)
    classes, epsilon = maps.shape[1], EPSILON * 2**-weakest
    values = maps.new_zeros(len(maps), math.ceil((classes + 1) / LANES) * LANES)
    values[:, :classes] = maps
    values[:, classes] = 1  # whose products are the sums of links
    step = at_once(len(right), right.device)
    room = right.new_empty(min(step, len(right)), len(right))
    columns = laid_out(right)
    parts = []
    for block in left.split(step):
        links = product(block, columns, out=room[: len(block)], below_zero=NOTHING)
        parts.append(product(links.exp2_(), values.T))
    sums = torch.cat(parts)
    return sums[:, :classes] / (sums[:, classes, None] + epsilon)


def _weakest(floor: float) -> float:
    """Its logarithm to the base of two; at least `FAINTEST`."""
    return max(math.log2(floor), FAINTEST) if floor > 0 else FAINTEST


def chain(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
    known: Levels | None = None,
) -> Float[Tensor, "n classes"]:
    """Product of all heads' maps times the class maps, last head first.

    known  the `levels` of queries and keys, if somebody kept them

    Source: CLIPer, fine-grained compensation; specification §8 `SFSA`, §13 form 1.
    """
    if (own := kernels(queries.device, width=queries.shape[-1])) is not None:
        of = levels(queries, keys) if known is None else known
        limits: Any = {"weakest": _weakest(floor), "epsilon": EPSILON}
        return own.chain(maps, queries, keys, rows=of.rows, strongest=of.strongest, **limits)
    apply = _heads(queries, keys, floor=floor, known=known)
    for head in reversed(range(len(queries))):
        maps = apply(head, maps)
    return maps


def mean_of_heads(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
    known: Levels | None = None,
) -> Float[Tensor, "n classes"]:
    """Average of every head applied on its own (specification §8 `mean`)."""
    apply = _heads(queries, keys, floor=floor, known=known)
    total = torch.zeros_like(maps)
    for head in range(len(queries)):
        total = total + apply(head, maps)
    return total / len(queries)


def one_head(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
    head: int,
    known: Levels | None = None,
) -> Float[Tensor, "n classes"]:
    """A single head of the concatenated order (specification §8 `selection`)."""
    return _heads(queries, keys, floor=floor, known=known)(head, maps)


def _heads(
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
    known: Levels | None,
) -> Callable[[int, Float[Tensor, "n classes"]], Float[Tensor, "n classes"]]:
    """Apply a head by its number."""
    of = levels(queries, keys) if known is None else known

    def apply(head: int, maps: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
        return spread(
            maps,
            queries[head],
            keys[head],
            rows=of.rows[head],
            strongest=of.strongest[head],
            floor=floor,
        )

    return apply


def spread_along_similarity(
    maps: Float[Tensor, "classes h w"],
    features: Float[Tensor, "channels fine_h fine_w"],
    *,
    beta: float,
    gamma: float,
) -> Float[Tensor, "classes fine_h fine_w"]:
    """Every place becomes the mean of the places whose features resemble its own.

    The matrix is ProxyCLIP's (specification methods.md §2: refinement of CLIPer by a vision
    foundation model); rows sum to one, so values keep their range.
    """
    fine_hw = (int(features.shape[1]), int(features.shape[2]))
    start = resize_maps(maps.to(features.device), size_hw=fine_hw).flatten(1)
    links = proxy_attention(features, beta=beta, gamma=gamma)
    return (links @ start.T).T.reshape(-1, *fine_hw)
