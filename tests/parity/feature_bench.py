"""A golden directory of ProxyCLIP -> feature sources, the crops they look at, and what they saw.

Everything is read from the directory's own index: which cases there are, which network each
uses, how it is built, how close is close enough.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from cliper_model.backbones.base import FeatureSource
from cliper_model.backbones.diffusion_features import tapped
from cliper_model.backbones.sam import load_sam
from cliper_model.backbones.vit import load_vit
from cliper_model.stages.resize import CLIP_MEAN

METHOD: Final = "proxyclip"
PADDED_TO: Final = 56  # pixels; specification §6
CROP = re.compile(r"crop(\d+)\.ex_feats(?:_s(\d+))?")
TAP = re.compile(r"ex_feats\.(S|S_noskip|P)")
TAPS = {"S": "S", "S_noskip": "S-without-skip", "P": "P"}


def cases(folder: Path) -> list[dict[str, Any]]:
    """Every case that fixes what a feature source has to see."""
    index = json.loads((folder / "index.json").read_text())
    return [
        case
        for case in index["cases"]
        if any(CROP.fullmatch(name) for name in case["tensors"] if case.get("vfm"))
        or any(TAP.fullmatch(name) for name in case["tensors"])
    ]


class FeatureGolden:
    """An unpacked golden directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: dict[str, Any] = json.loads((folder / "index.json").read_text())

    @property
    def tolerance(self) -> float:
        """Absolute and relative, of features."""
        told = re.search(r"features\s+([\d.e+-]+)", self.index["tolerance"])
        if told is None:
            raise ValueError(f"no tolerance of features in {self.index['tolerance']!r}")
        return float(told[1])

    def tensors(self, case: dict[str, Any]) -> dict[str, Tensor]:
        return load_file(self.folder / f"{case['name']}.safetensors")

    def source(self, name: str) -> FeatureSource:
        """The network `name`, built as the index says."""
        config, place = self.index["weights"][name]["config"], self.folder / f"{name}.safetensors"
        if config["kind"].startswith("sam"):
            return load_sam(place, name=name)
        antialias = config.get("registers", 0) > 0
        return load_vit(
            place,
            name=name,
            heads=config["heads"],
            patch=config["patch"],
            registers=antialias,
            positions="bicubic-antialias" if antialias else "bicubic+0.1",
        )

    def crops(self, case: dict[str, Any], image: Tensor) -> list[Tensor]:
        """What the network sees, [1, 3, height, width] in [0, 1], in reading order.

        Windows and padding as in §6; padding is zero after CLIP's normalisation, so it is
        CLIP's mean before.
        """
        pixels = image.permute(2, 0, 1)[None] / 255
        crop, stride = case["slide_crop"], case["slide_stride"]
        if not crop:
            return [pixels]
        height, width = pixels.shape[-2:]
        return [
            _padded(pixels[..., top:bottom, left:right])
            for top, bottom in _spans(height, crop, stride)
            for left, right in _spans(width, crop, stride)
        ]

    def tap(self, case: dict[str, Any], given: dict[str, Tensor], name: str) -> Tensor:
        """One tap of the case's diffusion U-Net."""
        unet = UNet2DConditionModel(**self.index["weights"][case["weights"]]["config"])
        stored = load_file(self.folder / f"{case['weights']}.safetensors")
        unet.load_state_dict({key: value.float() for key, value in stored.items()})
        return tapped(
            unet.eval(),
            given["latents"][None],
            given["encoder_hidden_states"][None],
            timestep=int(given["timestep"]),
            tap=TAPS[name],
        )


def _spans(length: int, crop: int, stride: int) -> Iterator[tuple[int, int]]:
    for number in range(max(length - crop + stride - 1, 0) // stride + 1):
        end = min(number * stride + crop, length)
        yield max(end - crop, 0), end


def _padded(crop: Tensor) -> Tensor:
    height, width = crop.shape[-2:]
    rows, columns = -height % PADDED_TO, -width % PADDED_TO
    around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    mean = torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)
    return functional.pad(crop - mean, around) + mean
