"""TAESD: a small encoder into the latent space of Stable Diffusion, in diffusers' layout.

Distilled from the VAE of Stable Diffusion 1 and 2 (Ollin Boer Bohan, `madebyollin/taesd`,
diffusers' `AutoencoderTiny`). At 512 x 512 pixels it takes a ninth of the VAE's operations. Its
latents come scaled as the U-Net wants them, and are an estimate of the VAE's, not the same.
"""

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import WeightsMismatch
from . import checkpoints

FILE: Final = "diffusion_pytorch_model.safetensors"
LATENT_CHANNELS, LEVELS = 4, 4  # of Stable Diffusion's VAE: the picture is halved three times


def load_taesd(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """The encoder half of a TAESD: `folder` holds config.json and the file of all tensors.

    Kernels lie with channels last, which is a quarter faster on a CPU.
    Raises WeightsMissing, and WeightsMismatch where files are no encoder into the latent space
    of Stable Diffusion 2.
    """
    folder = Path(folder)
    config = checkpoints.read_json(folder / "config.json")
    _check(config, folder)
    with torch.device("meta"):
        vae = AutoencoderTiny.from_config(config)
    vae.decoder = None
    stored = checkpoints.open_tensors(folder / FILE)
    encoder = stored.renamed(lambda name: None if name.startswith("decoder.") else name)
    checkpoints.fill(vae, encoder, of="a TAESD as its config.json says", dtype=dtype, device=device)
    return vae.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


def latent(vae: Any, pixels: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 4 h w"]:
    """The latent as the U-Net wants it, of `pixels` in [-1, 1]: there is no posterior, and
    nothing is sampled."""
    encoded: Tensor = vae.encoder(pixels)  # takes pixels to the [0, 1] that it was trained on
    return encoded * vae.config.scaling_factor


def _check(config: dict[str, Any], folder: Path) -> None:
    """Raises WeightsMismatch for the config of another network or latent space."""
    kind = config.get("_class_name")
    if kind != "AutoencoderTiny":
        raise WeightsMismatch(
            f"{folder / 'config.json'} describes {kind!r} where TAESD is an 'AutoencoderTiny'"
        )
    channels = config.get("latent_channels", LATENT_CHANNELS)
    levels = len(config.get("encoder_block_out_channels", range(LEVELS)))
    if (channels, levels) != (LATENT_CHANNELS, LEVELS):
        raise WeightsMismatch(
            f"{folder} encodes into {channels} channels and {levels} levels, Stable Diffusion 2 "
            f"has {LATENT_CHANNELS} and {LEVELS}: take madebyollin/taesd, which is made for it"
        )
