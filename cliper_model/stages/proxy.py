"""Features of a vision foundation model -> attention between their places (proxyclip.md §2)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def proxy_attention(
    features: Float[Tensor, "channels h w"], *, beta: float, gamma: float, safe: bool = True
) -> Float[Tensor, "n n"]:
    """Softmax of `gamma * (S - beta * mean(S))` with everything below zero cut, S the cosines.

    `n` counts the places of the feature map row by row; rows are queries. The mean runs over
    all `n²` entries of this picture, the diagonal included.
    A map so uniform that even the diagonal falls below `beta * mean` leaves rows without an
    entry: `safe` lets such a place attend to itself, the published code gives NaN.
    Source: ProxyCLIP, proxy attention module; specification §2 steps 3 to 5, §10.1.
    """
    places = functional.normalize(features.float().flatten(1), dim=0)
    similarity = places.T @ places
    shifted = gamma * (similarity - beta * similarity.mean())
    kept = shifted.masked_fill(shifted < 0, -torch.inf)
    if safe:
        lost = ~torch.isfinite(kept).any(dim=-1)
        kept = kept.masked_fill(torch.diag_embed(lost), 0.0)
    return torch.softmax(kept, dim=-1)
