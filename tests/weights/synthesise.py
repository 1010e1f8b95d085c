"""Random checkpoints in the true layouts: same files, names, shapes and types, other numbers.

Nothing is downloaded, so loading, memory and running time can be tested anywhere; masks made
with these weights mean nothing. `small` variants keep every name and shrink every size.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

SMALL_CLIP: Final[dict[str, Any]] = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1,
    },
}  # fmt: skip

SCHEDULER: Final[dict[str, Any]] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.10.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}

UNET: Final[dict[str, Any]] = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.10.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 1024,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "use_linear_projection": True,
}

VAE: Final[dict[str, Any]] = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.10.0.dev0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 768,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}

TAESD: Final[dict[str, Any]] = {
    "_class_name": "AutoencoderTiny",
    "_diffusers_version": "0.20.0.dev0",
    "act_fn": "relu",
    "decoder_block_out_channels": [64, 64, 64, 64],
    "encoder_block_out_channels": [64, 64, 64, 64],
    "force_upcast": False,
    "in_channels": 3,
    "latent_channels": 4,
    "latent_magnitude": 3,
    "latent_shift": 0.5,
    "num_decoder_blocks": [3, 3, 3, 1],
    "num_encoder_blocks": [1, 3, 3, 3],
    "out_channels": 3,
    "scaling_factor": 1.0,
    "upsampling_scaling_factor": 2,
}

TEXT: Final[dict[str, Any]] = {
    "architectures": ["CLIPTextModel"],
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
    "vocab_size": 49408,
}

SMALL_UNET = UNET | {
    "attention_head_dim": [2, 4, 4, 4],
    "block_out_channels": [16, 32, 32, 32],
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
    "sample_size": 16,
}
SMALL_VAE = VAE | {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 8}
SMALL_TAESD = TAESD | {
    "decoder_block_out_channels": [8, 8, 8, 8],
    "encoder_block_out_channels": [8, 8, 8, 8],
}
SMALL_TEXT = TEXT | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
}


def clip_state(config: Mapping[str, Any] | str, *, seed: int = 0) -> dict[str, Tensor]:
    """Tensors of an OpenAI CLIP by name; `config` may be a model name of open_clip."""
    told = open_clip.get_model_config(config) if isinstance(config, str) else dict(config)
    with torch.device("meta"):
        model = open_clip.CLIP(**told)
    state = _random(model.state_dict(), seed=seed)
    state["logit_scale"] = torch.tensor(4.6052)
    return state


def write_clip(
    path: Path,
    config: Mapping[str, Any] | str = SMALL_CLIP,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A CLIP as safetensors, as the hub has it; by default it tells that it wants QuickGELU."""
    state = {name: tensor.to(dtype) for name, tensor in clip_state(config, seed=seed).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"format": "pt", "activation": "quickgelu"} if metadata is None else dict(metadata)
    save_file(state, str(path), told)
    return path


def write_clip_archive(
    path: Path, config: Mapping[str, Any] | str = SMALL_CLIP, *, seed: int = 0
) -> Path:
    """A CLIP as a half-precision TorchScript archive, as OpenAI publishes it."""
    state = {name: tensor.half() for name, tensor in clip_state(config, seed=seed).items()}
    marks = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    tree = _Tree({**state, **{name: torch.tensor(value) for name, value in marks.items()}})
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # an old format, published as it is
        torch.jit.script(tree).save(str(path))
    return path


def write_stable_diffusion(folder: Path, *, small: bool = True, seed: int = 0) -> Path:
    """A diffusers folder of SD 2.1-base in half precision, with what CLIPer reads of it.

    The VAE's attention has the names of its time (`query`, `proj_attn`).
    """
    unet, vae, text = (SMALL_UNET, SMALL_VAE, SMALL_TEXT) if small else (UNET, VAE, TEXT)
    for part, name, content in (
        ("scheduler", "scheduler_config.json", SCHEDULER),
        ("unet", "config.json", unet),
        ("vae", "config.json", vae),
        ("text_encoder", "config.json", text),
        ("tokenizer", "tokenizer_config.json", {"model_max_length": 77, "pad_token": "!"}),
        (
            "tokenizer",
            "special_tokens_map.json",
            {
                "bos_token": {"content": "<|startoftext|>", "lstrip": False},
                "eos_token": {"content": "<|endoftext|>", "lstrip": False},
                "pad_token": "!",
            },
        ),
        (
            "tokenizer",
            "vocab.json",
            {"!": 0, "<|startoftext|>": 49406, "<|endoftext|>": 49407},
        ),
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / name).write_text(json.dumps(content, indent=2))
    with torch.device("meta"):
        unet_shapes = UNet2DConditionModel.from_config(unet).state_dict()
        vae_shapes = AutoencoderKL.from_config(vae).state_dict()
    stem = "diffusion_pytorch_model.fp16.safetensors"
    _save(folder / "unet" / stem, _random(unet_shapes, seed=seed))
    _save(folder / "vae" / stem, _older(_random(vae_shapes, seed=seed + 1)))
    _save(
        folder / "text_encoder" / "model.fp16.safetensors",
        _random(_text_shapes(text), seed=seed + 2),
    )
    return folder


def write_taesd(folder: Path, *, small: bool = True, seed: int = 0) -> Path:
    """A TAESD in float32, encoder and decoder, as its repository has it."""
    config = SMALL_TAESD if small else TAESD
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    with torch.device("meta"):
        shapes = AutoencoderTiny.from_config(config).state_dict()
    stem = "diffusion_pytorch_model.safetensors"
    save_file(_random(shapes, seed=seed), str(folder / stem), {"format": "pt"})
    return folder


def _save(path: Path, state: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.half() for name, tensor in state.items()}, str(path), {"format": "pt"})


def _random(shapes: Mapping[str, Tensor], *, seed: int) -> dict[str, Tensor]:
    """Numbers that keep activations in range: fan-in scaled weights, plain norms, no bias."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in shapes.items():
        shape = tuple(tensor.shape)
        if name.endswith("bias"):
            state[name] = torch.zeros(shape)
        elif len(shape) < 2:
            norm = "class_embedding" not in name
            state[name] = torch.ones(shape) if norm else torch.randn(shape, generator=generator)
        else:
            fan_in = tensor[0].numel() if len(shape) > 2 else shape[-1]
            scale = 0.02 if "embedding" in name else fan_in**-0.5
            state[name] = torch.empty(shape).normal_(0, scale, generator=generator).half()
    return state


def _older(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for new, old in (
            (".to_q.", ".query."),
            (".to_k.", ".key."),
            (".to_v.", ".value."),
            (".to_out.0.", ".proj_attn."),
        ):
            name = name.replace(new, old)
        renamed[name] = tensor
    return renamed


def _text_shapes(config: Mapping[str, Any]) -> dict[str, Tensor]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (config["vocab_size"], width),
        "embeddings.position_embedding.weight": (config["max_position_embeddings"], width),
        "final_layer_norm.weight": (width,),
        "final_layer_norm.bias": (width,),
    }
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{layer}.self_attn.{name}.weight"] = (width, width)
            shapes[f"{layer}.self_attn.{name}.bias"] = (width,)
        for name in ("layer_norm1", "layer_norm2"):
            shapes[f"{layer}.{name}.weight"] = shapes[f"{layer}.{name}.bias"] = (width,)
        shapes[f"{layer}.mlp.fc1.weight"], shapes[f"{layer}.mlp.fc1.bias"] = (
            (inner, width),
            (inner,),
        )
        shapes[f"{layer}.mlp.fc2.weight"], shapes[f"{layer}.mlp.fc2.bias"] = (
            (width, inner),
            (width,),
        )
    return {
        f"text_model.{name}": torch.empty(shape, device="meta") for name, shape in shapes.items()
    }


class _Tree(nn.Module):
    """Nested modules that hold tensors under the dots of their names."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        deeper: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            first, dot, rest = name.partition(".")
            if dot:
                deeper.setdefault(first, {})[rest] = tensor
            elif tensor.is_floating_point():
                self.register_parameter(first, nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(first, tensor)
        for name, held in deeper.items():
            self.add_module(name, _Tree(held))
