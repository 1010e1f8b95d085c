"""Segment Anything's image encoder as a feature source.

The network is timm's, which has the authors' windowed blocks and decomposed relative positions.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..errors import WeightsMismatch
from .checkpoints import fill, open_tensors
from .vit import check_size, normalise


class SamSource:
    """What the neck makes of the picture: 256 channels on a grid of 64 x 64.

    The picture is stretched to the square the encoder was trained on (1024 px, bilinear), not
    padded, so the grid is square whatever its shape, and nothing is cut.
    Source: proxyclip.md §3.
    """

    def __init__(self, network: Any, *, name: str, side: int) -> None:
        """`network` is timm's VisionTransformerSAM; `side` the pixels of its square input."""
        self._network = network.eval().requires_grad_(False)
        self._name, self._side = name, side

    @property
    def name(self) -> str:
        return self._name

    @property
    def multiple(self) -> int:
        return 1

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "channels h w"]:
        check_size(pixels, least=1, name=self.name)
        weight = self._network.patch_embed.proj.weight
        square = functional.interpolate(
            pixels.to(weight.device).float(),
            size=(self._side, self._side),
            mode="bilinear",
            align_corners=False,
        )
        seen: Tensor = self._network.forward_features(normalise(square).to(weight.dtype))
        return seen[0].float()


def load_sam(
    place: Path,
    *,
    name: str = "sam-vitb",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> SamSource:
    """Build the encoder from SAM's own checkpoint (mask decoder ignored) or timm's.

    Every size comes from the tensors: heads from the width of the relative positions, windowed
    and global blocks from their number. Raises WeightsMissing, WeightsMismatch.
    """
    tensors = open_tensors(place).renamed(_spell)
    of = f"{name} (an image encoder of Segment Anything)"
    embedding = tensors.shape("patch_embed.proj.weight", of=of)
    table = tensors.shape("pos_embed", of=of)
    neck = tensors.shape("neck.2.weight", of=of)
    head_width = tensors.shape("blocks.0.attn.rel_pos_h", of=of)[1]
    if len(table) != 4 or table[1] != table[2] or embedding[0] % head_width:
        raise WeightsMismatch(f"{tensors.path} is not {of}: its positions are no square grid")
    width, patch, grid = embedding[0], embedding[-1], table[1]
    depth = tensors.depth()
    reaches = [
        (tensors.shape(f"blocks.{number}.attn.rel_pos_h", of=of)[0] + 1) // 2
        for number in range(depth)
    ]
    windows = {reach for reach in reaches if reach != grid}
    if len(windows) > 1:
        raise WeightsMismatch(
            f"{tensors.path} is not {of}: its blocks have windows of {sorted(windows)} patches"
        )

    from timm.models.vision_transformer_sam import VisionTransformerSAM

    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    with torch.device("meta"):
        network: nn.Module = VisionTransformerSAM(
            img_size=grid * patch,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=width // head_width,
            mlp_ratio=tensors.shape("blocks.0.mlp.fc1.weight", of=of)[0] / width,
            qkv_bias="blocks.0.attn.qkv.bias" in tensors.shapes,
            norm_layer=norm,
            act_layer=nn.GELU,
            use_rel_pos=True,
            window_size=next(iter(windows), 0),
            global_attn_indexes=tuple(
                number for number, reach in enumerate(reaches) if reach == grid
            ),
            neck_chans=neck[0],
            num_classes=0,
            global_pool="",
        )
    filled = fill(network, tensors, of=of, dtype=dtype, device=device)
    return SamSource(filled, name=name, side=grid * patch)


def _spell(name: str) -> str | None:
    """timm's name of an official tensor; None for what no feature needs."""
    if name.startswith(("prompt_encoder.", "mask_decoder.", "head.")):
        return None
    return name.replace(".mlp.lin1.", ".mlp.fc1.").replace(".mlp.lin2.", ".mlp.fc2.")
