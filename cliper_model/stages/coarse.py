"""Per-layer probabilities + patch links -> coarse class maps (specification §5 steps 4 to 6)."""

import torch
from jaxtyping import Float
from torch import Tensor


def cut_weak(maps: Float[Tensor, "classes h w"], *, floor: float) -> Float[Tensor, "classes h w"]:
    """Zero what is below `floor` times the class's own maximum (strictly)."""
    strongest = maps.amax(dim=(-2, -1), keepdim=True)
    return maps.masked_fill(maps < floor * strongest, 0.0)


def cut_selected_layer(
    layer_maps: Float[Tensor, "layers classes h w"], *, layer: int, floor: float
) -> Float[Tensor, "layers classes h w"]:
    """Cut one layer, leave the others: the layer mean taken later contains the cut layer.

    The authors' code thresholds in place, so published numbers include this.
    """
    cut = layer_maps.clone()
    cut[layer] = cut_weak(layer_maps[layer], floor=floor)
    return cut


def spread_along_links(
    maps: Float[Tensor, "classes h w"], links: Float[Tensor, "patches patches"]
) -> Float[Tensor, "classes h w"]:
    """Each patch hands its score on along its own attention row: score row times matrix."""
    return (maps.flatten(1) @ links).view_as(maps)


def combine(
    layer_maps: Float[Tensor, "layers classes h w"],
    links: Float[Tensor, "patches patches"],
    *,
    layer: int,
    with_mean: bool = True,
) -> Float[Tensor, "classes h w"]:
    """Selected layer spread along the links, plus the mean over all layers.

    `layer_maps` are already cut (`cut_selected_layer`). Without layer fusion there is no
    mean term (`with_mean=False`). Values reach about 2.
    """
    spread = spread_along_links(layer_maps[layer], links)
    return spread + torch.mean(layer_maps, dim=0) if with_mean else spread
