"""Self-attention of a diffusion U-Net for one image (specification §7).

Only what the two tapped layers need is run: VAE encoder, down blocks, middle block, the up
blocks, and the last up block until the queries and keys of its second attention.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..shapes import Image
from ..stages import refine
from ..stages.resize import to_diffusion_square

Latent = Callable[[Any, Tensor], Tensor]  # (VAE, pixels in [-1, 1]) -> what the U-Net takes


def posterior_mean(vae: Any, pixels: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 4 h w"]:
    """Mean of the posterior times the scaling factor; nothing is sampled."""
    moments = _encoded(vae.encoder, pixels)
    if getattr(vae, "quant_conv", None) is not None:
        moments = vae.quant_conv(moments)
    return moments.chunk(2, dim=1)[0] * vae.config.scaling_factor


class DiffusionBackbone:
    """VAE encoder and truncated U-Net of the Stable Diffusion family on one device."""

    def __init__(
        self,
        vae: Any,
        unet: Any,
        *,
        empty_prompt: Float[Tensor, "1 tokens width"],
        side: int,
        timestep: int,
        noise_share: tuple[float, float],
        noise_seed: int | None = 0,
        differences: tuple[str, ...] = (),
        latent: Latent = posterior_mean,
    ) -> None:
        """`vae` and `unet` follow diffusers' modules; decoder and output layers may be missing.

        side         pixels of the square the picture is stretched to (512 for SD 2.1-base)
        noise_share  (√ᾱ, √(1 - ᾱ)) at `timestep`
        noise_seed   None draws fresh noise for every image, as published
        differences  sentences about a checkpoint configured otherwise than SD 2.1-base
        latent       how `vae` encodes a picture
        """
        self._vae = vae.eval().requires_grad_(False)
        self._unet = unet.eval().requires_grad_(False)
        if self.dtype == torch.float32:  # half precision moves what comes next further than 1e-6
            first = self._unet.up_blocks[-1].attentions[0].transformer_blocks[0]
            first.attn1.set_processor(PlainAttention())
        self._empty_prompt = empty_prompt
        self._side, self._timestep = side, timestep
        self._signal, self._noise = noise_share
        self._noise_seed = noise_seed
        self.differences = differences
        self._latent = latent

    @property
    def device(self) -> torch.device:
        return torch.device(self._unet.conv_in.weight.device)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self._unet.conv_in.weight.dtype
        return dtype

    @property
    def vae(self) -> Any:
        """The frozen autoencoder; treat as read-only."""
        return self._vae

    @property
    def unet(self) -> Any:
        """The frozen U-Net, without what follows the taps; treat as read-only."""
        return self._unet

    @property
    def empty_prompt(self) -> Float[Tensor, "1 tokens width"]:
        return self._empty_prompt

    @property
    def side(self) -> int:
        """Pixels of the square picture the network was made for."""
        return self._side

    @torch.no_grad()
    def links(
        self, image: Image
    ) -> tuple[Float[Tensor, "heads n width"], Float[Tensor, "heads n width"]]:
        """Queries and keys of the tapped heads: second attention of the last block, then first.

        `n` counts latent positions row by row over the square grid.
        """
        return self.links_of_many([image])[0]

    @torch.no_grad()
    def links_of_many(
        self, images: Sequence[Image]
    ) -> list[tuple[Float[Tensor, "heads n width"], Float[Tensor, "heads n width"]]]:
        """`links` of pictures of any sizes, which the network sees as equal squares, together."""
        squares = [to_diffusion_square(image, side=self._side) for image in images]
        latent = self.encode(torch.cat(squares))
        shape = (1, *latent.shape[1:])
        noise = torch.cat([self.draw_noise(shape) for _ in images])  # seeded: everyone's the same
        queries, keys = self.taps_of_many(self.add_noise(latent, noise))
        return list(zip(queries, keys, strict=True))

    def encode(self, pixels: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 4 h w"]:
        """What the U-Net takes, before noise; `pixels` are in [-1, 1]."""
        return self._latent(self._vae, pixels.to(self.device, self.dtype))

    def draw_noise(self, shape: tuple[int, ...]) -> Float[Tensor, "1 4 h w"]:
        generator = torch.Generator()
        if self._noise_seed is None:
            generator.seed()
        else:
            generator.manual_seed(self._noise_seed)
        return torch.randn(shape, generator=generator)

    def add_noise(
        self, latent: Float[Tensor, "b 4 h w"], noise: Float[Tensor, "b 4 h w"]
    ) -> Float[Tensor, "b 4 h w"]:
        return self._signal * latent + self._noise * noise.to(latent.device, latent.dtype)

    @torch.no_grad()
    def taps(
        self, latent: Float[Tensor, "1 4 h w"]
    ) -> tuple[Float[Tensor, "heads n width"], Float[Tensor, "heads n width"]]:
        """One U-Net pass that ends at the second attention of the last up block."""
        queries, keys = self.taps_of_many(latent)
        return queries[0], keys[0]

    @torch.no_grad()
    def taps_of_many(
        self, latent: Float[Tensor, "b 4 h w"]
    ) -> tuple[Float[Tensor, "b heads n width"], Float[Tensor, "b heads n width"]]:
        """`taps` of several pictures in one pass."""
        unet = self._unet
        prompt = self._empty_prompt.to(latent.device, latent.dtype).expand(len(latent), -1, -1)
        time = torch.tensor([self._timestep], device=latent.device)
        embedding = unet.time_embedding(unet.time_proj(time).to(latent.dtype))

        hidden = unet.conv_in(latent)
        skips = [hidden]
        for block in unet.down_blocks:
            extra = {"encoder_hidden_states": prompt} if hasattr(block, "attentions") else {}
            hidden, outputs = block(hidden_states=hidden, temb=embedding, **extra)
            skips.extend(outputs)
        hidden = unet.mid_block(hidden, embedding, encoder_hidden_states=prompt)
        for block in unet.up_blocks[:-1]:
            used = len(block.resnets)
            passed, skips = tuple(skips[-used:]), skips[:-used]
            extra = {"encoder_hidden_states": prompt} if hasattr(block, "attentions") else {}
            hidden = block(
                hidden_states=hidden, res_hidden_states_tuple=passed, temb=embedding, **extra
            )

        last = unet.up_blocks[-1]
        hidden = last.resnets[0](torch.cat([hidden, skips[-1]], dim=1), embedding)
        first = _queries_and_keys(last.attentions[0], hidden)
        hidden = last.attentions[0](hidden, encoder_hidden_states=prompt, return_dict=False)[0]
        hidden = last.resnets[1](torch.cat([hidden, skips[-2]], dim=1), embedding)
        second = _queries_and_keys(last.attentions[1], hidden)
        queries, keys = (torch.cat(pair, dim=1) for pair in zip(second, first, strict=True))
        return queries, keys


def _encoded(encoder: Any, pixels: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b m h w"]:
    """diffusers' VAE encoder over its own modules, bit for bit, with half of its memory: what
    nobody needs any more is written over."""
    hidden = encoder.conv_in(pixels)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            hidden = _residual(resnet, hidden)
        for halve in block.downsamplers or ():
            hidden = halve(hidden)
    first, *others = encoder.mid_block.resnets
    hidden = _residual(first, hidden)
    for attention, resnet in zip(encoder.mid_block.attentions, others, strict=True):
        if attention is not None:
            hidden = attention(hidden)
        hidden = _residual(resnet, hidden)
    moments: Tensor = encoder.conv_out(_activated(encoder.conv_act, encoder.conv_norm_out(hidden)))
    return moments


def _residual(resnet: Any, hidden: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """A residual block without time."""
    inner = resnet.conv1(_activated(resnet.nonlinearity, resnet.norm1(hidden)))
    inner = resnet.conv2(_activated(resnet.nonlinearity, resnet.norm2(inner)))
    if resnet.conv_shortcut is not None:
        hidden = resnet.conv_shortcut(hidden)
    result: Tensor = inner.add_(hidden)
    return result if resnet.output_scale_factor == 1 else result.div_(resnet.output_scale_factor)


def _activated(activation: Any, own: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In place where the activation is the usual one; `own` is nobody else's."""
    if isinstance(activation, nn.SiLU):
        return functional.silu(own, inplace=True)
    activated: Tensor = activation(own)
    return activated


class PlainAttention:
    """Self-attention the way its maps are computed later, a block of queries at a time.

    A processor for diffusers' `Attention`. Fused attention would move the second tap's input
    by 1e-6 and flip links at the threshold.
    """

    def __call__(
        self, layer: Any, hidden_states: Float[Tensor, "b n channels"], **_: Any
    ) -> Float[Tensor, "b n channels"]:
        queries, keys, values = (
            project(hidden_states).unflatten(-1, (layer.heads, -1)).transpose(1, 2).flatten(0, 1)
            for project in (layer.to_q, layer.to_k, layer.to_v)
        )
        mixed = torch.stack([refine.mix(*head) for head in zip(queries, keys, values, strict=True)])
        mixed = mixed.unflatten(0, (-1, layer.heads)).transpose(1, 2).flatten(2)
        return layer.to_out[1](layer.to_out[0](mixed))


def _queries_and_keys(
    transformer: Any, hidden: Float[Tensor, "b channels h w"]
) -> tuple[Float[Tensor, "b heads n width"], Float[Tensor, "b heads n width"]]:
    """What the first self-attention of a spatial transformer compares, per head."""
    block = transformer.transformer_blocks[0]
    normed = transformer.norm(hidden)
    if transformer.use_linear_projection:
        tokens = transformer.proj_in(normed.flatten(2).transpose(1, 2))
    else:
        tokens = transformer.proj_in(normed).flatten(2).transpose(1, 2)
    tokens = block.norm1(tokens)
    attention = block.attn1
    queries, keys = (
        project(tokens).unflatten(-1, (attention.heads, -1)).transpose(1, 2).contiguous()
        for project in (attention.to_q, attention.to_k)
    )
    return queries, keys
