"""A student that starts from a CLIP vision tower on this machine, with a branch for outlines.

Not the published student: that one starts from an ImageNet ResNet. Where no such weights are
at hand, the teacher's own tower is the best start there is: the untrained student sees what
MaskCLIP sees (§1), and learns from there.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..backbones.clip import ClipBackbone
from ..segmenter import Segmenter
from ..stages.resize import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from .errors import NothingToLearn

STRIDE = 4  # pixels per cell of the student's features


@dataclass(frozen=True, kw_only=True)
class TowerShape:
    """All that is needed to build a tower before its weights are filled in."""

    width: int
    layers: int
    heads: int
    patch: int  # pixels
    grid: int  # cells along a side of the position table
    embed: int
    hidden: int  # of the MLPs
    quick_gelu: bool


def shape_of(visual: Any) -> TowerShape:
    """The shape of an open_clip vision transformer."""
    block = visual.transformer.resblocks[0]
    width = int(visual.conv1.out_channels)
    return TowerShape(
        width=width,
        layers=len(visual.transformer.resblocks),
        heads=int(block.attn.num_heads),
        patch=int(visual.conv1.kernel_size[0]),
        grid=math.isqrt(visual.positional_embedding.shape[0] - 1),
        embed=int(visual.proj.shape[1]),
        hidden=int(block.mlp.c_fc.out_features),
        quick_gelu=type(block.mlp.gelu).__name__ == "QuickGELU",
    )


def vision_tower(segmenter: Segmenter) -> Any:
    """The open_clip vision transformer a method looks through. Raises NothingToLearn."""
    clip = getattr(segmenter, "clip", None)
    if not isinstance(clip, ClipBackbone):
        raise NothingToLearn(
            f"choose another network or teacher: {segmenter.identity.method} has no CLIP whose "
            "vision tower a student could start from"
        )
    return clip.vision


class Block(nn.Module):
    """A pre-norm transformer block under OpenAI's names."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.attn = nn.MultiheadAttention(shape.width, shape.heads, batch_first=True)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(shape.width, shape.hidden),
                "c_proj": nn.Linear(shape.hidden, shape.width),
            }
        )
        self.heads, self.quick_gelu = shape.heads, shape.quick_gelu

    def forward(
        self, tokens: Float[Tensor, "batch n width"], *, mix: bool
    ) -> Float[Tensor, "batch n width"]:
        """`mix` False lets every position keep its own value (MaskCLIP's last block)."""
        inner = functional.linear(
            self.ln_1(tokens), self.attn.in_proj_weight, self.attn.in_proj_bias
        )
        queries, keys, values = inner.chunk(3, dim=-1)
        if mix:
            split = (
                part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in (queries, keys, values)
            )
            values = functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        tokens = tokens + self.attn.out_proj(values)
        wide = self.mlp["c_fc"](self.ln_2(tokens))
        wide = wide * torch.sigmoid(1.702 * wide) if self.quick_gelu else functional.gelu(wide)
        return tokens + self.mlp["c_proj"](wide)


class Tower(nn.Module):
    """The vision tower, trainable, to dense features (§1)."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.conv1 = nn.Conv2d(3, width, shape.patch, stride=shape.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(shape.grid**2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.proj = nn.Parameter(torch.zeros(width, shape.embed))

    def fill(self, visual: Any) -> None:
        """Copy the weights of the open_clip tower this one has the shape of."""
        state = {key: value.detach().float() for key, value in visual.state_dict().items()}
        names = {key.replace("transformer.resblocks.", "blocks."): key for key in state}
        self.load_state_dict({key: state[names[key]] for key in self.state_dict()})

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch width_ h w"], Float[Tensor, "batch embed h w"]]:
        """Features behind the last LayerNorm, and projected; pixels in CLIP's statistics."""
        patches = self.conv1(pixels)
        h, w = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(tokens), 1, -1)
        tokens = self.ln_pre(torch.cat([first, tokens], dim=1) + self._positions(h, w))
        for block in self.blocks[:-1]:
            tokens = block(tokens, mix=True)
        normed = self.ln_post(self.blocks[-1](tokens, mix=False)[:, 1:])
        projected = normed @ self.proj
        grids = (part.transpose(1, 2).unflatten(2, (h, w)) for part in (normed, projected))
        return next(grids), next(grids)

    def _positions(self, h: int, w: int) -> Float[Tensor, "n width"]:
        side = self.shape.grid
        if (h, w) == (side, side):
            return self.positional_embedding
        table = self.positional_embedding[1:].T.unflatten(1, (side, side))[None]
        table = functional.interpolate(table, size=(h, w), mode="bicubic", align_corners=False)
        return torch.cat([self.positional_embedding[:1], table[0].flatten(1).T])


class TowerTrunk(nn.Module):
    """The tower's features, enlarged, plus what a few convolutions add for outlines.

    Before training the convolutions add nothing.
    """

    def __init__(self, shape: TowerShape, *, detail: int = 64) -> None:
        super().__init__()
        self.tower = Tower(shape)
        self.from_tower = _conv(shape.width, detail, kernel=1)
        self.stem = nn.Sequential(
            _conv(3, detail // 2, stride=2), _conv(detail // 2, detail, stride=2)
        )
        self.join = nn.Sequential(_conv(2 * detail, detail), _conv(detail, detail))
        self.head = nn.Conv2d(detail, shape.embed, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch embed h w"]:
        """ImageNet-normalised pixels -> features at stride 4."""
        height, width = pixels.shape[2:]
        patch = math.lcm(self.tower.shape.patch, STRIDE)
        whole = functional.pad(_in_clip_statistics(pixels), (0, -width % patch, 0, -height % patch))
        normed, projected = self.tower(whole)
        early = self.stem(whole)
        size = (early.shape[2], early.shape[3])
        wide = functional.interpolate(
            self.from_tower(normed), size=size, mode="bilinear", align_corners=False
        )
        added = self.head(self.join(torch.cat([early, wide], dim=1)))
        features = added + functional.interpolate(
            projected, size=size, mode="bilinear", align_corners=False
        )
        return features[:, :, : -(-height // STRIDE), : -(-width // STRIDE)]


def _in_clip_statistics(
    pixels: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 3 height width"]:
    def column(values: tuple[float, float, float]) -> Float[Tensor, "1 3 1 1"]:
        return torch.tensor(values, device=pixels.device, dtype=pixels.dtype).view(1, 3, 1, 1)

    rgb = pixels * column(IMAGENET_STD) + column(IMAGENET_MEAN)
    return (rgb - column(CLIP_MEAN)) / column(CLIP_STD)


def _conv(before: int, after: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
