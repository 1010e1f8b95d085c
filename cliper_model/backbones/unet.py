"""A plain encoder-decoder U-Net's state dict as a feature source.

The source text of ProxyCLIP tried one that was trained on a single narrow data set. Read is
the common layout `inc`, `down1` …, `up1` …, `outc` of double convolutions with batch
normalisation, with bilinear or transposed-convolution upsampling; widths and depth come from
the tensors.
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..errors import WeightsMismatch
from .checkpoints import Tensors, fill, open_tensors
from .vit import check_size

CELL: Final = 8  # pixels; the grid of DINO B/8


class PlainUNet(nn.Module):
    """Encoder, and decoder up to the last up block's upsampling.

    `widths` are the channels of `inc`, `down1`, …; `ups` the channels each up block's double
    convolution has in the middle and gives; `transposed` whether upsampling is learned.
    """

    def __init__(
        self,
        widths: Sequence[int],
        ups: Sequence[tuple[int, int]],
        *,
        transposed: bool,
        bias: bool,
        channels: int = 3,
    ) -> None:
        super().__init__()
        depth = len(widths) - 1
        self.inc = _DoubleConv(channels, widths[0], widths[0], bias=bias)
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            self.add_module(f"down{number}", _Down(before, after, bias=bias))
        given = widths[-1]
        for number, (middle, after) in enumerate(ups, start=1):
            skip = widths[depth - number]
            last = number == depth
            block = _Up(given, skip, middle, after, transposed=transposed, bias=bias, last=last)
            self.add_module(f"up{number}", block)
            given = after
        self.depth = depth

    def forward(
        self, pixels: Float[Tensor, "1 3 height width"]
    ) -> Float[Tensor, "1 c height width"]:
        """What enters the first convolution of the last up block: skip first, upsampled second."""
        hidden = self.inc(pixels)
        skips = []
        for number in range(1, self.depth + 1):
            skips.append(hidden)
            hidden = self.get_submodule(f"down{number}")(hidden)
        for number in range(1, self.depth + 1):
            hidden = self.get_submodule(f"up{number}")(hidden, skips.pop())
        return hidden


class _DoubleConv(nn.Module):
    def __init__(self, given: int, middle: int, after: int, *, bias: bool) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(given, middle, 3, padding=1, bias=bias),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, after, 3, padding=1, bias=bias),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return self.double_conv(hidden)


class _Down(nn.Module):
    def __init__(self, given: int, after: int, *, bias: bool) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(
            nn.MaxPool2d(2), _DoubleConv(given, after, after, bias=bias)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return self.maxpool_conv(hidden)


class _Up(nn.Module):
    """Upsample, pad to the skip's size where a level was odd, join; the last one ends there."""

    def __init__(
        self,
        given: int,
        skip: int,
        middle: int,
        after: int,
        *,
        transposed: bool,
        bias: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.up: nn.Module
        if transposed:
            self.up = nn.ConvTranspose2d(given, given // 2, 2, stride=2)
        else:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        taken = skip + (given // 2 if transposed else given)
        self.conv = None if last else _DoubleConv(taken, middle, after, bias=bias)

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        hidden = self.up(hidden)
        rows, columns = (skip.shape[axis] - hidden.shape[axis] for axis in (-2, -1))
        around = [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
        joined = torch.cat([skip, functional.pad(hidden, around)], dim=1)
        return joined if self.conv is None else self.conv(joined)


class UNetSource:
    """The joined input of the last up block, averaged over cells of 8 x 8 pixels.

    The tap itself has the picture's own resolution: 336 x 336 px are 112896 positions, and
    their similarities would take 50 GB. `cell` pixels per side are averaged to one position;
    what is left over at the right and bottom is cut. Pixels stay in [0, 1].
    Source: proxyclip.md §8, tapped as variant S.
    """

    def __init__(self, network: PlainUNet, *, name: str = "unet", cell: int = CELL) -> None:
        if cell < 1:
            raise ValueError(f"cell must be at least 1 pixel, got {cell}")
        self._network: Any = network.eval().requires_grad_(False)
        self._name, self._cell = name, cell

    @property
    def name(self) -> str:
        return self._name

    @property
    def multiple(self) -> int:
        """Pixels: whole cells, and what every level can halve."""
        return math.lcm(self._cell, 2**self._network.depth)

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "channels h w"]:
        """Raises ValueError for a picture too small for the deepest level or for one cell."""
        least = max(2**self._network.depth, self._cell)
        check_size(pixels, least=least, name=self.name)
        weight = self._network.inc.double_conv[0].weight
        joined = self._network(pixels.to(weight.device, weight.dtype)).float()
        return functional.avg_pool2d(joined, self._cell)[0]


def load_unet(
    place: Path,
    *,
    name: str = "unet",
    cell: int = CELL,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> UNetSource:
    """Build the source from a state dict. Raises WeightsMissing, WeightsMismatch."""
    tensors = open_tensors(place)
    of = f"{name} (a U-Net with inc, down1 …, up1 … of double convolutions)"
    first = tensors.shape("inc.double_conv.0.weight", of=of)
    if len(first) != 4 or first[1] != 3:
        raise WeightsMismatch(f"{tensors.path} is not {of}: it does not take RGB pictures")
    depth = _count(tensors, "down")
    if depth < 1 or _count(tensors, "up") != depth:
        raise WeightsMismatch(
            f"{tensors.path} is not {of}: {depth} down and {_count(tensors, 'up')} up blocks"
        )
    downs = (f"down{number}.maxpool_conv.1.double_conv.3.weight" for number in range(1, depth + 1))
    widths = [first[0], *(tensors.shape(down, of=of)[0] for down in downs)]
    ups = []
    for number in range(1, depth + 1):
        middle = tensors.shape(f"up{number}.conv.double_conv.0.weight", of=of)
        after = tensors.shape(f"up{number}.conv.double_conv.3.weight", of=of)
        ups.append((middle[0], after[0]))
    with torch.device("meta"):
        network = PlainUNet(
            widths,
            ups,
            transposed="up1.up.weight" in tensors.shapes,
            bias="inc.double_conv.0.bias" in tensors.shapes,
        )
    used = tensors.renamed(lambda tensor: None if _behind_the_tap(tensor, depth) else tensor)
    fill(network, used, of=of, dtype=dtype, device=device)
    return UNetSource(network, name=name, cell=cell)


def _count(tensors: Tensors, stem: str) -> int:
    found = {match[1] for name in tensors.shapes if (match := re.match(rf"{stem}(\d+)\.", name))}
    return len(found)


def _behind_the_tap(name: str, depth: int) -> bool:
    return name == "mask_values" or name.startswith(("outc.", f"up{depth}.conv."))
