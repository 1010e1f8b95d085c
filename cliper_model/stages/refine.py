"""Coarse maps + diffusion self-attention -> refined maps (specification §8).

The chain is applied right to left, one head at a time: thin products, the same answer as
multiplying all maps first, and a block of one `n x n` matrix in memory instead of ten.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from . import attention as attend
from .attention import softmax_
from .proxy import proxy_attention
from .resize import resize_maps

EPSILON = 1e-5


def attention_map(
    queries: Float[Tensor, "rows width"],
    keys: Float[Tensor, "n width"],
    *,
    out: Float[Tensor, "rows n"] | None = None,
) -> Float[Tensor, "rows n"]:
    """Self-attention probabilities of one head, or of some of its queries, in float32."""
    queries, keys = queries.float()[None], keys.float()[None]
    room = queries.new_empty(queries.shape[1], keys.shape[1]) if out is None else out
    scale = queries.shape[-1] ** -0.5
    torch.baddbmm(room[None], queries, keys.mT, beta=0, alpha=scale, out=room[None])
    return softmax_(room)


def mix(
    queries: Float[Tensor, "n width"],
    keys: Float[Tensor, "n width"],
    values: Float[Tensor, "n width"],
) -> Float[Tensor, "n width"]:
    """What one head gives: its `attention_map` times the values, a block of queries at a time."""
    blocks = queries.split(attend.at_once(len(keys), keys.device))
    room = torch.empty(len(blocks[0]), len(keys), device=keys.device)
    return torch.cat(
        [attention_map(block, keys, out=room[: len(block)]) @ values.float() for block in blocks]
    )


def keep_strong_links(
    attention: Float[Tensor, "rows n"],
    *,
    floor: float,
    strongest: Float[Tensor, " n"] | None = None,
    out: Float[Tensor, "rows n"] | None = None,
) -> Float[Tensor, "rows n"]:
    """Divide each key's column by its strongest query; cut what is below `floor`.

    strongest  of every column, where `attention` holds some of the rows; None finds it
    out        may be `attention` itself

    Rows are not yet normalised (see `apply_rows`). Source: specification §8 steps 1 and 2.
    """
    if strongest is None:
        strongest = attention.amax(dim=-2)
    relative = torch.div(attention, strongest + EPSILON, out=out)
    return torch.threshold_(relative, _just_below(floor), 0.0)


def _just_below(floor: float) -> float:
    """`threshold` keeps values greater than its argument; the method keeps equal ones too."""
    return float(torch.nextafter(torch.tensor(floor), torch.tensor(-torch.inf)))


def apply_rows(
    links: Float[Tensor, "rows n"], maps: Float[Tensor, "n classes"]
) -> Float[Tensor, "rows classes"]:
    """Row-normalised product; a row that lost all links gives zero."""
    return links @ maps / (links.sum(dim=-1, keepdim=True) + EPSILON)


def strongest_queries(
    queries: Float[Tensor, "heads n width"], keys: Float[Tensor, "heads n width"]
) -> Float[Tensor, "heads n"]:
    """The strongest query of every key, head by head: the maximum of every map's columns.

    It depends on the picture alone, so whoever keeps it computes every map once per question
    instead of twice. Source: specification §8 step 1, §13 form 2.
    """
    heads = [_strongest(*head) for head in zip(queries, keys, strict=True)]
    return torch.stack(heads) if heads else queries.new_zeros(0, keys.shape[1])


def _strongest(
    queries: Float[Tensor, "n width"], keys: Float[Tensor, "n width"]
) -> Float[Tensor, " n"]:
    blocks = queries.float().split(attend.at_once(len(keys), keys.device))
    keys = keys.float()
    room = keys.new_empty(len(blocks[0]), len(keys))
    strongest = keys.new_zeros(len(keys))
    for block in blocks:
        attention = attention_map(block, keys, out=room[: len(block)])
        strongest = torch.maximum(strongest, attention.amax(dim=0))
    return strongest


def spread(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "n width"],
    keys: Float[Tensor, "n width"],
    *,
    floor: float,
    strongest: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n classes"]:
    """One head's map, columns by their strongest query and weak links cut, times class maps.

    A block of queries is compared with all keys at a time, so memory grows with n and not with
    its square. `strongest` is the head's part of `strongest_queries`; without it a map of more
    than one block is computed twice.
    Source: specification §8 steps 1 to 3, §13 form 2.
    """
    blocks = queries.float().split(attend.at_once(len(keys), keys.device))
    if strongest is None and len(blocks) > 1:
        strongest = _strongest(queries, keys)
    keys = keys.float()
    room = keys.new_empty(len(blocks[0]), len(keys))
    parts = []
    for block in blocks:
        attention = attention_map(block, keys, out=room[: len(block)])
        links = keep_strong_links(attention, floor=floor, strongest=strongest, out=attention)
        parts.append(apply_rows(links, maps))
    return torch.cat(parts)


def chain(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
    strongest: Float[Tensor, "heads n"] | None = None,
) -> Float[Tensor, "n classes"]:
    """Product of all heads' maps times the class maps, last head first.

    strongest  as `strongest_queries` finds it, if somebody kept it

    Source: CLIPer, fine-grained compensation; specification §8 `SFSA`, §13 form 1.
    """
    known = _per_head(strongest, len(queries))
    for head in reversed(range(len(queries))):
        maps = spread(maps, queries[head], keys[head], floor=floor, strongest=known[head])
    return maps


def mean_of_heads(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
    strongest: Float[Tensor, "heads n"] | None = None,
) -> Float[Tensor, "n classes"]:
    """Average of every head applied on its own (specification §8 `mean`)."""
    heads = queries.shape[0]
    known = _per_head(strongest, heads)
    total = torch.zeros_like(maps)
    for head in range(heads):
        one = spread(maps, queries[head], keys[head], floor=floor, strongest=known[head])
        total = total + one
    return total / heads


def one_head(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
    head: int,
    strongest: Float[Tensor, "heads n"] | None = None,
) -> Float[Tensor, "n classes"]:
    """A single head of the concatenated order (specification §8 `selection`)."""
    known = _per_head(strongest, len(queries))
    return spread(maps, queries[head], keys[head], floor=floor, strongest=known[head])


def _per_head(
    strongest: Float[Tensor, "heads n"] | None, heads: int
) -> Sequence[Float[Tensor, " n"] | None]:
    return [None] * heads if strongest is None else strongest.unbind()


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
