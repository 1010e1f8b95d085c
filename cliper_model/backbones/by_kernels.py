"""Parts of diffusers' networks by our own kernels, on cards that can run them.

They multiply by the same libraries; what is between two products passes memory once.
"""

from typing import Any

import torch
from diffusers.models.activations import GEGLU
from jaxtyping import Float
from torch import Tensor, nn

from ..stages.cards import kernels


def are_for(resnet: Any, given: Float[Tensor, "b c h w"]) -> bool:
    """Whether a residual block is of the usual kind, channels are last, and a card is there."""
    usual = isinstance(resnet.nonlinearity, nn.SiLU) and resnet.output_scale_factor == 1
    last = given.is_contiguous(memory_format=torch.channels_last)
    return usual and last and kernels(given.device) is not None


def residual(
    resnet: Any, hidden: Float[Tensor, "b c h w"], time: Float[Tensor, "1 d"] | None
) -> Float[Tensor, "b d h w"]:
    """A residual block; what its first convolution adds is added where it is read again."""
    own = kernels(hidden.device)
    inner = own.group_norm(hidden, resnet.norm1, activated=True)
    inner = own.convolved(resnet.conv1, inner, with_bias=False)
    shift = resnet.conv1.bias if time is None else resnet.conv1.bias + time[0]
    inner = own.group_norm(inner, resnet.norm2, activated=True, shift=shift)
    more = None
    if resnet.conv_shortcut is not None:
        hidden = own.convolved(resnet.conv_shortcut, hidden, with_bias=False)
        more = resnet.conv_shortcut.bias
    result: Tensor = own.convolved(resnet.conv2, inner, onto=hidden, more=more)
    return result


def convolved(layer: Any, given: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d y x"]:
    """A convolution by itself, on any device."""
    own = kernels(given.device)
    answer: Tensor = layer(given) if own is None else own.convolved(layer, given)
    return answer


class Geglu(nn.Module):
    """diffusers' GEGLU, `a * gelu(b)` of one layer's two halves."""

    def __init__(self, layer: GEGLU) -> None:
        super().__init__()
        self.proj = layer.proj

    def forward(self, given: Float[Tensor, "*n width"]) -> Float[Tensor, "*n wide"]:
        projected = self.proj(given)
        gated: Tensor = kernels(projected.device).geglu(projected)
        return gated


def take_over(network: nn.Module) -> None:
    """Put such layers in the place of a network's own."""
    for module in list(network.modules()):
        for name, layer in module.named_children():
            if type(layer) is GEGLU:
                setattr(module, name, Geglu(layer))
