"""Coarse maps + diffusion self-attention -> refined maps (specification §8).

The chain is applied right to left, one head at a time: thin products, the same answer as
multiplying all maps first, and one `n x n` matrix in memory instead of ten.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .proxy import proxy_attention
from .resize import resize_maps

EPSILON = 1e-5


def attention_map(
    queries: Float[Tensor, "n width"], keys: Float[Tensor, "n width"]
) -> Float[Tensor, "n n"]:
    """Self-attention probabilities of one head, in float32."""
    queries, keys = queries.float()[None], keys.float()[None]
    room = queries.new_empty(1, queries.shape[1], keys.shape[1])
    scale = queries.shape[-1] ** -0.5
    products = torch.baddbmm(room, queries, keys.transpose(1, 2), beta=0, alpha=scale)
    return torch.softmax(products[0], dim=-1)


def keep_strong_links(attention: Float[Tensor, "n n"], *, floor: float) -> Float[Tensor, "n n"]:
    """Divide each key's column by its strongest query; cut what is below `floor`.

    Rows are not yet normalised (see `apply_rows`). Source: specification §8 steps 1 and 2.
    """
    strongest = attention.amax(dim=-2, keepdim=True) + EPSILON
    relative = attention / strongest
    return torch.nn.functional.threshold(relative, _just_below(floor), 0.0)


def _just_below(floor: float) -> float:
    """`threshold` keeps values greater than its argument; the method keeps equal ones too."""
    return float(torch.nextafter(torch.tensor(floor), torch.tensor(-torch.inf)))


def apply_rows(
    links: Float[Tensor, "n n"], maps: Float[Tensor, "n classes"]
) -> Float[Tensor, "n classes"]:
    """Row-normalised product; a row that lost all links gives zero."""
    return links @ maps / (links.sum(dim=-1, keepdim=True) + EPSILON)


def chain(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
) -> Float[Tensor, "n classes"]:
    """Product of all heads' maps times the class maps, last head first.

    Source: CLIPer, fine-grained compensation; specification §8 `SFSA`, §13 form 1.
    """
    for head in reversed(range(queries.shape[0])):
        maps = apply_rows(
            keep_strong_links(attention_map(queries[head], keys[head]), floor=floor), maps
        )
    return maps


def mean_of_heads(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
) -> Float[Tensor, "n classes"]:
    """Average of every head applied on its own (specification §8 `mean`)."""
    heads = queries.shape[0]
    total = torch.zeros_like(maps)
    for head in range(heads):
        links = keep_strong_links(attention_map(queries[head], keys[head]), floor=floor)
        total = total + apply_rows(links, maps)
    return total / heads


def one_head(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    floor: float,
    head: int,
) -> Float[Tensor, "n classes"]:
    """A single head of the concatenated order (specification §8 `selection`)."""
    links = keep_strong_links(attention_map(queries[head], keys[head]), floor=floor)
    return apply_rows(links, maps)


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
