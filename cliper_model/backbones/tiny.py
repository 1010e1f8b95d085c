"""Seeded toy networks: the whole pipeline in milliseconds, with nothing to download.

Their masks mean nothing; they exist so that contracts can be tested.
"""

from dataclasses import dataclass

import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional

from .clip import ClipBackbone
from .diffusion import DiffusionBackbone

SIDE = 64  # pixels of the toy diffusion input: 16 x 16 positions


def tiny_clip(seed: int = 0) -> ClipBackbone:
    """Four vision layers, patch 16, two heads; text of two layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(
            embed_dim=32,
            vision_cfg={
                "image_size": 64,
                "layers": 4,
                "width": 64,
                "head_width": 32,
                "patch_size": 16,
            },
            text_cfg={
                "context_length": 77,
                "vocab_size": 49408,
                "width": 32,
                "heads": 2,
                "layers": 2,
            },
            quick_gelu=True,
        )
    return ClipBackbone(model, open_clip.SimpleTokenizer(context_length=77))


def tiny_diffusion(seed: int = 0, *, noise_seed: int | None = 0) -> DiffusionBackbone:
    """A factor-4 autoencoder and a two-level U-Net with two heads in each tapped layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            mid_block_add_attention=False,
        )
        unet = UNet2DConditionModel(
            sample_size=SIDE // 4,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(16, 16),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        prompt = torch.randn(1, 8, 16)
    return DiffusionBackbone(
        vae,
        unet,
        empty_prompt=prompt,
        side=SIDE,
        timestep=101,
        noise_share=(0.944976, 0.327139),
        noise_seed=noise_seed,
    )


@dataclass(frozen=True)
class TinyFeatures:
    """Seeded projections of 8 x 8 px cells: the shape of a feature source, in microseconds."""

    kernels: Float[Tensor, "channels 3 8 8"]

    @property
    def name(self) -> str:
        return "tiny"

    @property
    def multiple(self) -> int:
        return int(self.kernels.shape[-1])

    def features(self, pixels: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "channels h w"]:
        """The mean of every colour is taken off first, so that places differ."""
        return functional.conv2d(pixels.float() - 0.5, self.kernels, stride=self.multiple)[0]


def tiny_features(seed: int = 0) -> TinyFeatures:
    """Twelve channels on a grid of 8 px."""
    return TinyFeatures(torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(seed)))
