"""The demo diffusion half: a tiny autoencoder and U-Net in Stable Diffusion's layout.

Both start close to something sensible, because minutes of training cannot find it from noise:
the autoencoder as a box mean of the colours beside one difference of brightness, the tapped
attention with key = query, so that a token looks at tokens like itself.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip.model import CLIP
from torch import Tensor, nn

from .clip_network import tokens_of

TIMESTEP: Final = 20  # noise level at which the attention is read
PROMPT_TOKENS: Final = 8
DOWNSCALE: Final = 4  # pixels per latent position

SCHEDULE: Final[dict[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}

VAE_CONFIG: Final[dict[str, Any]] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [16, 32, 64],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 1,
    "sample_size": 128,
    "mid_block_add_attention": False,
}

UNET_CONFIG: Final[dict[str, Any]] = {
    "sample_size": 52,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [48, 64, 96],
    "layers_per_block": 1,
    "cross_attention_dim": 128,
    "attention_head_dim": [1, 2, 2],  # in this family the number of heads
    "norm_num_groups": 4,
}


def build_vae() -> AutoencoderKL:
    """The autoencoder at its near-linear start."""
    vae = AutoencoderKL(**VAE_CONFIG)
    _start_near_linear(vae)
    return vae


def build_unet() -> UNet2DConditionModel:
    """The U-Net, its tapped layers with key = query."""
    unet = UNet2DConditionModel(**UNET_CONFIG)
    with torch.no_grad():
        for layer in tapped_layers(unet):
            nn.init.orthogonal_(layer.to_q.weight, gain=1.5)
            layer.to_k.weight.copy_(layer.to_q.weight)
    return unet


@torch.no_grad()
def empty_prompt(clip: CLIP) -> Tensor:
    """The demo text tower's tokens of the empty text, as Stable Diffusion uses them.

    `[1, PROMPT_TOKENS, width]`: start, end, padding; after the last LayerNorm.
    """
    ids = tokens_of("")[None, :PROMPT_TOKENS]
    x = clip.token_embedding(ids) + clip.positional_embedding[:PROMPT_TOKENS]
    assert clip.attn_mask is not None
    x = clip.transformer(x, attn_mask=clip.attn_mask[:PROMPT_TOKENS, :PROMPT_TOKENS])
    prompt: Tensor = clip.ln_final(x).float()
    return prompt


def signal_shares() -> Tensor:
    """Cumulative product of `1 - beta` for every timestep, `[1000]`."""
    start, end = SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5
    betas = torch.linspace(start, end, SCHEDULE["num_train_timesteps"]) ** 2
    return torch.cumprod(1 - betas, dim=0)


def add_noise(latent: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """`latent` as it looks at `timesteps` `[B]`."""
    share = signal_shares().to(timesteps.device)[timesteps].view(-1, 1, 1, 1)
    return share.sqrt() * latent + (1 - share).sqrt() * noise


# the tapped attention


def tapped_layers(unet: UNet2DConditionModel) -> list[Any]:
    """Self-attention of the last up block: its second transformer first, then its first."""
    attentions: Any = unet.up_blocks[-1].attentions
    return [attentions[i].transformer_blocks[0].attn1 for i in (1, 0)]


class Tap:
    """Attention processor that keeps its probabilities, with gradient."""

    def __init__(self) -> None:
        self.on = True
        self.attention: Tensor | None = None  # [B, heads, n, n], float32

    def __call__(
        self,
        layer: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **unused: Any,
    ) -> Tensor:
        batch, count, _ = hidden_states.shape
        q, k, v = (
            project(hidden_states).view(batch, count, layer.heads, -1).transpose(1, 2)
            for project in (layer.to_q, layer.to_k, layer.to_v)
        )
        if self.on:
            self.attention = ((q * layer.scale) @ k.transpose(-1, -2)).float().softmax(-1)
            mixed = self.attention.to(v.dtype) @ v
        else:
            self.attention = None
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, scale=layer.scale)
        mixed = mixed.transpose(1, 2).reshape(batch, count, -1)
        return layer.to_out[1](layer.to_out[0](mixed))


def install_taps(unet: UNet2DConditionModel) -> list[Tap]:
    """Taps on both layers, in the order of `tapped_layers`."""
    taps = []
    for layer in tapped_layers(unet):
        tap = Tap()
        layer.set_processor(tap)
        taps.append(tap)
    return taps


def chain(maps: Tensor, taps: Sequence[Tap], *, floor: float, leak: float) -> Tensor:
    """CLIPer's refinement with gradient, right to left; `maps` `[B, n, C]`.

    Links between `leak` and `floor` are cut, but still receive gradient, so that a link can
    come back. Source: CLIPer (ICCV 2025), fine-grained compensation.
    """
    for tap in reversed(taps):
        assert tap.attention is not None
        for head in reversed(tap.attention.unbind(1)):
            maps = _Link.apply(head, maps, floor, leak)
    return maps


class _Link(torch.autograd.Function):
    """One head: divide by the column maximum, cut, normalise rows, apply. Gradients by hand."""

    @staticmethod
    def forward(ctx: Any, attention: Tensor, maps: Tensor, floor: float, leak: float) -> Tensor:
        strongest, at = attention.max(1, keepdim=True)
        strongest = strongest + 1e-5
        relative = attention / strongest
        kept = nn.functional.threshold(relative, floor, 0.0)
        sums = kept.sum(-1, keepdim=True) + 1e-5
        result = (kept @ maps) / sums
        ctx.save_for_backward(relative, strongest, at, sums, result, maps)
        ctx.floor, ctx.leak = floor, leak
        return result

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        relative, strongest, at, sums, result, maps = ctx.saved_tensors
        scaled = outputs[0] / sums
        to_maps = nn.functional.threshold(relative, ctx.floor, 0.0).transpose(1, 2) @ scaled
        through_sum = -(scaled * result).sum(-1, keepdim=True)
        link = torch.baddbmm(through_sum, scaled, maps.transpose(1, 2))
        link = link * (relative > ctx.leak)
        through_maximum = -(link * relative).sum(1, keepdim=True) / strongest
        link = link / strongest
        link.scatter_add_(1, at, through_maximum)
        return link, to_maps, None, None


# the near-linear start of the autoencoder

_CONSTANT_PAIR = 3  # pairs 0 to 2 carry the colours
_DETAIL_PAIR = 4  # brightness: at last the difference between opposite corners
_CARRIED = 10  # channels 2j and 2j + 1 carry plus and minus of pair j
_CONSTANT = 6.0  # fixes the scale of the (single-group) GroupNorm
_DETAIL_GAIN = 3.0  # differences are smaller than colours
_SMALL = 0.15  # how much of the random initialisation stays


@torch.no_grad()
def _start_near_linear(vae: AutoencoderKL) -> None:
    """Make encoder and decoder pass the colours on, since silu(x) - silu(-x) = x."""
    for name, parameter in vae.named_parameters():
        if "conv2." in name:
            parameter.zero_()  # residual blocks begin as the identity
    for half in (vae.encoder, vae.decoder):
        _fill_pairs(half.conv_in)
        blocks = half.down_blocks if half is vae.encoder else half.up_blocks
        for resnet in [r for block in (*blocks, half.mid_block) for r in block.resnets]:
            if resnet.conv_shortcut is not None:
                _pass_on(resnet.conv_shortcut)
        for block in blocks:
            for down in getattr(block, "downsamplers", None) or ():
                _pass_on(down.conv, average=True)
            for up in getattr(block, "upsamplers", None) or ():
                _pass_on(up.conv)
        _read_pairs(half.conv_out, half.conv_norm_out.num_channels)
    _keep_detail(vae)
    last: Any = vae.encoder.conv_out
    last.weight[4:] = 0
    last.bias[4:] = -5.0  # log variance: nearly no noise
    mixers: list[Any] = [vae.quant_conv, vae.post_quant_conv]
    for mix in mixers:
        mix.weight.zero_()
        mix.bias.zero_()
        mix.weight[:, :, 0, 0] = torch.eye(len(mix.weight))


def _keep_detail(vae: AutoencoderKL) -> None:
    """The fourth latent channel starts as a difference inside its square, or it would collapse."""
    encoder: Any = vae.encoder
    last_down = [block.downsamplers[0].conv for block in encoder.down_blocks if block.downsamplers]
    for channel in (2 * _DETAIL_PAIR, 2 * _DETAIL_PAIR + 1):
        last_down[-1].weight[channel] = 0
        last_down[-1].weight[channel, channel, 0, 0] = 0.5
        last_down[-1].weight[channel, channel, 1, 1] = -0.5
    middle = encoder.conv_out.weight.shape[-1] // 2
    gain = _DETAIL_GAIN * _norm_gain(encoder.conv_norm_out.num_channels)
    encoder.conv_out.weight[3] = 0
    encoder.conv_out.weight[3, 2 * _DETAIL_PAIR, middle, middle] = gain
    encoder.conv_out.weight[3, 2 * _DETAIL_PAIR + 1, middle, middle] = -gain


def _fill_pairs(convolution: Any) -> None:
    """Colours into pairs 0 to 2, a constant, and brightness or the fourth channel."""
    weight, bias = convolution.weight, convolution.bias
    middle = weight.shape[-1] // 2
    weight[:_CARRIED], bias[:_CARRIED] = 0, 0
    weight[_CARRIED:] *= _SMALL
    bias[_CARRIED:] *= _SMALL
    latent = weight.shape[1] > 3
    for sign, offset in ((1.0, 0), (-1.0, 1)):
        for colour in range(3):
            weight[2 * colour + offset, colour, middle, middle] = sign
        bias[2 * _CONSTANT_PAIR + offset] = sign * _CONSTANT
        if latent:
            weight[2 * _DETAIL_PAIR + offset, 3, middle, middle] = sign
        else:
            weight[2 * _DETAIL_PAIR + offset, :, middle, middle] = sign / 3


def _pass_on(convolution: Any, *, average: bool = False) -> None:
    weight, bias = convolution.weight, convolution.bias
    weight[:_CARRIED] = 0
    weight[_CARRIED:] *= _SMALL
    if bias is not None:
        bias[:_CARRIED] = 0
        bias[_CARRIED:] *= _SMALL
    middle = weight.shape[-1] // 2
    for channel in range(_CARRIED):
        if average:
            weight[channel, channel, :2, :2] = 0.25
        else:
            weight[channel, channel, middle, middle] = 1.0


def _read_pairs(convolution: Any, channels: int) -> None:
    """Colours from their pairs."""
    weight = convolution.weight
    middle, gain = weight.shape[-1] // 2, _norm_gain(channels)
    weight[:3] = 0
    weight[3:] *= _SMALL
    convolution.bias.zero_()
    for colour in range(3):
        weight[colour, 2 * colour, middle, middle] = gain
        weight[colour, 2 * colour + 1, middle, middle] = -gain


def _norm_gain(channels: int) -> float:
    """Undoes the GroupNorm, whose deviation the constant fixes."""
    return float((2 * _CONSTANT**2 / channels) ** 0.5)
