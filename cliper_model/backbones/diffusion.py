"""Self-attention of a diffusion U-Net for one image (specification §7).

Only what the two tapped layers need is run: VAE encoder, down blocks, middle block, the up
blocks, and the last up block until the queries and keys of its second attention.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .. import allocator
from ..segmenter import finished
from ..shapes import Image
from ..stages import refine
from ..stages.cards import kernels
from ..stages.resize import to_diffusion_square
from . import by_kernels, winograd
from .blockwise import BlockwiseAttention, pays_in_blocks
from .packed import OwnConv2d, can_be_packed, pack
from .strips import entered

logger = logging.getLogger(__name__)

Latent = Callable[[Any, Tensor], Tensor]  # (VAE, pixels in [-1, 1]) -> what the U-Net takes


def posterior_mean(vae: Any, pixels: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 4 h w"]:
    """Mean of the posterior times the scaling factor; nothing is sampled."""
    moments = _encoded(vae.encoder, pixels)
    if getattr(vae, "quant_conv", None) is not None:
        moments = vae.quant_conv(moments)
    return moments.chunk(2, dim=1)[0] * vae.config.scaling_factor


@dataclass(frozen=True)
class Links:
    """Queries and keys of one picture's tapped heads, second attention first, and their maps'
    levels."""

    queries: Float[Tensor, "heads n width"]
    keys: Float[Tensor, "heads n width"]
    levels: refine.Levels


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
        self._empty_prompt = empty_prompt
        self._side, self._timestep = side, timestep
        self._signal, self._noise = noise_share
        self._noise_seed = noise_seed
        self.differences = differences
        self._latent = latent
        convolutions = (part for part in vae.modules() if isinstance(part, nn.Conv2d))
        self._largest = next((int(one.out_channels) for one in convolutions), 0)  # channels
        self._halved = False
        self._gathered = allocator.Gathered()

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

    @property
    def convolutions(self) -> str:
        """How the autoencoder's are computed: "winograd" where those on large maps take half of
        the multiplications, else "direct"."""
        return "winograd" if self._halved else "direct"

    @property
    def _sees_on(self) -> torch.device:
        """Where pictures become squares: a card does it on the way, from bytes."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    @property
    def first_levels_come_along(self) -> bool:
        """Whether the levels of the first tap's maps are known from its attention."""
        return _levels_known(self._unet.up_blocks[-1].attentions[0].transformer_blocks[0])

    @torch.no_grad()
    def settle(self, *, halve: bool = True) -> "DiffusionBackbone":
        """Compute now what depends on the time step and the prompt alone, and give up the weights
        behind it: 50 million of Stable Diffusion's; and lay out the others as the processor takes
        them. The networks are of use at this step only afterwards, to nobody else.
        `halve`: convolutions on large maps with half of the multiplications, where that pays.
        Specification §13 form 3.
        """
        embedding = self._embedding()
        for module in list(self._unet.modules()):
            if getattr(module, "time_emb_proj", None) is not None:
                known = module.time_emb_proj(module.nonlinearity(embedding))
                module.time_emb_proj = _Known(known)
            attention = getattr(module, "attn2", None)
            if attention is not None:
                prompt = self._empty_prompt.to(self.device, self.dtype)
                attention.to_k = _Known(attention.to_k(prompt))
                attention.to_v = _Known(attention.to_v(prompt))
        self._unet.time_embedding = None
        if kernels(self.device) is not None:
            by_kernels.take_over(self._unet)
        if can_be_packed(self.device, self.dtype):
            large = self._on_large_maps() if halve else set[int]()
            if large:
                self._halved = True
                logger.info("%d convolutions with half of the multiplications", len(large))

            def cheaper(layer: nn.Module) -> nn.Module | None:
                if isinstance(layer, nn.Conv2d) and id(layer) in large:
                    return winograd.WinogradConv2d(layer)
                return None

            pack(self._vae, cheaper)
            pack(self._unet)
            self._largest = 0  # arrays are small, and lie where others lay before
            allocator.give_back_freed_memory()
            self._gathered = allocator.Gathered()
            if pays_in_blocks():
                BlockwiseAttention.take_over(self._vae)
                BlockwiseAttention.take_over(self._unet)
        return self

    def _on_large_maps(self) -> set[int]:
        """Which convolutions of the autoencoder, by their `id`, are to be done with half of the
        multiplications; none where that does not pay."""
        side, found = self._side, set[int]()
        blocks = getattr(self._vae.encoder, "down_blocks", ()) if winograd.pays() else ()
        for block in blocks:
            inner = (layer for resnet in block.resnets for layer in (resnet.conv1, resnet.conv2))
            found |= {id(layer) for layer in inner if winograd.is_for(layer, side * side)}
            side //= 2 ** len(block.downsamplers or ())
        return found

    def _embedding(self) -> Float[Tensor, "1 channels"]:
        """Of the time step."""
        unet = self._unet
        if unet.time_embedding is None:  # settled: all that asks for it knows its answer
            return torch.zeros(1, 1, device=self.device, dtype=self.dtype)
        time = torch.tensor([self._timestep], device=self.device)
        embedded: Tensor = unet.time_embedding(unet.time_proj(time).to(self.dtype))
        return embedded

    @torch.no_grad()
    def links(
        self, image: Image
    ) -> tuple[Float[Tensor, "heads n width"], Float[Tensor, "heads n width"]]:
        """Queries and keys of the tapped heads: second attention of the last block, then first.

        `n` counts latent positions row by row over the square grid.
        """
        told = self.links_of_many([image])[0]
        return told.queries, told.keys

    @torch.no_grad()
    def links_of_many(self, images: Sequence[Image]) -> list[Links]:
        """`links` of pictures of any sizes, which the network sees as equal squares, together;
        and the levels of their maps."""
        return finished(self.links_in_steps(images))

    def links_in_steps(self, images: Sequence[Image]) -> Generator[None, None, list[Links]]:
        """`links_of_many`: the autoencoder, half of the U-Net, and the other half with levels."""
        with torch.no_grad():
            squares = torch.cat(
                [to_diffusion_square(one, side=self._side, device=self._sees_on) for one in images]
            )
            latent = self.encode(squares)
            self.give_back_after(squares)
            shape = (1, *latent.shape[1:])
            noise = torch.cat([self.draw_noise(shape) for _ in images])  # seeded: all are the same
        yield
        with torch.no_grad():
            half = self._down(self.add_noise(latent, noise))
        yield
        with torch.no_grad():
            links = self._up(half).links()
            self.give_back_after(squares)
        return links

    def encode(self, pixels: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 4 h w"]:
        """What the U-Net takes, before noise; `pixels` are in [-1, 1].

        Its first arrays are the largest of a picture's way. Where they are whole maps they never
        lie in memory that was freed before, and that is given back first.
        """
        self.give_back_after(pixels)
        return self._latent(self._vae, pixels.to(self.device, self.dtype))

    def give_back_after(self, pixels: Float[Tensor, "b 3 side side"]) -> None:
        """Give back what a step left behind, where pictures are so large that the next step would
        need as much again beside it, or where too much has gathered."""
        largest = pixels[:, :1].numel() * self._largest * self.dtype.itemsize
        if self.device.type != "cpu":
            return
        if largest >= allocator.LARGE:
            allocator.give_back_freed_memory()
        else:
            self._gathered.give_back()

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
        taps = self._tapped(latent)
        queries = torch.cat([taps.second.queries, taps.first.queries], dim=1)
        return queries, torch.cat([taps.second.keys, taps.first.keys], dim=1)

    def _tapped(self, latent: Float[Tensor, "b 4 h w"]) -> "_Taps":
        """One U-Net pass."""
        return self._up(self._down(latent))

    def _down(self, latent: Float[Tensor, "b 4 h w"]) -> "_Half":
        """The first half of the U-Net, the block in the middle included."""
        unet, embedding = self._unet, self._embedding()
        prompt = self._empty_prompt.to(latent.device, latent.dtype).expand(len(latent), -1, -1)
        hidden = by_kernels.convolved(unet.conv_in, latent)
        skips = [hidden]
        for block in unet.down_blocks:
            for resnet, transformer in _layers(block):
                hidden = _transformed(transformer, _residual(resnet, hidden, embedding), prompt)
                skips.append(hidden)
            for halve in block.downsamplers or ():
                hidden = halve(hidden)
                skips.append(hidden)
        first, *others = unet.mid_block.resnets
        hidden = _residual(first, hidden, embedding)
        for transformer, resnet in zip(unet.mid_block.attentions, others, strict=True):
            hidden = _residual(resnet, _transformed(transformer, hidden, prompt), embedding)
        return _Half(hidden, skips, embedding, prompt)

    def _up(self, half: "_Half") -> "_Taps":
        """The second half, until the second attention of its last block; uses up what it takes."""
        unet, hidden, skips = self._unet, half.hidden, half.skips
        embedding, prompt = half.embedding, half.prompt
        for block in unet.up_blocks[:-1]:
            for resnet, transformer in _layers(block):
                hidden = torch.cat([hidden, skips.pop()], dim=1)
                hidden = _transformed(transformer, _residual(resnet, hidden, embedding), prompt)
            for double in block.upsamplers or ():
                hidden = double(hidden)

        last = unet.up_blocks[-1]
        joined = torch.cat([hidden, skips.pop()], dim=1)
        hidden = _residual(last.resnets[0], joined, embedding)
        hidden, heads, seen = _passed(last.attentions[0], hidden, prompt)
        joined = torch.cat([hidden, skips.pop()], dim=1)
        hidden = _residual(last.resnets[1], joined, embedding)
        tapped = last.attentions[1]
        inner = tapped.transformer_blocks[0]
        second = _heads(inner.attn1, inner.norm1(_entered(tapped, hidden)))
        return _Taps(second, heads, seen)


@dataclass(frozen=True)
class _Half:
    """What the first half of the U-Net leaves to the second."""

    hidden: Float[Tensor, "b c h w"]
    skips: list[Float[Tensor, "b c h w"]]
    embedding: Float[Tensor, "1 channels"]
    prompt: Float[Tensor, "b tokens width"]


@dataclass(frozen=True)
class _Taps:
    """Of the second attention of the last up block, and of the first; and of the first's maps what
    is known of them when they are already computed."""

    second: "_Heads"
    first: "_Heads"
    seen: list[refine.Levels] | None

    def links(self) -> list[Links]:
        """One of every picture."""
        second, first, links = self.second, self.first, list[Links]()
        for number in range(len(second.queries)):
            queries = torch.cat([second.queries[number], first.queries[number]])
            keys = torch.cat([second.keys[number], first.keys[number]])
            if self.seen is None:
                levels = refine.levels(queries, keys)
            else:
                others = refine.levels(second.queries[number], second.keys[number])
                levels = refine.join_levels(others, self.seen[number])
            links.append(Links(queries, keys, levels))
        return links


class _Known(nn.Module):
    """Answers every batch with what it was given once."""

    def __init__(self, answer: Float[Tensor, "1 *rest"]) -> None:
        super().__init__()
        self.register_buffer("answer", answer, persistent=False)

    def forward(self, asked: Float[Tensor, "b *any"]) -> Float[Tensor, "b *rest"]:
        answer: Tensor = self.answer  # type: ignore[assignment]
        return answer.expand(len(asked), *answer.shape[1:])


def _encoded(encoder: Any, pixels: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b m h w"]:
    """diffusers' VAE encoder over its own modules, with half of its memory: what nobody needs any
    more is written over. Bit for bit, unless its first levels go in strips.
    """
    in_strips = entered(encoder, pixels)
    hidden, passed = in_strips or (by_kernels.convolved(encoder.conv_in, pixels), 0)
    for block in encoder.down_blocks[passed:]:
        for resnet in block.resnets:
            hidden = _residual(resnet, hidden)
        for halve in block.downsamplers or ():
            hidden = _halved(halve, hidden)
    first, *others = encoder.mid_block.resnets
    hidden = _residual(first, hidden)
    for attention, resnet in zip(encoder.mid_block.attentions, others, strict=True):
        if attention is not None:
            hidden = attention(hidden)
        hidden = _residual(resnet, hidden)
    normed = _normed(encoder.conv_norm_out, encoder.conv_act, hidden)
    return by_kernels.convolved(encoder.conv_out, normed)


def _halved(halve: Any, hidden: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c y x"]:
    """A downsampler; the VAE's has a row and a column of zeros below and right, which alone are
    written, where diffusers fills a whole array first."""
    if halve.padding != 0 or halve.norm is not None or not halve.use_conv:
        halved: Tensor = halve(hidden)
        return halved
    *batch, height, width = hidden.shape
    last = hidden.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (*batch, height + 1, width + 1)
    padded = torch.empty(shape, dtype=hidden.dtype, device=hidden.device, memory_format=layout)
    padded[..., :height, :width] = hidden
    padded[..., height, :] = 0
    padded[..., width] = 0
    return by_kernels.convolved(halve.conv, padded)


def _residual(
    resnet: Any,
    hidden: Float[Tensor, "b c h w"],
    embedding: Float[Tensor, "1 channels"] | None = None,
) -> Float[Tensor, "b d h w"]:
    """A residual block; one without time may write over `hidden`."""
    time = None if embedding is None else _time_of(resnet, embedding)
    if by_kernels.are_for(resnet, hidden):
        return by_kernels.residual(resnet, hidden, time)
    inner = resnet.conv1(_normed(resnet.norm1, resnet.nonlinearity, hidden))
    inner = _normed(resnet.norm2, resnet.nonlinearity, inner, time)
    own = embedding is None
    if resnet.conv_shortcut is not None:
        hidden, own = resnet.conv_shortcut(hidden), True
    result: Tensor
    if own and isinstance(resnet.conv2, OwnConv2d):
        result = resnet.conv2.add_to(hidden, inner)
    else:
        result = resnet.conv2(inner).add_(hidden)
    return result if resnet.output_scale_factor == 1 else result.div_(resnet.output_scale_factor)


def _time_of(resnet: Any, embedding: Float[Tensor, "1 channels"]) -> Float[Tensor, "1 c"]:
    if not isinstance(resnet.time_emb_proj, _Known):
        embedding = resnet.nonlinearity(embedding)
    told: Tensor = resnet.time_emb_proj(embedding)
    return told


def _normed(
    norm: Any,
    activation: Any,
    given: Float[Tensor, "b c h w"],
    time: Float[Tensor, "1 c"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """GroupNorm of a map and the activation after it; with `time`, which is added before, the map
    is written over."""
    if (
        time is None
        and (own := kernels(given.device)) is not None
        and given.is_contiguous(memory_format=torch.channels_last)
    ):
        activated = isinstance(activation, nn.SiLU)
        normed: Tensor = own.group_norm(given, norm, activated=activated)
        return normed if activated else activation(normed)
    if time is not None:
        given.add_(time[:, :, None, None])
    return _activated(activation, norm(given))


def _activated(activation: Any, own: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In place where the activation is the usual one; `own` is nobody else's."""
    if isinstance(activation, nn.SiLU):
        return functional.silu(own, inplace=True)
    activated: Tensor = activation(own)
    return activated


@dataclass(frozen=True)
class _Heads:
    """What a self-attention compares, head by head."""

    queries: Float[Tensor, "b heads n width"]
    keys: Float[Tensor, "b heads n width"]


def _entered(transformer: Any, hidden: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n channels"]:
    """Latent positions as a spatial transformer's blocks take them."""
    normed = _normed(transformer.norm, nn.Identity(), hidden)
    if transformer.use_linear_projection:
        tokens: Tensor = transformer.proj_in(normed.flatten(2).transpose(1, 2))
    else:
        tokens = transformer.proj_in(normed).flatten(2).transpose(1, 2)
    return tokens


def _heads(attention: Any, normed: Float[Tensor, "b n channels"]) -> _Heads:
    return _Heads(
        _per_head(attention, attention.to_q(normed)), _per_head(attention, attention.to_k(normed))
    )


def _per_head(
    attention: Any, projected: Float[Tensor, "b n channels"]
) -> Float[Tensor, "b heads n width"]:
    return projected.unflatten(-1, (attention.heads, -1)).transpose(1, 2).contiguous()


def _left(
    transformer: Any, tokens: Float[Tensor, "b n channels"], hidden: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Back to positions in rows and columns, on top of what entered."""
    size_hw = hidden.shape[-2:]
    if transformer.use_linear_projection:
        left = transformer.proj_out(tokens).transpose(1, 2).unflatten(2, size_hw)
    else:
        left = transformer.proj_out(tokens.transpose(1, 2).unflatten(2, size_hw))
    return left + hidden  # channels last, as it came


def _layers(block: Any) -> list[tuple[Any, Any]]:
    """A block's residual blocks, each with the transformer after it, None where there is none."""
    transformers = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return list(zip(block.resnets, transformers, strict=True))


def _transformed(
    transformer: Any, hidden: Float[Tensor, "b c h w"], prompt: Float[Tensor, "b tokens channels"]
) -> Float[Tensor, "b c h w"]:
    """A spatial transformer over its own modules; without one, what was given."""
    if transformer is None:
        return hidden
    tokens = _entered(transformer, hidden)
    for block in transformer.transformer_blocks:
        tokens = block(tokens, encoder_hidden_states=prompt)
    return _left(transformer, tokens, hidden)


def _levels_known(block: Any) -> bool:
    """Whether a block's self-attention is computed as levels are (see `_passed`)."""
    in_full = block.norm1.weight.dtype == torch.float32
    return in_full or isinstance(block.attn1.processor, BlockwiseAttention)


def _passed(
    transformer: Any, hidden: Float[Tensor, "b c h w"], prompt: Float[Tensor, "b tokens channels"]
) -> tuple[Float[Tensor, "b c h w"], _Heads, list[refine.Levels] | None]:
    """A spatial transformer over its own modules; also what its first block compares, and the
    levels of its maps where these are computed as they are later.

    In float32 they are, a block of queries at a time: fused attention would move the second tap's
    input by 1e-6 and flip links at the threshold. In half precision rounding moves it further,
    and they are where all attention is computed like that.
    """
    first, *others = transformer.transformer_blocks
    tokens = _entered(transformer, hidden)
    normed = first.norm1(tokens)
    heads = _heads(first.attn1, normed)
    values = _per_head(first.attn1, first.attn1.to_v(normed))
    known = None
    if _levels_known(first):
        mixed, known = refine.mix(heads.queries, heads.keys, values)
    else:
        mixed = functional.scaled_dot_product_attention(heads.queries, heads.keys, values)
    project, drop = first.attn1.to_out
    tokens = drop(project(mixed.transpose(1, 2).flatten(2))) + tokens
    tokens = first.attn2(first.norm2(tokens), encoder_hidden_states=prompt) + tokens
    tokens = first.ff(first.norm3(tokens)) + tokens
    for block in others:
        tokens = block(tokens, encoder_hidden_states=prompt)
    return _left(transformer, tokens, hidden), heads, known
