"""Convolutions and linear layers whose weights lie as the processor's matrix units take them.

A plain layer has its weights laid out anew by oneDNN for every call: 59 MB for the largest of
Stable Diffusion's U-Net, which then multiplies 64 positions with them. Here that is done once. The
product is the same, in most layers to the bit.
"""

import logging
import math
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from diffusers.models.activations import GEGLU
from jaxtyping import Float
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional

from .. import allocator

logger = logging.getLogger(__name__)

OPERATORS: Final = ("_convolution_pointwise", "_convolution_pointwise_", "_linear_pointwise")
HOLE: Final = 2 * 2**20  # bytes; smaller weights leave holes that others fit in
ALONE: Final[tuple[str, list[Any], str]] = ("none", [], "")  # nothing follows the product


class OwnConv2d(nn.Module, ABC):
    """A convolution in the place of torch's."""

    out_channels: int
    is_three_by_three: bool  # and of stride and dilation 1, with the rows around it

    @abstractmethod
    def add_to(
        self,
        own: Float[Tensor, "b d y x"],
        given: Float[Tensor, "b c h w"],
        padding: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b d y x"]:
        """Add what comes out to `own`, in place; `padding` in place of the layer's own."""


class PackedConv2d(OwnConv2d):
    """A convolution; `weight` is for nobody else."""

    weight: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self._padding = layer.padding
        self._how: tuple[Any, ...] = (layer.stride, layer.dilation, layer.groups)
        pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.register_buffer("weight", pack(layer.weight.to_mkldnn(), layer.padding, *self._how))
        self.register_buffer("bias", layer.bias)
        self.out_channels = layer.out_channels
        around = (layer.kernel_size, layer.padding, layer.stride, layer.dilation)
        self.is_three_by_three = around == ((3, 3), (1, 1), (1, 1), (1, 1))

    def forward(
        self, given: Float[Tensor, "b c h w"], padding: tuple[int, int] | None = None
    ) -> Float[Tensor, "b d y x"]:
        """`padding` in place of the layer's own, rows and columns."""
        convolve = torch.ops.mkldnn._convolution_pointwise
        around = self._padding if padding is None else padding
        convolved: Tensor = convolve(given, self.weight, self.bias, around, *self._how, *ALONE)
        return convolved

    def add_to(
        self,
        own: Float[Tensor, "b d y x"],
        given: Float[Tensor, "b c h w"],
        padding: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b d y x"]:
        """Add what comes out to `own`, in place: sums are rounded once."""
        add = torch.ops.mkldnn._convolution_pointwise_.binary
        around = self._padding if padding is None else padding
        how: tuple[Any, ...] = ("add", 1.0, None, [], "")
        added: Tensor = add(own, given, self.weight, self.bias, around, *self._how, *how)
        return added


class PackedLinear(nn.Module):
    """A linear layer; `weight` is for nobody else."""

    weight: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        pack = torch.ops.mkldnn._reorder_linear_weight
        self.register_buffer("weight", pack(layer.weight.detach()))
        self.register_buffer("bias", layer.bias)

    def forward(self, given: Float[Tensor, "*n width"]) -> Float[Tensor, "*n wide"]:
        multiply = torch.ops.mkldnn._linear_pointwise
        product: Tensor = multiply(given, self.weight, self.bias, *ALONE)
        return product


class PackedPointwise(nn.Module):
    """A convolution of single positions as the linear layer it is.

    As a convolution its weights would be laid out before anybody has said how large pictures are,
    in blocks of another size than those its product then takes, and anew in every call: 23 ns a
    weight, nearly a third of what Stable Diffusion's U-Net cost on an AMD EPYC.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.linear = _layer(layer.weight.detach().flatten(1), layer.bias)
        self.out_channels = layer.out_channels

    def forward(self, given: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Channels last, as its positions come out side by side."""
        product: Tensor = self.linear(given.permute(0, 2, 3, 1))
        return product.permute(0, 3, 1, 2)


class PackedGeglu(nn.Module):
    """diffusers' GEGLU, `a * gelu(b)` of one layer's two halves, as two layers: the function is
    applied to sums that nobody has rounded or written to memory yet."""

    def __init__(self, layer: GEGLU) -> None:
        super().__init__()
        halves = zip(layer.proj.weight.chunk(2), layer.proj.bias.chunk(2), strict=True)
        self.plain, self.gate = (_layer(weight, bias) for weight, bias in halves)

    def forward(self, given: Float[Tensor, "*n width"]) -> Float[Tensor, "*n wide"]:
        gate: PackedLinear = self.gate
        how: tuple[Any, ...] = ("gelu", [], "none")  # by the error function
        gated: Tensor = torch.ops.mkldnn._linear_pointwise(given, gate.weight, gate.bias, *how)
        return gated.mul_(self.plain(given))


class PackedAttention(nn.Module):
    """The layers around a CLIP block's attention: all three projections, and the output's."""

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = layer.num_heads
        self.in_proj = _layer(layer.in_proj_weight.detach(), layer.in_proj_bias.detach())
        self.out_proj = PackedLinear(layer.out_proj)

    def project(self, tokens: Float[Tensor, "*n width"]) -> Float[Tensor, "*n wide"]:
        """Queries, keys and values of tokens in any precision."""
        projected: Tensor = self.in_proj(tokens.to(self.in_proj.weight.dtype))
        return projected


class PackedMlp(nn.Module):
    """A CLIP block's MLP, its layers packed already, and the LayerNorm before it.

    Its function is applied to sums that nobody has rounded or written to memory yet: QuickGELU,
    `x σ(1.702 x)`, as the swish of 1.702 x, which is 1.702 times that. So LayerNorm gives 1.702
    times what it did, and what comes out is divided by it as it is added.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mlp: Any, norm: nn.LayerNorm) -> None:
        super().__init__()
        self._steep, how = _FUSED[type(mlp.gelu)]
        self._how: tuple[Any, ...] = how
        self.c_fc, self.gelu, self.c_proj = mlp.c_fc, mlp.gelu, mlp.c_proj
        self._shape, self._eps = list(norm.normalized_shape), norm.eps
        scaled = (norm.weight, norm.bias, mlp.c_fc.bias.float(), mlp.c_proj.bias.float())
        for name, own in zip(("scale", "shift", "bias", "bias_out"), scaled, strict=True):
            self.register_buffer(name, self._steep * own.detach())

    @staticmethod
    def can_be(mlp: Any) -> bool:
        """Whether oneDNN has the MLP's function."""
        return type(mlp.gelu) in _FUSED and getattr(mlp.gelu, "approximate", "none") == "none"

    def add_to(self, tokens: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        """Add what their MLP gives to tokens, in place, rounded as often as otherwise."""
        multiply = torch.ops.mkldnn._linear_pointwise
        fc, out = self.c_fc.weight, self.c_proj.weight
        normed = functional.layer_norm(
            tokens.to(self.scale.dtype), self._shape, self.scale, self.shift, self._eps
        ).to(fc.dtype)
        hidden = multiply(normed, fc, self.bias, *self._how)
        given: Tensor = multiply(hidden, out, self.bias_out, *ALONE)
        return tokens.add_(given, alpha=1 / self._steep)


_FUSED: Final[dict[type, tuple[float, tuple[Any, ...]]]] = {
    QuickGELU: (1.702, ("swish", [], "")),
    nn.GELU: (1.0, ("gelu", [], "none")),
}


def _layer(
    weight: Float[Tensor, "wide width"], bias: Float[Tensor, " wide"] | None
) -> PackedLinear:
    layer = nn.Linear(1, 1, device="meta")
    layer.weight = nn.Parameter(weight, False)
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias, False))
    return PackedLinear(layer)


def _is_pointwise(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == layer.stride == (1, 1) and layer.padding in ((0, 0), "valid")


def can_be_packed(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this processor multiplies such numbers by units of its own, through oneDNN."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS):
        logger.warning("torch %s has no layers of laid out weights: slower", torch.__version__)
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def passing(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An empty tensor for a weight that will be packed: the system maps its memory for it alone,
    and takes it back once it is gone. Freed among others it would be a hole in the heap, and a
    picture's arrays would never lie side by side."""
    count = math.prod(shape)
    own = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    pages = mmap.mmap(-1, count * dtype.itemsize, **own)
    return torch.frombuffer(pages, dtype=dtype, count=count).view(*shape)


@torch.no_grad()
def pack(
    network: nn.Module, instead: Callable[[nn.Module], nn.Module | None] = lambda layer: None
) -> nn.Module:
    """Put such layers in the place of a network's own. One by one, and what each leaves behind is
    given back, so that at no time there are two of all weights; large ones first, so that others
    fit where these were on their way. Nothing can be loaded into it or moved afterwards.

    `instead` may give another layer in the place of one.
    """
    found = list(_packable(network))
    found.sort(key=lambda one: -_weight_of(getattr(*one)).nbytes)
    for parent, name in found:
        layer = getattr(parent, name)
        left = _weight_of(layer).nbytes
        setattr(parent, name, instead(layer) or _packed(layer))
        del layer
        if left >= HOLE:
            allocator.give_back_freed_memory()
    return network


def _packable(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Modules and the names of their layers that can be packed."""
    for name, layer in network.named_children():
        plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
        if plain or type(layer) is nn.Linear or isinstance(layer, GEGLU):
            yield network, name
        else:
            yield from _packable(layer)


def _weight_of(layer: Any) -> Tensor:
    weight: Tensor = layer.proj.weight if isinstance(layer, GEGLU) else layer.weight
    return weight


def _packed(layer: Any) -> nn.Module:
    if isinstance(layer, GEGLU):
        return PackedGeglu(layer)
    if isinstance(layer, nn.Conv2d):
        return PackedPointwise(layer) if _is_pointwise(layer) else PackedConv2d(layer)
    return PackedLinear(layer)


@torch.no_grad()
def pack_tower(model: Any) -> Any:
    """The linear layers of an open_clip model's vision tower, in place. Not those of the last
    block, of whose matrices methods read parts."""
    for block in model.visual.transformer.resblocks[:-1]:
        block.attn = PackedAttention(block.attn)
        pack(block.mlp)
        if PackedMlp.can_be(block.mlp):
            block.mlp = PackedMlp(block.mlp, block.ln_2)
    return model.eval()
