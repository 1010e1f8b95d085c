"""Plain vision transformers as feature sources: DINO, DINOv2 with and without registers, MAE.

The blocks are timm's. Positions are resized here, because timm's own rule (antialiased, to a
given size) moves DINO's features by up to 0.13 where their deviation is 1.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..errors import WeightsMismatch
from ..stages.resize import IMAGENET_MEAN, IMAGENET_STD
from .checkpoints import Tensors, fill, open_tensors

HEAD_WIDTH: Final = 64  # of every published model of these families
POSITION_RULES: Final = ("bicubic+0.1", "bicubic-antialias")
UNUSED: Final = ("mask_token", "head.", "fc_norm.", "decoder", "projection_head.")


class VitSource:
    """The last block's patch tokens after the final LayerNorm; class token and registers left out.

    A side that is no whole multiple of the patch is cut at the right or bottom.
    Source: proxyclip.md §3.
    """

    def __init__(self, network: Any, *, name: str, positions: str = "bicubic+0.1") -> None:
        """`network` is timm's VisionTransformer whose position table covers the patches alone.

        positions  "bicubic+0.1" (DINO, DINOv2 without registers, MAE) or "bicubic-antialias"
                   (DINOv2 with registers)
        """
        if positions not in POSITION_RULES:
            raise ValueError(
                f"positions must be one of {', '.join(POSITION_RULES)}, got {positions!r}"
            )
        self._network = network.eval().requires_grad_(False)
        self._name, self._positions = name, positions

    @property
    def name(self) -> str:
        return self._name

    @property
    def multiple(self) -> int:
        """Patch side in pixels."""
        return int(self._network.patch_embed.proj.kernel_size[0])

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "channels h w"]:
        """Raises ValueError for a picture smaller than one patch."""
        network = self._network
        check_size(pixels, least=self.multiple, name=self.name)
        weight = network.patch_embed.proj.weight
        seen = normalise(pixels.to(weight.device)).to(weight.dtype)
        patches = network.patch_embed.proj(seen)
        grid_hw = (int(patches.shape[-2]), int(patches.shape[-1]))
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = tokens + resize_grid(network.pos_embed[0], grid_hw=grid_hw, rule=self._positions)
        leading = [network.cls_token]
        if network.reg_token is not None:
            leading.append(network.reg_token)
        tokens = torch.cat([*leading, tokens], dim=1)
        for block in network.blocks:
            tokens = block(tokens)
        kept = network.norm(tokens)[0, -grid_hw[0] * grid_hw[1] :]
        return kept.float().T.unflatten(1, grid_hw)


def load_vit(
    place: Path,
    *,
    name: str = "vit",
    positions: str = "bicubic+0.1",
    patch: int | None = None,
    registers: bool | None = None,
    layer_scale: bool | None = None,
    heads: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VitSource:
    """Build a source from a checkpoint with the official tensor names or timm's.

    Depth, width, patch, table of positions, MLP width, layer scale and registers come from the
    tensors; `heads` None takes one head per 64 channels, as all published models have.
    `patch` (pixels), `registers` and `layer_scale` say what the file has to be; None takes
    any. MAE's decoder and classifiers are ignored.

    Raises WeightsMissing, and WeightsMismatch where the file is something else.
    """
    tensors = open_tensors(place).renamed(_spell)
    of = f"{name} (a plain vision transformer)"
    width, _, rows, columns = _four(tensors.shape("patch_embed.proj.weight", of=of), tensors, of)
    tensors.shape("cls_token", of=of)
    positions_shape = tensors.shape("pos_embed", of=of)
    if len(positions_shape) != 3 or rows != columns:
        raise WeightsMismatch(f"{tensors.path} is not {of}: patches and positions are not square")
    if "blocks.0.mlp.w12.weight" in tensors.shapes:
        raise WeightsMismatch(
            f"{tensors.path} is a giant model with a gated MLP; give a small, base or large one"
        )
    found = {
        "patch": rows,
        "registers": "reg_token" in tensors.shapes,
        "layer scale": "blocks.0.ls1.gamma" in tensors.shapes,
    }
    asked = {"patch": patch, "registers": registers, "layer scale": layer_scale}
    for what, wanted in asked.items():
        if wanted is not None and found[what] != wanted:
            raise WeightsMismatch(
                f"{tensors.path} is not {name}: it has {_told(what, found[what])}, {name} has "
                f"{_told(what, wanted)}"
            )

    cells, own_row = _grid_cells(positions_shape[1], tensors, of)
    mlp = tensors.shape("blocks.0.mlp.fc1.weight", of=of)[0]
    network = _lay_out(
        side=math.isqrt(cells) * rows,
        patch=rows,
        width=width,
        depth=tensors.depth(),
        heads=_heads(width, heads, tensors.path),
        mlp=mlp,
        qkv_bias="blocks.0.attn.qkv.bias" in tensors.shapes,
        layer_scale=bool(found["layer scale"]),
        registers=tensors.shapes["reg_token"][1] if found["registers"] else 0,
    )
    if own_row:
        tensors = _class_position_added(tensors)
    return VitSource(
        fill(network, tensors, of=of, dtype=dtype, device=device), name=name, positions=positions
    )


def resize_grid(
    table: Float[Tensor, "cells width"], *, grid_hw: tuple[int, int], rule: str
) -> Float[Tensor, "cells2 width"]:
    """Positions of a square table on another grid; the table's own grid is left alone.

    bicubic+0.1        the scale factor `(side + 0.1) / table side` drives the sampling
                       coordinates, no antialias (DINO; DINOv2 without registers)
    bicubic-antialias  to the given size (DINOv2 with registers)

    Source: proxyclip.md §3.
    """
    side = math.isqrt(table.shape[0])
    if grid_hw == (side, side):
        return table
    as_image = table.T.reshape(1, -1, side, side).float()
    if rule == "bicubic+0.1":
        factors = [(cells + 0.1) / side for cells in grid_hw]
        resized = functional.interpolate(as_image, scale_factor=factors, mode="bicubic")
    else:
        resized = functional.interpolate(as_image, size=grid_hw, mode="bicubic", antialias=True)
    return resized[0].flatten(1).T.to(table.dtype)


def normalise(pixels: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "1 3 height width"]:
    """RGB in [0, 1] -> ImageNet's mean and deviation, which all these networks were trained on."""
    mean = torch.tensor(IMAGENET_MEAN, device=pixels.device).view(1, 3, 1, 1)
    return (pixels - mean) / torch.tensor(IMAGENET_STD, device=pixels.device).view(1, 3, 1, 1)


def check_size(pixels: Float[Tensor, "1 3 height width"], *, least: int, name: str) -> None:
    """Raises ValueError where a side has fewer than `least` pixels."""
    height, width = pixels.shape[-2:]
    if min(height, width) < least:
        raise ValueError(
            f"{name} needs at least {least} pixels per side, got {height} x {width}; pad the "
            "picture first"
        )


def _spell(name: str) -> str | None:
    """timm's name of an official tensor; None for what no feature needs."""
    if name.startswith(UNUSED):
        return None
    if name == "register_tokens":
        return "reg_token"
    return name.replace(".mlp.lin1.", ".mlp.fc1.").replace(".mlp.lin2.", ".mlp.fc2.")


def _told(what: str, value: object) -> str:
    if what == "patch":
        return f"patches of {value} pixels"
    return what if value else f"no {what}"


def _four(shape: tuple[int, ...], tensors: Tensors, of: str) -> tuple[int, int, int, int]:
    if len(shape) != 4 or shape[1] != 3:
        raise WeightsMismatch(
            f"{tensors.path} is not {of}: its patch embedding has the shape {list(shape)}"
        )
    return shape[0], shape[1], shape[2], shape[3]


def _grid_cells(rows: int, tensors: Tensors, of: str) -> tuple[int, bool]:
    """Cells of the square table, and whether the class token has a row of its own before them."""
    for cells, own_row in ((rows - 1, True), (rows, False)):
        if cells > 0 and math.isqrt(cells) ** 2 == cells:
            return cells, own_row
    raise WeightsMismatch(f"{tensors.path} is not {of}: {rows} positions are no square grid")


def _heads(width: int, heads: int | None, path: Path) -> int:
    if heads is None:
        if width % HEAD_WIDTH:
            raise WeightsMismatch(
                f"{path} has {width} channels, which is no published size; say how many heads "
                "it has"
            )
        return width // HEAD_WIDTH
    if heads < 1 or width % heads:
        raise WeightsMismatch(f"{path} has {width} channels, which {heads} heads cannot share")
    return heads


def _class_position_added(tensors: Tensors) -> Tensors:
    """The class token's position goes into the token, so that the table holds patches alone."""
    shapes = dict(tensors.shapes)
    _, rows, width = shapes["pos_embed"]
    shapes["pos_embed"] = (1, rows - 1, width)

    def read(name: str) -> Tensor:
        if name == "pos_embed":
            return tensors.read(name)[:, 1:].contiguous()
        if name == "cls_token":
            return tensors.read(name).float() + tensors.read("pos_embed")[:, :1].float()
        return tensors.read(name)

    return Tensors(path=tensors.path, shapes=shapes, read=read)


def _lay_out(
    *,
    side: int,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    mlp: int,
    qkv_bias: bool,
    layer_scale: bool,
    registers: int,
) -> nn.Module:
    """timm's module without memory; exact GELU, LayerNorm with epsilon 1e-6."""
    from timm.models.vision_transformer import VisionTransformer

    with torch.device("meta"):
        network: nn.Module = VisionTransformer(
            img_size=side,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            mlp_ratio=mlp / width,
            qkv_bias=qkv_bias,
            init_values=1.0 if layer_scale else None,
            reg_tokens=registers,
            no_embed_class=True,
            num_classes=0,
            global_pool="",
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            act_layer=nn.GELU,
            weight_init="skip",
        )
    return network
