"""U-Nets that never saw a mask: what refinement owes to having a U-Net at all."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..backbones import clip_weights, diffusion_weights
from ..backbones.diffusion_weights import DiffusionWeights
from .compact import read_compact, write_compact
from .diffusion_network import UNET_CONFIG, build_unet
from .evaluation import Inference, Sight
from .export import without_unread

CONTROL_FILE: Final = "control-noise-only.safetensors"

TRAINED: Final = "trained"
UNTRAINED: Final = "untrained"
WELL_STARTED: Final = "key = query start"
NOISE_ONLY: Final = "noise prediction only"

_SEED: Final = 5  # of the two that are not trained


@dataclass(frozen=True)
class Networks:
    """Which networks a figure is measured with; a small value that travels to a process."""

    weights: Path
    inference: Inference
    unet: str = TRAINED

    def sight(self) -> Sight:
        """The networks in memory, float32. Raises WeightsMissing, WeightsMismatch."""
        clip, _ = clip_weights.load_demo_clip(self.weights)
        diffusion = diffusion_weights.load_demo_diffusion(self.weights)
        return Sight(
            clip,
            self.inference,
            vae=diffusion.vae,
            unet=_unet(self.unet, diffusion, self.weights),
            empty_prompt=diffusion.empty_prompt,
        )


def controls(weights: Path) -> tuple[str, ...]:
    """Names of the controls that can be made from the files in `weights`."""
    told = (NOISE_ONLY,) if (weights / CONTROL_FILE).is_file() else ()
    return (UNTRAINED, WELL_STARTED, *told)


def export_control(unet: Mapping[str, Tensor], folder: Path) -> None:
    """The U-Net trained on noise alone, at one byte per value."""
    folder.mkdir(parents=True, exist_ok=True)
    write_compact(without_unread(unet), folder / CONTROL_FILE)


def _unet(name: str, diffusion: DiffusionWeights, weights: Path) -> nn.Module:
    if name == TRAINED:
        return diffusion.unet
    if name == NOISE_ONLY:
        unet = copy.deepcopy(diffusion.unet)
        unet.load_state_dict(read_compact(weights / CONTROL_FILE))
        return unet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return UNet2DConditionModel(**UNET_CONFIG) if name == UNTRAINED else build_unet()
