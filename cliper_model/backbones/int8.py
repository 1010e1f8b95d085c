"""Linear layers of CLIP's vision tower in 8 bits: less to multiply, half of bfloat16's weights.

Every token and every row of a matrix has a scale of its own. One scale for a whole input would
be set by CLIP's few tokens of huge length, and the ordinary ones would lose most of their digits
(`tests/unit/cliper_model/test_int8.py` shows it).
"""

from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

LARGEST: Final = 127  # of a signed byte, and alike on both sides of zero
ZERO: Final = 128  # where zero lies among unsigned bytes
SMALLEST: Final = 1e-30  # a row of zeros has a scale, too


def scales_of(rows: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows 1"]:
    """Per row the step between neighbouring whole numbers, so that the largest becomes 127."""
    most = rows.abs().amax(dim=-1, keepdim=True)
    return most.float().clamp_min_(SMALLEST).div_(LARGEST)


class Int8Linear(nn.Module):
    """A linear layer that multiplies bytes, sums whole numbers exactly, and scales the sums.

    `weight` is float, of any precision; what comes out has that precision. Of it only the
    bytes are kept, laid out for oneDNN's product of unsigned with signed bytes: the one that
    processors have units for, so tokens are shifted by 128.
    """

    bias: Float[Tensor, " wide"]

    def __init__(self, weight: Float[Tensor, "wide width"], bias: Float[Tensor, " wide"]) -> None:
        super().__init__()
        scales = scales_of(weight)
        matrix = (weight / scales).round_().to(torch.int8)
        self.register_buffer("matrix", torch.ops.onednn.qlinear_prepack(matrix, None))
        self.register_buffer("scales", scales[:, 0])
        self.register_buffer("zeros", torch.zeros(len(weight), dtype=torch.int32))
        self.register_buffer("bias", bias.float())
        self.dtype = weight.dtype

    def forward(self, tokens: Float[Tensor, "*n width"]) -> Float[Tensor, "*n wide"]:
        rows = tokens.flatten(0, -2)
        scales = scales_of(rows)
        rows = (rows / scales).add_(ZERO + 0.5).to(torch.uint8)  # cut off: the nearest
        sums = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, ZERO, self.matrix, self.scales, self.zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        exact = torch.addcmul(self.bias, sums, scales)
        return exact.to(self.dtype).unflatten(0, tokens.shape[:-1])


class Int8Attention(nn.Module):
    """The layers around a block's attention: all three projections in one, and the output's."""

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = layer.num_heads
        self.in_proj = Int8Linear(layer.in_proj_weight, layer.in_proj_bias)
        self.out_proj = Int8Linear(layer.out_proj.weight, layer.out_proj.bias)

    def project(self, tokens: Float[Tensor, "*n width"]) -> Float[Tensor, "*n wide"]:
        projected: Tensor = self.in_proj(tokens)
        return projected


def shrink(model: Any) -> Any:
    """Put the linear layers of an open_clip model's vision tower into bytes, in place.

    Not those of the last block, whose values are what methods read, and nothing but these.
    """
    for block in model.visual.transformer.resblocks[:-1]:
        block.attn = Int8Attention(block.attn)
        for name in ("c_fc", "c_proj"):
            layer = getattr(block.mlp, name)
            setattr(block.mlp, name, Int8Linear(layer.weight, layer.bias))
    return model.eval()


def is_shrunk(network: nn.Module) -> bool:
    return any(isinstance(part, Int8Linear) for part in network.modules())
