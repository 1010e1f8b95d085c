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

from . import attention as attend
from .attention import at_once, softmax_
from .products import laid_out, product
from .proxy import proxy_attention
from .resize import resize_maps

EPSILON = 1e-5
BITS = math.log2(math.e)  # of an exponent: powers of two are computed three times as fast


def attention_map(
    queries: Float[Tensor, "rows width"],
    keys: Float[Tensor, "n width"],
    *,
    out: Float[Tensor, "rows n"] | None = None,
) -> Float[Tensor, "rows n"]:
    """Self-attention probabilities of one head, or of some of its queries, in float32."""
    return softmax_(product(_scaled(queries), keys.float(), out=out))


def _scaled(queries: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
    """In float32, so that products with keys are logits."""
    return queries.float() * queries.shape[-1] ** -0.5


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
        weighed = laid_out(values[one].mT)
        for part, logits in _logits(queries[one], keys[one]):
            here: Any = (*one, part)
            most = logits.amax(dim=-1)
            weights = softmax_(logits, most=most)
            rows[here] = most - weights.amax(dim=-1).log()
            torch.maximum(strongest[one], weights.amax(dim=0), out=strongest[one])
            mixed[here] = product(weights.to(values.dtype), weighed)
    return mixed, [Levels(*pair) for pair in zip(rows, strongest, strict=True)]


def attend_in_blocks(
    queries: Float[Tensor, "b heads n width"],
    keys: Float[Tensor, "b heads n width"],
    values: Float[Tensor, "b heads n width"],
) -> Float[Tensor, "b heads n width"]:
    """`mix` without levels: scaled dot product attention, a block of queries at a time."""
    mixed = torch.empty_like(values)
    for one in np.ndindex(*keys.shape[:2]):
        weighed = laid_out(values[one].mT)
        for part, logits in _logits(queries[one], keys[one]):
            weights = torch.softmax(logits, dim=-1, out=logits)
            here: Any = (*one, part)
            mixed[here] = product(weights.to(values.dtype), weighed)
    return mixed


def levels(queries: Float[Tensor, "heads n width"], keys: Float[Tensor, "heads n width"]) -> Levels:
    """Head by head, a block of queries at a time."""
    rows = queries.new_zeros(*keys.shape[:2], dtype=torch.float32)
    strongest = torch.full_like(rows, -torch.inf)
    for head in range(len(queries)):
        for part, logits in _logits(queries[head], keys[head]):
            first = logits[:, 0].clone()
            torch.log_softmax(logits, dim=-1, out=logits)
            rows[head, part] = first - logits[:, 0]
            torch.maximum(strongest[head], logits.amax(dim=0), out=strongest[head])
    return Levels(rows, strongest.exp_())


def _logits(
    queries: Float[Tensor, "n width"], keys: Float[Tensor, "n width"]
) -> Iterator[tuple[slice, Float[Tensor, "rows n"]]]:
    """`q kᵀ / √d` of one head, a block of queries after the other, in memory that is then used
    again."""
    scaled, compared = _scaled(queries), laid_out(keys.float())
    step = at_once(len(keys), keys.device)
    room = scaled.new_empty(min(step, len(keys)), len(keys))
    for start in range(0, len(scaled), step):
        block = scaled[start : start + step]
        yield slice(start, start + step), product(block, compared, out=room[: len(block)])


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
    return links @ maps / _row_sums(links)


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
    and keys they make the product itself the logarithm of `keep_strong_links`, so that what is
    weak is cut before anything is raised to a power.
    Source: specification §8 steps 1 to 3, §13 form 2.
    """
    ones = rows.new_ones(len(rows), 1)
    scaled = queries.float() * queries.shape[-1] ** -0.5
    left = BITS * torch.cat([scaled, -rows[:, None], ones], dim=1)
    right = torch.cat([keys.float(), ones, -(strongest + EPSILON).log()[:, None]], dim=1)
    nothing = BITS * attend.FAINTEST  # a power of it is no part of any sum, and no subnormal number
    weakest = max(math.log2(floor), nothing) if floor > 0 else nothing
    step = at_once(len(right), right.device)
    room = right.new_empty(min(step, len(right)), len(right))
    columns, values = laid_out(right), laid_out(maps.mT)
    parts = []
    for block in left.split(step):
        links = product(block, columns, out=room[: len(block)])
        torch.threshold_(links, _just_below(weakest), nothing).exp2_()
        parts.append(product(links, values) / _row_sums(links))
    return torch.cat(parts)


def _row_sums(links: Float[Tensor, "rows n"]) -> Float[Tensor, "rows 1"]:
    return links.sum(dim=-1, keepdim=True) + EPSILON


def _just_below(floor: float) -> float:
    """`threshold` keeps values greater than its argument; the method keeps equal ones too."""
    return float(torch.nextafter(torch.tensor(floor), torch.tensor(-torch.inf)))


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
