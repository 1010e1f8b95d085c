"""The diffusion U-Net as a feature source: one noiseless pass that stops at the tap.

The source text of ProxyCLIP's U-Net experiment names neither network, time step, prompt nor
input size. Variant S follows its words, variant P the paper's supplement as far as it goes.
"""

from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .diffusion import DiffusionBackbone
from .vit import check_size

TAPS: Final = ("S", "S-without-skip", "P")
TIMESTEPS: Final = {"S": 1, "P": 0}
SIDES: Final = {"S": 512, "P": 704}  # pixels for a network made for 512
MADE_FOR: Final = 512


class DiffusionFeatures:
    """Features of a Stable Diffusion U-Net (specification proxyclip §8).

    S  input stretched to the network's own side (512 px), time step 1, tap: what enters the
       first residual block of the last up block (upsampled features first, skip second)
    P  input stretched to 704 px for a network made for 512, time step 0, tap: output of the
       first up block after its upsampler

    No noise is added, the latent is the mean of the posterior times the scaling factor, the
    prompt is empty. A network made for another side (the demo's is made for 256) keeps the
    proportion 704 : 512, rounded to what its levels can halve. Stretching is bilinear without
    antialias, so the grid is square whatever the picture's shape, and nothing is cut.
    """

    def __init__(self, backbone: DiffusionBackbone, *, variant: str, name: str) -> None:
        if variant not in TIMESTEPS:
            raise ValueError(f"variant must be one of {', '.join(TIMESTEPS)}, got {variant!r}")
        self._backbone, self._variant, self._name = backbone, variant, name

    @property
    def name(self) -> str:
        return self._name

    @property
    def multiple(self) -> int:
        return 1

    @property
    def side(self) -> int:
        """Pixels of the square the picture is stretched to."""
        backbone = self._backbone
        halvings = len(backbone.vae.config.block_out_channels) - 1
        halvings += len(backbone.unet.config.block_out_channels) - 1
        whole = 2**halvings
        wanted = backbone.side * SIDES[self._variant] / MADE_FOR
        return max(1, round(wanted / whole)) * whole

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "channels h w"]:
        backbone = self._backbone
        check_size(pixels, least=1, name=self.name)
        square = functional.interpolate(
            pixels.to(backbone.device).float(),
            size=(self.side, self.side),
            mode="bilinear",
            align_corners=False,
        )
        return tapped(
            backbone.unet,
            backbone.encode(2 * square - 1),
            backbone.empty_prompt,
            timestep=TIMESTEPS[self._variant],
            tap=self._variant,
        )


@torch.no_grad()
def tapped(
    unet: Any,
    latent: Float[Tensor, "1 4 h w"],
    prompt: Float[Tensor, "1 tokens width"],
    *,
    timestep: int,
    tap: str,
) -> Float[Tensor, "channels h2 w2"]:
    """Run a diffusers U-Net as far as the tap (`TAPS`); float32.

    Only blocks before the tap are run, so what follows it may be missing from `unet`.
    """
    if tap not in TAPS:
        raise ValueError(f"tap must be one of {', '.join(TAPS)}, got {tap!r}")
    prompt = prompt.to(latent.device, latent.dtype)
    time = torch.tensor([timestep], device=latent.device)
    embedding = unet.time_embedding(unet.time_proj(time).to(latent.dtype))

    hidden = unet.conv_in(latent)
    skips = [hidden]
    for block in unet.down_blocks:
        hidden, outputs = block(hidden, embedding, **_conditioned(block, prompt))
        skips.extend(outputs)
    hidden = unet.mid_block(hidden, embedding, **_conditioned(unet.mid_block, prompt))

    ups = unet.up_blocks[:1] if tap == "P" else unet.up_blocks[:-1]
    for block in ups:
        used = len(block.resnets)
        passed, skips = tuple(skips[-used:]), skips[:-used]
        hidden = block(hidden, passed, embedding, **_conditioned(block, prompt))
    if tap == "S":
        hidden = torch.cat([hidden, skips[-1]], dim=1)
    return hidden[0].float()


def _conditioned(block: Any, prompt: Float[Tensor, "1 tokens width"]) -> dict[str, Any]:
    """Blocks without attention take no prompt."""
    return {"encoder_hidden_states": prompt} if getattr(block, "attentions", None) else {}
