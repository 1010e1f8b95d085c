"""The published formulation, written plainly from docs/specs/cliper.md: what ours is timed against.

Whole attention maps of every layer, one layer after the other through the last block, the empty
prompt encoded for every picture, the whole U-Net, and ten products of 4096 x 4096 matrices.
Nothing of it is used anywhere else. Weights come from the same files as ours, so both can be
compared map by map; only the noise is seeded here, which the authors leave to chance.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel

from cliper_model.backbones import clip_weights
from cliper_model.presets import Preset
from cliper_model.shapes import Image
from cliper_model.stages import resize

SIDE = 512  # pixels of the square the diffusion model sees
TIMESTEP, SIGNAL, NOISE = 101, 0.944976, 0.327139  # §7 step 3
PROMPT = [49406, 49407, *[0] * 75]  # of nothing, §7 step 5
EPSILON = 1e-5


@dataclass(frozen=True)
class Answer:
    """What one picture gave: refined maps, a number per class, and the label map."""

    maps: Float[Tensor, "classes h w"]
    strength: Float[Tensor, " classes"]
    label_map: Int[Tensor, "height width"]


class Published:
    """CLIP and, where it refines, Stable Diffusion 2.1-base, whole and unchanged."""

    def __init__(
        self,
        weights: Path,
        clip: str,
        *,
        refine: bool,
        short_side: int = 336,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device, self.dtype, self.short_side = device, dtype, short_side
        file = weights / clip / "open_clip_model.safetensors"
        model, _ = clip_weights.load_clip(file, clip, dtype=dtype, device=device)
        self.vision: Any = model.visual  # type: ignore[union-attr]
        self.vae: Any = None
        if not refine:
            return
        told = {"torch_dtype": dtype, "variant": "fp16", "local_files_only": True}
        folder = weights / "stable-diffusion-2-1-base"
        self.vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", **told)
        self.unet: Any = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **told)
        self.text: Any = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=dtype, variant="fp16", local_files_only=True
        )
        for part in (self.vae, self.unet, self.text):
            part.to(device).eval().requires_grad_(False)
        last = self.unet.up_blocks[3].attentions
        self.maps = [WholeMap(), WholeMap()]  # layer -4, then layer -6 (§7 step 6)
        for kept, attention in zip(self.maps, (last[1], last[0]), strict=True):
            attention.transformer_blocks[0].attn1.set_processor(kept)

    @torch.no_grad()
    def segment(
        self, image: Image, rows: Float[Tensor, "rows embed"], classes: int, preset: Preset
    ) -> Answer:
        """`rows`: one per class, then one per background word, then the mean of the classes."""
        floor = preset.attention_floor
        features, links, grid_hw = self.features(image)
        cosines = (
            functional.normalize(features[:, 1:], dim=-1)
            @ functional.normalize(rows.to(features), dim=-1).T
        )
        logits = (preset.logit_scale * cosines).transpose(1, 2).unflatten(2, grid_hw)
        maps = torch.softmax(logits, dim=1)[:, :classes]
        chosen = maps[preset.select_layer]
        chosen[chosen < floor * chosen.amax(dim=(-2, -1), keepdim=True)] = 0  # in place, §5 step 4
        coarse = (chosen.flatten(1) @ links).view_as(chosen) + maps.mean(dim=0)
        refined = coarse.float() if self.vae is None else self.refined(image, coarse, floor)
        strength = (coarse.amax(dim=(-2, -1)) + refined.amax(dim=(-2, -1))) / 2
        size_hw = image.shape[:2]
        upsampled = functional.interpolate(refined[None], size=size_hw, mode="bilinear")[0]
        most = upsampled.amax(dim=(-2, -1), keepdim=True)
        scaled = upsampled / (most + EPSILON) * strength[:, None, None]
        background = (1 - scaled.amax(dim=0)) ** 2
        label_map = torch.cat([background[None], scaled]).argmax(dim=0)
        return Answer(refined, strength, label_map)

    # -- CLIP (§2, §4, §5 step 5) -------------------------------------------------------

    def features(
        self, image: Image
    ) -> tuple[Float[Tensor, "layers n embed"], Float[Tensor, "p p"], tuple[int, int]]:
        """Every layer through the last block, and the last map between patches."""
        vision = self.vision
        pixels, grid_hw = resize.to_whole_patches(
            image, short_side=self.short_side, patch=int(vision.conv1.kernel_size[0])
        )
        patches = vision.conv1(pixels.to(self.device, self.dtype))[0].flatten(1).T
        tokens = torch.cat([vision.class_embedding[None], patches])
        tokens = vision.ln_pre(
            tokens + resize.resize_positions(vision.positional_embedding, grid_hw=grid_hw)
        )
        *blocks, last = vision.transformer.resblocks
        inputs, maps = [], []
        for block in blocks:
            inputs.append(block.ln_1(tokens))
            queries, keys, values = heads_of(block, inputs[-1])
            maps.append(torch.softmax(queries @ keys.mT / queries.shape[-1] ** 0.5, dim=-1))
            mixed = (maps[-1] @ values).transpose(0, 1).flatten(1)
            tokens = tokens + block.attn.out_proj(mixed)
            tokens = tokens + block.mlp(block.ln_2(tokens))
        total = torch.stack(maps).sum(dim=0)
        features = []
        for layer in (*inputs, tokens):
            total = total / total.sum(dim=-2, keepdim=True)
            total = total / total.sum(dim=-1, keepdim=True)
            symmetric = (total + total.mT) / 2
            above = (symmetric - symmetric.mean(dim=-2, keepdim=True)).clamp_min(0)
            weights = above / above.sum(dim=-1, keepdim=True)
            _, _, values = heads_of(last, last.ln_1(layer))
            mixed = last.attn.out_proj((weights @ values).transpose(0, 1).flatten(1))
            features.append(vision.ln_post(mixed) @ vision.proj)
        return torch.stack(features).float(), weights.float().mean(dim=0)[1:, 1:], grid_hw

    # -- Stable Diffusion (§7, §8) --------------------------------------------------------

    def refined(
        self, image: Image, coarse: Float[Tensor, "classes h w"], floor: float
    ) -> Float[Tensor, "classes 64 64"]:
        """All ten maps multiplied with each other, then with the coarse maps."""
        self.look(image)
        attention = torch.cat([kept.map for kept in self.maps]).float()
        attention = attention / (attention.amax(dim=-2, keepdim=True) + EPSILON)
        attention[attention < floor] = 0
        attention = attention / (attention.sum(dim=-1, keepdim=True) + EPSILON)
        product = torch.eye(attention.shape[-1], device=attention.device)
        for head in attention:
            product = product @ head
        side = round(attention.shape[-1] ** 0.5)
        start = functional.interpolate(coarse.float()[None], size=(side, side), mode="bilinear")[0]
        return (product @ start.flatten(1).T).T.reshape(-1, side, side)

    def look(self, image: Image) -> None:
        """One pass of the whole U-Net; its two maps stay in `self.maps`."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(self.device)
        square = functional.interpolate(pixels.to(self.dtype) / 255, size=(SIDE, SIDE))
        latent = self.vae.encode(2 * square - 1).latent_dist.mean * 0.18215
        prompt = self.text(torch.tensor([PROMPT], device=self.device)).last_hidden_state
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
        noised = SIGNAL * latent + NOISE * noise.to(latent)
        self.unet(noised, TIMESTEP, encoder_hidden_states=prompt)


class WholeMap:
    """Self-attention that keeps its whole map; a processor for diffusers' `Attention`."""

    map: Float[Tensor, "heads n n"]

    def __call__(self, layer: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        queries, keys, values = (
            project(hidden_states)[0].unflatten(-1, (layer.heads, -1)).transpose(0, 1)
            for project in (layer.to_q, layer.to_k, layer.to_v)
        )
        self.map = torch.softmax(queries @ keys.mT / queries.shape[-1] ** 0.5, dim=-1)
        mixed: Tensor = layer.to_out[0]((self.map @ values).transpose(0, 1).flatten(1)[None])
        return mixed


def heads_of(block: Any, tokens: Float[Tensor, "n width"]) -> list[Float[Tensor, "heads n d"]]:
    """Queries, keys and values of a block of CLIP."""
    projected = functional.linear(tokens, block.attn.in_proj_weight, block.attn.in_proj_bias)
    heads = block.attn.num_heads
    return [part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in projected.chunk(3, dim=-1)]
