"""Golden files -> the package's own objects: one place that knows the directory layout."""

import json
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip.model import CLIP
from PIL import Image as PilImage
from safetensors.torch import load_file
from torch import Tensor

from cliper_model.backbones.clip import ClipBackbone
from cliper_model.backbones.diffusion import DiffusionBackbone
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.presets import Preset
from cliper_model.segmenter import Decision, Identity


class Golden:
    """A directory of golden tensors, opened by its index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: dict[str, Any] = json.loads((folder / "index.json").read_text())

    def tolerance(self, name: str) -> float:
        return float(self.index["tolerances_float32"][name])

    def tensors(self, file: str) -> dict[str, Tensor]:
        return load_file(self.folder / file)

    def case(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return content

    def picture(self, name: str) -> PilImage.Image:
        return PilImage.open(self.folder / self.index["images"][name]["file"])

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return self.tensors(self.index["inputs_file"])

    def clip(self, name: str) -> ClipBackbone:
        about = self.index["clips"][name]
        if about["activation"] != "QuickGELU":
            raise ValueError(f"{name} asks for {about['activation']}; the method is QuickGELU")
        weights = {
            k: v.float() for k, v in self.tensors(about["file"]).items() if v.is_floating_point()
        }
        ids = self.tensors(about["file"])["token_embedding.used_ids"]
        table = torch.zeros(about["vocab_size"], about["text_width"])
        table[ids] = weights.pop("token_embedding.used_rows")
        weights["token_embedding.weight"] = table
        model = CLIP(
            embed_dim=about["embed_dim"],
            vision_cfg={
                "image_size": about["image_resolution"],
                "layers": about["layers"],
                "width": about["width"],
                "head_width": about["width"] // about["vision_heads"],
                "patch_size": about["patch_size"],
            },
            text_cfg={
                "context_length": about["context_length"],
                "vocab_size": about["vocab_size"],
                "width": about["text_width"],
                "heads": about["text_heads"],
                "layers": about["text_layers"],
            },
            quick_gelu=True,
        )
        missing, unexpected = model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - {"attn_mask"}:
            raise ValueError(f"{name} does not fit: missing {missing}, unexpected {unexpected}")
        tokenizer = open_clip.SimpleTokenizer(context_length=about["context_length"])
        return ClipBackbone(model, tokenizer)

    def diffusion(self, name: str) -> DiffusionBackbone:
        about = self.index["sd"][name]
        constants = self.tensors(about["const"])
        vae = AutoencoderKL(**about["vae_config"])
        _fill(vae, self.tensors(about["vae"]), allowed_missing="decoder.")
        unet = UNet2DConditionModel(**about["unet_config"])
        _fill(unet, self.tensors(about["unet"]), allowed_missing="")
        alpha = float(constants["alphas_cumprod_at_t"])
        return DiffusionBackbone(
            vae,
            unet,
            empty_prompt=constants["empty_prompt_embedding"],
            side=about["vae_config"]["sample_size"],
            timestep=int(about["timestep"]),
            noise_share=(alpha**0.5, (1 - alpha) ** 0.5),
        )

    def noise(self, name: str) -> Tensor:
        return self.tensors(self.index["sd"][name]["const"])["noise"]


def _fill(module: torch.nn.Module, weights: dict[str, Tensor], *, allowed_missing: str) -> None:
    missing, unexpected = module.load_state_dict(
        {key: value.float() for key, value in weights.items()}, strict=False
    )
    lacking = [k for k in missing if not (allowed_missing and k.startswith(("decoder.", "post_")))]
    if unexpected or lacking:
        raise ValueError(f"checkpoint does not fit: missing {lacking}, unexpected {unexpected}")


def preset_of(config: dict[str, Any], templates: list[str]) -> Preset:
    """The case's own numbers, in the package's words."""
    return Preset(
        name="objects",
        source="golden case",
        background=(),
        templates=tuple(templates),
        background_cosine=1.0,
        logit_scale=config["logit_scale"],
        attention_floor=config["attention_thr"],
        select_layer=config["select_layer"],
        presence_knots=((0.0, 0.0), (2.0, 1.0)),
        decision=Decision(),
    )


def method_of(
    case: dict[str, Any], clip: ClipBackbone, diffusion: DiffusionBackbone | None
) -> Cliper:
    config = case["config"]
    refinement = config["refinement"]
    return Cliper(
        clip,
        diffusion,
        CliperConfig(
            short_side=config["size"],
            attention_type=config["attn_type"],
            only_layer=None if config["fuse_feature"] else config["select_layer"],
            refinement="none" if refinement == "None" else refinement,
            refinement_head=config["attention_idx"],
            crop=config["sliding_crop_size"],
            half_positions=case.get("pos_emb_half", False),
            published=True,
        ),
        presets=lambda _: preset_of(config, case["templates"]),
        identity=Identity(method="cliper", revision=0, profile="golden"),
    )


def crc32(tensor: Tensor) -> int:
    return zlib.crc32(np.ascontiguousarray(tensor.numpy().astype("<f4")).tobytes())


def worst(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference; shapes must agree and nothing may be NaN on one side only."""
    if ours.shape != theirs.shape:
        raise AssertionError(f"shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}")
    difference = (ours.double() - theirs.double()).abs()
    if torch.isnan(difference).any():
        raise AssertionError("NaN")
    return float(difference.max())
