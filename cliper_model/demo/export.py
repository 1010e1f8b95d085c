"""Write trained halves in the layout the package ships: half precision, no pickles."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

from .captions import PROMPT_TEMPLATES, SYNONYMS, trained_words
from .clip_network import CLIP_CONFIG, build_clip
from .clip_training import DemoClip
from .diffusion_network import SCHEDULE, UNET_CONFIG, empty_prompt
from .evaluation import Inference
from .scenes import COLOURS
from .schedule import load_checkpoint

FORMAT: Final = 1
_ENCODER_ONLY: Final = ("encoder.", "quant_conv.")
_LAST_BLOCK: Final = f"up_blocks.{len(UNET_CONFIG['up_block_types']) - 1}"
_LAST_TAP: Final = f"{_LAST_BLOCK}.attentions.1"
_UNREAD: Final = (
    "conv_norm_out.",
    "conv_out.",
    f"{_LAST_TAP}.proj_out.",
    *(
        f"{_LAST_TAP}.transformer_blocks.0.{part}."
        for part in ("attn1.to_v", "attn1.to_out", "attn2", "ff", "norm2", "norm3")
    ),
)
"""How the names of U-Net tensors begin that lie behind the second tap: CLIPer never reads them."""


def export_clip(checkpoint: Path, folder: Path) -> None:
    """`clip.safetensors`: open_clip names; of the token table only the trained rows."""
    model = load_demo_clip(checkpoint)
    tensors = {
        name: value.half().contiguous()
        for name, value in model.clip.state_dict().items()
        if name != "token_embedding.weight"
    }
    tensors["token_embedding.used_ids"] = model.used.detach().clone()
    table = model.clip.state_dict()["token_embedding.weight"]
    tensors["token_embedding.used_rows"] = table[1:].half().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "clip.safetensors")


def export_diffusion(vae: AutoencoderKL, unet: Mapping[str, Tensor], folder: Path) -> None:
    """`vae.safetensors` (encoder half), `unet.safetensors` (up to the taps), and a constant.

    `constants.safetensors` holds the empty prompt of the CLIP in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = {k: v for k, v in vae.state_dict().items() if k.startswith(_ENCODER_ONLY)}
    save_file(_halves(encoder), folder / "vae.safetensors")
    save_file(_halves(without_unread(unet)), folder / "unet.safetensors")
    prompt = empty_prompt(read_clip(folder)).contiguous()
    save_file({"empty_prompt": prompt}, folder / "constants.safetensors")


def without_unread(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's tensors up to queries and keys of its second tap."""
    return {name: value for name, value in unet.items() if not name.startswith(_UNREAD)}


def export_card(
    folder: Path, inference: Inference, vae: AutoencoderKL, thresholds: Mapping[str, float]
) -> None:
    """`demo.json`: how to build the networks, which words they know, how to run them."""
    card = {
        "format": FORMAT,
        "clip": CLIP_CONFIG,
        "diffusion": {
            "unet": _plain(UNet2DConditionModel(**UNET_CONFIG).config),
            "vae": _plain(vae.config),
            "timestep": inference.timestep,
            "scheduler": SCHEDULE,
        },
        "labels": {label: list(words) for label, words in SYNONYMS.items()},
        "colours": {word: list(rgb) for word, rgb in COLOURS.items()},
        "words": list(trained_words()),
        "templates": list(PROMPT_TEMPLATES),
        "inference": {**asdict(inference), **thresholds},
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(card, indent=1, ensure_ascii=False)
    (folder / "demo.json").write_text(text + "\n", encoding="utf-8")


def load_demo_clip(checkpoint: Path) -> DemoClip:
    """The CLIP half as it was trained."""
    state = load_checkpoint(checkpoint)
    if state is None:
        raise FileNotFoundError(f"no trained CLIP at {checkpoint}")
    model = DemoClip()
    model.load_state_dict(state["model"])
    return model.eval()


def read_clip(folder: Path) -> CLIP:
    """The exported CLIP half with its full token table, float32."""
    tensors = load_file(folder / "clip.safetensors")
    model = build_clip()
    ids, rows = tensors.pop("token_embedding.used_ids"), tensors.pop("token_embedding.used_rows")
    table = torch.zeros_like(model.token_embedding.weight)
    table[ids] = rows.float()
    state = {name: value.float() for name, value in tensors.items()}
    model.load_state_dict({**state, "token_embedding.weight": table})
    return model.eval()


def size_in_bytes(folder: Path) -> int:
    """All files of the export together."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _halves(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half().contiguous() for name, value in tensors.items()}


def _plain(config: Any) -> dict[str, Any]:
    """A diffusers configuration as JSON values, without its private entries."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dict(config).items()
        if not key.startswith("_")
    }
