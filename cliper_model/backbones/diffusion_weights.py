"""Stable Diffusion weights in diffusers' layout -> just the modules CLIPer needs.

Kept: the VAE encoder, and the U-Net up to the queries and keys of the second attention of its
last up block. Everything later is laid out without memory and never read. The text encoder is
read once, layer by layer, for the constant embedding of the empty prompt, which is then stored
beside the weights (specification §7, §13 form 3).
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ..errors import WeightsMismatch, WeightsMissing
from . import packed, weights
from .checkpoints import read_json
from .weights import EMPTY_PROMPT

logger = logging.getLogger(__name__)

PROMPT_TOKENS: Final = (49406, 49407, *(0,) * 75)  # start, end, padding (specification §7 step 5)
STEPS, ENTRY, TIMESTEP = 50, 45, 101  # the published schedule and the step it names (§7 step 3)

Reader = Callable[[str], Tensor]

# What the specification takes for granted about SD 2.1-base: section, key, value, and the
# value that an absent key stands for.
EXPECTED: Final[tuple[tuple[str, str, Any, Any], ...]] = (
    ("scheduler", "_class_name", "PNDMScheduler", None),
    ("scheduler", "prediction_type", "epsilon", "epsilon"),
    ("scheduler", "num_train_timesteps", 1000, 1000),
    ("scheduler", "beta_schedule", "scaled_linear", "linear"),
    ("scheduler", "beta_start", 0.00085, 0.0001),
    ("scheduler", "beta_end", 0.012, 0.02),
    ("scheduler", "trained_betas", None, None),
    ("scheduler", "skip_prk_steps", True, False),
    ("scheduler", "steps_offset", 1, 0),
    ("unet", "sample_size", 64, None),
    ("unet", "in_channels", 4, 4),
    ("unet", "block_out_channels", [320, 640, 1280, 1280], [320, 640, 1280, 1280]),
    ("unet", "layers_per_block", 2, 2),
    ("unet", "attention_head_dim", [5, 10, 20, 20], 8),
    ("unet", "cross_attention_dim", 1024, 1280),
    ("unet", "use_linear_projection", True, False),
    ("vae", "latent_channels", 4, 4),
    ("vae", "scaling_factor", 0.18215, 0.18215),
    ("vae", "block_out_channels", [128, 256, 512, 512], [64]),
)
EXPECTED_TEXT: Final[tuple[tuple[str, str, Any, Any], ...]] = (
    ("text_encoder", "hidden_size", 1024, 512),
    ("text_encoder", "num_hidden_layers", 23, 12),
    ("text_encoder", "num_attention_heads", 16, 8),
    ("text_encoder", "hidden_act", "gelu", "quick_gelu"),
    ("text_encoder", "max_position_embeddings", 77, 77),
    ("text_encoder", "layer_norm_eps", 1e-5, 1e-5),
)


@dataclass(frozen=True, kw_only=True)
class DiffusionWeights:
    """The needed half of a diffusion model.

    vae           diffusers' AutoencoderKL without decoder, or what stands in for it
    unet          diffusers' UNet2DConditionModel without what follows the tapped layers
    empty_prompt  embedding of the empty prompt
    side          pixels of the square picture the VAE encoder takes
    scheduler     the checkpoint's own noise schedule
    differences   sentences, one per way the checkpoint differs from what CLIPer was made for
    """

    vae: nn.Module
    unet: nn.Module
    empty_prompt: Float[Tensor, "1 tokens width"]
    side: int
    scheduler: Mapping[str, Any]
    differences: tuple[str, ...] = field(default=())

    def noise_share(self, timestep: int) -> tuple[float, float]:
        """(√ᾱ, √(1 - ᾱ)) at `timestep`, from 0 to the number of training steps - 1."""
        return noise_share(self.scheduler, timestep)


def load_diffusion(
    source: str | Path | Sequence[str | Path],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    vae: nn.Module | None = None,
) -> DiffusionWeights:
    """Load from a folder in diffusers' layout, or from the first of several that exists.

    `source` is a folder, a hub repository (owner/name), or an ordered list of these. Hub
    repositories are taken from the hub's cache, else downloaded unless HF_HUB_OFFLINE is set.
    `vae`, already loaded, stands in for the checkpoint's own, of which only config.json is read.

    Raises WeightsMissing, and WeightsMismatch where files are no such model. A checkpoint that
    could work but is configured otherwise is reported: a warning, and `differences`.
    """
    folder = _resolve([source] if isinstance(source, str | Path) else list(source))
    configs = {
        part: read_json(folder / part / name)
        for part, name in (
            ("scheduler", "scheduler_config.json"),
            ("unet", "config.json"),
            ("vae", "config.json"),
        )
    }
    differences = [*_compare(configs, EXPECTED), *_compare_schedule(configs["scheduler"])]
    if vae is None:
        vae = _vae(configs["vae"], _tensors_of(folder / "vae"), dtype=dtype, device=device)
    unet = _unet(configs["unet"], _tensors_of(folder / "unet"), dtype=dtype, device=device)
    prompt, told = empty_prompt(folder, width=int(configs["unet"]["cross_attention_dim"]))
    differences += told
    for sentence in differences:
        logger.warning("%s: %s", folder, sentence)
    factor = 2 ** (len(configs["vae"].get("block_out_channels", [64])) - 1)
    return DiffusionWeights(
        vae=vae,
        unet=unet,
        empty_prompt=prompt.to(device=device, dtype=dtype),
        side=int(configs["unet"]["sample_size"]) * factor,
        scheduler=configs["scheduler"],
        differences=tuple(differences),
    )


def load_demo_diffusion(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> DiffusionWeights:
    """Load the small diffusion model described by `folder/demo.json`.

    Raises WeightsMissing, WeightsMismatch.
    """
    folder = Path(folder)
    for name in ("demo.json", "unet.safetensors", "vae.safetensors", "constants.safetensors"):
        if not (folder / name).is_file():
            raise WeightsMissing(
                f"the demo model's {name}",
                [folder],
                "reinstall the package, or train the demo model with 'cliper train-demo'",
            )
    card = read_json(folder / "demo.json")
    told = card["diffusion"]
    constants = folder / "constants.safetensors"
    return DiffusionWeights(
        vae=_vae(told["vae"], folder / "vae.safetensors", dtype=dtype, device=device),
        unet=_unet(told["unet"], folder / "unet.safetensors", dtype=dtype, device=device),
        empty_prompt=_read(constants)("empty_prompt").to(device=device, dtype=dtype),
        side=int(card["inference"]["diffusion_size"]),
        scheduler=told["scheduler"],
    )


def noise_share(scheduler: Mapping[str, Any], timestep: int) -> tuple[float, float]:
    """(√ᾱ, √(1 - ᾱ)) of a noise schedule at one training step (specification §7 step 3).

    Raises WeightsMismatch for an unknown schedule, ValueError for a step outside of it.
    """
    steps = int(scheduler.get("num_train_timesteps", 1000))
    if not 0 <= timestep < steps:
        raise ValueError(f"timestep must be from 0 to {steps - 1}, got {timestep}")
    first, last = float(scheduler["beta_start"]), float(scheduler["beta_end"])
    match scheduler.get("beta_schedule", "linear"):
        case "scaled_linear":
            betas = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float32) ** 2
        case "linear":
            betas = torch.linspace(first, last, steps, dtype=torch.float32)
        case other:
            raise WeightsMismatch(f"the noise schedule {other!r} is not supported")
    kept = torch.cumprod(1.0 - betas, dim=0)[timestep]
    return float(kept.sqrt()), float((1.0 - kept).sqrt())


# --- where -----------------------------------------------------------------------------------


def _resolve(sources: Sequence[str | Path]) -> Path:
    reasons = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            if all((path / part).is_dir() for part in ("unet", "vae", "scheduler")):
                return path
            reasons.append(f"{path} lacks a folder unet, vae or scheduler")
        elif isinstance(source, str) and source.count("/") == 1 and not source.startswith("."):
            found = _from_hub(source, reasons)
            if found is not None:
                return found
        else:
            reasons.append(f"{path} is no folder")
    raise WeightsMissing(
        "Stable Diffusion in diffusers' layout",
        list(sources),
        "give a folder with unet, vae, scheduler and text_encoder",
        details="; ".join(reasons),
    )


def _from_hub(repository: str, reasons: list[str]) -> Path | None:
    for snapshot in weights.hub_snapshots(repository):
        if all((snapshot / part).is_dir() for part in ("unet", "vae", "scheduler")):
            return snapshot
    if weights.is_offline():
        reasons.append(f"{repository} is not in the cache and HF_HUB_OFFLINE forbids downloads")
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    wanted = [
        f"{part}/{name}"
        for part in ("unet", "vae", "text_encoder")
        for name in ("config.json", "*.fp16.safetensors")
    ]
    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=[*wanted, "scheduler/*.json", "tokenizer/*.json"]
            )
        )
    except (HfHubHTTPError, OSError) as error:
        reasons.append(f"{repository}: {str(error).splitlines()[0]}")
        return None


def _tensors_of(folder: Path, *, stem: str = "diffusion_pytorch_model") -> Path:
    for name in (f"{stem}.fp16.safetensors", f"{stem}.safetensors"):
        if (folder / name).is_file():
            return folder / name
    pickled = next(iter(sorted(folder.glob(f"{stem}*.bin"))), None)
    raise WeightsMissing(
        f"{stem}.safetensors",
        [folder],
        f"convert {pickled.name} to safetensors: pickled files are not read"
        if pickled
        else "run 'cliper weights fetch PROFILE', or copy the file there",
    )


# --- configuration ---------------------------------------------------------------------------


def _compare(
    configs: Mapping[str, Mapping[str, Any]], expected: Sequence[tuple[str, str, Any, Any]]
) -> list[str]:
    """One sentence per setting that differs from SD 2.1-base."""
    sentences = []
    for section, key, wanted, absent in expected:
        found = configs[section].get(key, absent)
        if _plain(found) != _plain(wanted):
            sentences.append(f"the {section} has {key} {found!r} where CLIPer expects {wanted!r}")
    return sentences


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _compare_schedule(scheduler: Mapping[str, Any]) -> list[str]:
    """Whether the checkpoint's own list of steps names the step CLIPer uses (§7 step 3)."""
    stride = int(scheduler.get("num_train_timesteps", 1000)) // STEPS
    listed = [step * stride + int(scheduler.get("steps_offset", 0)) for step in range(STEPS)]
    if scheduler.get("_class_name") == "PNDMScheduler" and scheduler.get("skip_prk_steps"):
        listed = [*listed[:-1], listed[-2], listed[-1]]
    found = listed[::-1][ENTRY]
    if found == TIMESTEP:
        return []
    return [
        f"entry {ENTRY} of the scheduler's {STEPS} steps is t = {found}; CLIPer uses t = "
        f"{TIMESTEP} all the same"
    ]


# --- modules ---------------------------------------------------------------------------------


def _vae(
    config: Mapping[str, Any], path: Path, *, dtype: torch.dtype, device: torch.device | str
) -> nn.Module:
    """The encoder half of a VAE."""
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(dict(config))
    known = set(vae.state_dict())
    vae.decoder = vae.post_quant_conv = None
    _fill(vae, path, known, dtype=dtype, device=device)
    return vae.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _unet(
    config: Mapping[str, Any], path: Path, *, dtype: torch.dtype, device: torch.device | str
) -> nn.Module:
    """A U-Net that ends at the queries and keys of its second-last tapped attention."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(config))
    known = set(unet.state_dict())
    last = unet.up_blocks[-1]
    if len(getattr(last, "attentions", None) or ()) < 2:
        raise WeightsMismatch(
            f"the U-Net of {path} has fewer than two attentions in its last up block; CLIPer "
            "reads the first two"
        )
    unet.conv_norm_out = unet.conv_out = last.upsamplers = None
    last.resnets, last.attentions = last.resnets[:2], last.attentions[:2]
    tapped = last.attentions[1]
    block = tapped.transformer_blocks[0]
    tapped.transformer_blocks = tapped.transformer_blocks[:1]
    tapped.proj_out = block.attn2 = block.ff = block.norm2 = block.norm3 = None
    block.attn1.to_v = block.attn1.to_out = None
    _fill(unet, path, known, dtype=dtype, device=device)
    return unet.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _fill(
    module: nn.Module,
    path: Path,
    known: set[str],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Hand a laid-out module its tensors one by one; `known` are the names of the whole model."""
    read, stored = _read(path), _names(path)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    spelled = {name: _older_name(name) if name not in stored else name for name in wanted}
    missing = sorted(name for name, old in spelled.items() if old not in stored)
    extra = sorted(stored - known - {_older_name(name) for name in known})
    if missing or extra:
        parts = [
            f"{verb} {len(names)} tensors ({', '.join(names[:3])}{', …' if names[3:] else ''})"
            for verb, names in (("lacks", missing), ("has unexpected", extra))
            if names
        ]
        raise WeightsMismatch(f"{path} does not fit its config.json: it {' and '.join(parts)}")
    state, to_pack = {}, packed.can_be_packed(torch.device(device), dtype)
    for name in sorted(wanted, key=_is_given_up):
        shape, tensor = wanted[name], read(spelled[name])
        if tensor.ndim == 4 and len(shape) == 2 and tensor.shape[2:] == (1, 1):
            tensor = tensor[:, :, 0, 0]  # older files keep linear layers as 1 x 1 convolutions
        if tuple(tensor.shape) != shape:
            raise WeightsMismatch(
                f"{path}: {name} has the shape {list(tensor.shape)}, its config.json means "
                f"{list(shape)}"
            )
        if to_pack and tensor.ndim > 1:
            state[name] = _passing(tensor, dtype)
        else:
            state[name] = _as_it_computes(tensor, dtype=dtype, device=device)
    module.load_state_dict(state, strict=True, assign=True)


def _is_given_up(name: str) -> bool:
    """Whether `DiffusionBackbone.settle` gives this tensor of a U-Net up.

    Such tensors come last, so that they lie side by side: 100 MB in one piece hold a picture's
    arrays, and hundreds of holes between other tensors would not.
    """
    return bool(re.search(r"(^|\.)(time_embedding|time_emb_proj|attn2\.to_[kv])\.", name))


def _as_it_computes(tensor: Tensor, *, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Kernels with channels last: convolutions in half precision are a quarter faster. In one
    step, so that no second copy is ever made."""
    if tensor.ndim != 4:
        return tensor.to(device=device, dtype=dtype)
    return tensor.to(device=device, dtype=dtype, memory_format=torch.channels_last)


def _passing(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What will be packed, in memory of its own; kernels with channels last."""
    if tensor.ndim != 4:
        return packed.passing(tensor.shape, dtype).copy_(tensor)
    turned = tensor.permute(0, 2, 3, 1)
    return packed.passing(turned.shape, dtype).copy_(turned).permute(0, 3, 1, 2)


def _older_name(name: str) -> str:
    """How files written before diffusers 0.12 spell the VAE's attention."""
    for new, old in (
        (".to_q.", ".query."),
        (".to_k.", ".key."),
        (".to_v.", ".value."),
        (".to_out.0.", ".proj_attn."),
    ):
        if new in name:
            return name.replace(new, old)
    return name


def _read(path: Path) -> Reader:
    def read(name: str) -> Tensor:
        with safe_open(str(path), "pt") as tensors:  # opened anew, so that pages are given back
            tensor: Tensor = tensors.get_tensor(name)
            return tensor

    return read


def _names(path: Path) -> set[str]:
    try:
        with safe_open(str(path), "pt") as tensors:
            return set(tensors.keys())
    except SafetensorError as error:
        raise WeightsMismatch(f"{path} is not a whole safetensors file ({error})") from error


# --- the empty prompt ------------------------------------------------------------------------


def empty_prompt(folder: Path, *, width: int) -> tuple[Float[Tensor, "1 tokens width"], list[str]]:
    """The stored embedding of the empty prompt, else computed and stored beside the weights.

    Also returns sentences about a text encoder or tokenizer that differs from SD 2.1-base.
    Raises WeightsMissing where neither the embedding nor the text encoder is there.
    """
    differences = _compare_text(folder)
    stored = folder / EMPTY_PROMPT
    if stored.is_file():
        if "empty_prompt" not in _names(stored):
            raise WeightsMismatch(f"{stored} lacks the tensor empty_prompt")
        embedding = _read(stored)("empty_prompt").float()
        if embedding.ndim != 3 or embedding.shape[0] != 1 or embedding.shape[2] != width:
            raise WeightsMismatch(
                f"{stored} has the shape {list(embedding.shape)}, the U-Net needs [1, tokens, "
                f"{width}]"
            )
        return embedding, differences

    config = read_json(folder / "text_encoder" / "config.json")
    path = _tensors_of(folder / "text_encoder", stem="model")
    embedding = encode_empty_prompt(config, path)
    if embedding.shape[2] != width:
        raise WeightsMismatch(
            f"{path} makes embeddings of width {embedding.shape[2]}, the U-Net needs {width}"
        )
    _store(stored, embedding, text_encoder=path)
    return embedding, differences


@torch.no_grad()
def encode_empty_prompt(config: Mapping[str, Any], path: Path) -> Float[Tensor, "1 tokens width"]:
    """Run the CLIP text encoder on the empty prompt, one layer in memory at a time (float32).

    Last hidden state after the final LayerNorm; causal, padding not masked.
    Source: specification §7 step 5.
    """
    names, raw = _names(path), _read(path)
    prefix = "text_model." if any(name.startswith("text_model.") for name in names) else ""
    length = int(config.get("max_position_embeddings", 77))
    heads = int(config["num_attention_heads"])
    epsilon = float(config.get("layer_norm_eps", 1e-5))
    activation = {"gelu": functional.gelu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}
    act = activation.get(str(config.get("hidden_act", "quick_gelu")))
    if act is None:
        raise WeightsMismatch(f"{path} needs the activation {config['hidden_act']!r}")

    def read(name: str) -> Tensor:
        if prefix + name not in names:
            raise WeightsMismatch(f"{path} lacks the tensor {prefix + name}")
        return raw(prefix + name).float()

    def normed(hidden: Tensor, name: str) -> Tensor:
        gain, shift = read(f"{name}.weight"), read(f"{name}.bias")
        return functional.layer_norm(hidden, gain.shape, gain, shift, epsilon)

    def linear(hidden: Tensor, name: str) -> Tensor:
        return functional.linear(hidden, read(f"{name}.weight"), read(f"{name}.bias"))

    ids = torch.tensor(PROMPT_TOKENS[:length])
    hidden = read("embeddings.token_embedding.weight")[ids]
    hidden = hidden + read("embeddings.position_embedding.weight")[:length]
    for number in range(int(config["num_hidden_layers"])):
        layer = f"encoder.layers.{number}"
        tokens = normed(hidden, f"{layer}.layer_norm1")
        queries, keys, values = (
            linear(tokens, f"{layer}.self_attn.{name}_proj").unflatten(-1, (heads, -1))
            for name in ("q", "k", "v")
        )
        mixed = functional.scaled_dot_product_attention(
            queries.transpose(0, 1),
            keys.transpose(0, 1),
            values.transpose(0, 1),
            is_causal=True,
        )
        hidden = hidden + linear(mixed.transpose(0, 1).flatten(1), f"{layer}.self_attn.out_proj")
        tokens = normed(hidden, f"{layer}.layer_norm2")
        hidden = hidden + linear(act(linear(tokens, f"{layer}.mlp.fc1")), f"{layer}.mlp.fc2")
    return normed(hidden, "final_layer_norm")[None]


def _compare_text(folder: Path) -> list[str]:
    """Differences of the text encoder and tokenizer, as far as they are there."""
    config = folder / "text_encoder" / "config.json"
    if not config.is_file():
        return []
    return [
        *_compare({"text_encoder": read_json(config)}, EXPECTED_TEXT),
        *_compare_tokenizer(folder / "tokenizer"),
    ]


def _compare_tokenizer(folder: Path) -> list[str]:
    """Whether the tokenizer would spell the empty prompt as the specification does."""
    vocabulary = folder / "vocab.json"
    if not vocabulary.is_file():
        return [f"there is no {vocabulary}: the empty prompt's padding id 0 is assumed"]
    ids = read_json(vocabulary)
    told: dict[str, Any] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            told |= read_json(folder / name)
    sentences = []
    for key, wanted in (("bos_token", 49406), ("eos_token", 49407), ("pad_token", 0)):
        token = told.get(key)
        content = token.get("content") if isinstance(token, dict) else token
        if content is None:
            sentences.append(f"the tokenizer does not name its {key}; id {wanted} is assumed")
        elif ids.get(content) != wanted:
            sentences.append(
                f"the tokenizer's {key} {content!r} has id {ids.get(content)} where CLIPer "
                f"expects {wanted}"
            )
    return sentences


def _store(path: Path, embedding: Tensor, *, text_encoder: Path) -> None:
    metadata = {"text_encoder_sha256": weights.sha256(text_encoder)}
    draft = path.with_name(f".{path.name}.part")
    try:
        save_file({"empty_prompt": embedding.contiguous()}, str(draft), metadata)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        logger.info("cannot store %s (%s): it is computed again at the next start", path, error)
