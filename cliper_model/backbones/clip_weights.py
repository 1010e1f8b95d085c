"""CLIP weights -> an open_clip model, checked before a single image is looked at.

Read: safetensors with OpenAI's (= open_clip's) tensor names, OpenAI's TorchScript archives,
plain state dicts, open_clip's pretrained tags, and hub repositories of open_clip.

The activation is no tensor, so no shape reveals a wrong one, yet features made with it are
worthless: whatever a checkpoint tells about it is compared with the model's name.
"""

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import open_clip
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import WeightsMismatch, WeightsMissing
from . import weights
from .tensor_file import BlockInFile, TableInFile, TensorFile

HUB_FILES: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
NOT_WEIGHTS: Final = frozenset({"input_resolution", "context_length", "vocab_size"})
FOREIGN: Final = {  # first words of tensor names -> the layout they belong to
    "vision_model.": "the transformers library",
    "text_model.": "the transformers library",
    "blocks.": "timm (the image tower alone)",
    "model.diffusion_model.": "a Stable Diffusion checkpoint",
    "down_blocks.": "a diffusion U-Net",
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened weight file: tensors are read one at a time, when asked for."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    quick_gelu: bool | None  # None: the file does not say
    evidence: str  # how the file tells its activation
    tensor_file: bool = False  # safetensors, with the tensors under the names of `shapes`


def load_clip(
    source: str | Path,
    model_name: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    published: bool = True,
) -> tuple[nn.Module, Callable[..., Tensor]]:
    """Build `model_name` (open_clip's spelling) with the weights of `source`.

    `source` is a file, a folder with one of open_clip's files, a pretrained tag of open_clip
    (`openai`), or a hub repository (`hf-hub:owner/name` or `owner/name`). With `published`
    False it is known to be another file than the published one, and has to tell its activation.

    Returns the open_clip model, frozen and in evaluation mode, and its tokenizer. Raises
    WeightsMissing, and WeightsMismatch where layout, size or activation do not fit the name.
    """
    config = _config(model_name)
    checkpoint = read_checkpoint(_resolve(source, model_name))
    quick_gelu = bool(config.get("quick_gelu"))
    if not published and checkpoint.quick_gelu is None:
        raise _untold_activation(checkpoint.path, model_name, quick_gelu=quick_gelu)
    _check_activation(checkpoint, model_name, quick_gelu=quick_gelu)
    _check_size(checkpoint, model_name, config)
    model = _build(config, checkpoint, model_name, dtype=dtype, device=device)
    return model, open_clip.get_tokenizer(model_name)


def load_demo_clip(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[nn.Module, Callable[..., Tensor]]:
    """Build the small CLIP described by `folder/demo.json` from `folder/clip.safetensors`.

    Only the token rows the demo was trained with are stored; all others are zero.
    Raises WeightsMissing, WeightsMismatch.
    """
    folder = Path(folder)
    card, file = folder / "demo.json", folder / "clip.safetensors"
    for path in (card, file):
        if not path.is_file():
            raise WeightsMissing(
                f"the demo model's {path.name}",
                [folder],
                "reinstall the package, or train the demo model with 'cliper train-demo'",
            )
    config = json.loads(card.read_text(encoding="utf-8"))["clip"]
    checkpoint = _expand_tokens(read_checkpoint(file), rows=config["text_cfg"]["vocab_size"])
    model = _build(config, checkpoint, "the demo CLIP", dtype=dtype, device=device)
    length = config["text_cfg"]["context_length"]
    return model, open_clip.SimpleTokenizer(context_length=length)


def read_checkpoint(path: Path) -> Checkpoint:
    """Open a weight file of any supported format without building a model.

    Raises WeightsMismatch for a file that is none of them.
    """
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if _is_torchscript(path):
        return _open_archive(path)
    return _open_state_dict(path)


# --- where -----------------------------------------------------------------------------------


def _config(model_name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(model_name)
    if config is None:
        raise WeightsMismatch(
            f"unknown CLIP model {model_name!r}; for this method use ViT-B-16-quickgelu or "
            "ViT-L-14-quickgelu"
        )
    return dict(config)


def _resolve(source: str | Path, model_name: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(path)
    name = str(source)
    if tag := open_clip.get_pretrained_cfg(model_name, name):
        _check_tag(name, model_name, quick_gelu=bool(tag.get("quick_gelu", False)))
        if not tag.get("hf_hub"):
            raise WeightsMissing(
                f"{model_name} with the tag {name!r}",
                [tag.get("url", name)],
                "download that file and give its path",
            )
        return _from_hub(tag["hf_hub"].strip("/"))
    if name.startswith("hf-hub:") or (name.count("/") == 1 and not name.startswith((".", "/"))):
        return _from_hub(name.removeprefix("hf-hub:"))
    raise WeightsMissing(
        f"CLIP weights {name!r}",
        [path.absolute()],
        "give a file, a folder, a hub repository (owner/name) or a pretrained tag of open_clip",
    )


def _in_folder(folder: Path) -> Path:
    for name in (*HUB_FILES, "model.safetensors"):
        if (folder / name).is_file():
            return folder / name
    archives = sorted(folder.glob("*.pt"))
    if len(archives) == 1:
        return archives[0]
    raise WeightsMissing("CLIP weights", [folder], f"put {HUB_FILES[0]} or one .pt file there")


def _from_hub(repository: str) -> Path:
    for snapshot in weights.hub_snapshots(repository):
        for name in HUB_FILES:
            if (snapshot / name).is_file():
                return snapshot / name
    if weights.is_offline():
        raise WeightsMissing(
            f"the hub repository {repository}",
            weights.hub_snapshots(repository),
            f"unset HF_HUB_OFFLINE, or give the path of a downloaded {HUB_FILES[0]}",
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    reasons = []
    for name in HUB_FILES:
        try:
            return Path(hf_hub_download(repository, name))
        except (HfHubHTTPError, OSError) as error:
            reasons.append(f"{name}: {str(error).splitlines()[0]}")
    raise WeightsMissing(
        f"the hub repository {repository}",
        ["the hub"],
        "check the name and the connection",
        details="; ".join(reasons),
    )


# --- formats ---------------------------------------------------------------------------------


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(str(path), "pt") as tensors:
            metadata = tensors.metadata() or {}
            shapes = {
                name: tuple(tensors.get_slice(name).get_shape())
                for name in tensors.keys()  # noqa: SIM118 - not a dict
            }
    except SafetensorError as error:
        raise WeightsMismatch(f"{path} is not a whole safetensors file ({error})") from error

    def read(name: str) -> Tensor:
        with safe_open(str(path), "pt") as tensors:
            tensor: Tensor = tensors.get_tensor(name)
            return tensor

    quick_gelu, evidence = _told_activation(path, shapes, metadata)
    return Checkpoint(
        path=path,
        shapes=shapes,
        read=read,
        quick_gelu=quick_gelu,
        evidence=evidence,
        tensor_file=True,
    )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _open_archive(path: Path) -> Checkpoint:
    try:
        with warnings.catch_warnings():  # torch announces the end of a format that stays around
            warnings.simplefilter("ignore", FutureWarning)
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
    except RuntimeError as error:
        raise WeightsMismatch(f"{path} is not a whole TorchScript archive") from error
    return _from_state(path, state, quick_gelu=True, evidence="it is an OpenAI archive")


def _open_state_dict(path: Path) -> Checkpoint:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise WeightsMismatch(
            f"{path} is neither safetensors, an OpenAI archive nor a plain state dict"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise WeightsMismatch(f"{path} holds something other than tensors by name")
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    quick_gelu, evidence = _told_activation(path, state, {})
    return _from_state(path, state, quick_gelu=quick_gelu, evidence=evidence)


def _from_state(
    path: Path, state: Mapping[str, Tensor], *, quick_gelu: bool | None, evidence: str
) -> Checkpoint:
    return Checkpoint(
        path=path,
        shapes={name: tuple(tensor.shape) for name, tensor in state.items()},
        read=state.__getitem__,
        quick_gelu=quick_gelu,
        evidence=evidence,
    )


def _expand_tokens(checkpoint: Checkpoint, *, rows: int) -> Checkpoint:
    """Scatter the stored token rows into a full table of zeros."""
    ids, stored = "token_embedding.used_ids", "token_embedding.used_rows"
    if ids not in checkpoint.shapes or stored not in checkpoint.shapes:
        raise WeightsMismatch(f"{checkpoint.path} lacks {ids} or {stored}")
    width = checkpoint.shapes[stored][1]

    def read(name: str) -> Tensor:
        if name != "token_embedding.weight":
            return checkpoint.read(name)
        table = torch.zeros(rows, width)
        table[checkpoint.read(ids)] = checkpoint.read(stored).float()
        return table

    shapes = {name: shape for name, shape in checkpoint.shapes.items() if name not in (ids, stored)}
    return Checkpoint(
        path=checkpoint.path,
        shapes={**shapes, "token_embedding.weight": (rows, width)},
        read=read,
        quick_gelu=checkpoint.quick_gelu,
        evidence=checkpoint.evidence,
    )


# --- activation ------------------------------------------------------------------------------


def _told_activation(
    path: Path, names: Iterable[str], metadata: Mapping[str, str]
) -> tuple[bool | None, str]:
    """What the file or its neighbours say: QuickGELU, GELU (False), or nothing (None)."""
    for key in ("activation", "hidden_act", "quick_gelu"):
        if key in metadata:
            value = metadata[key].lower().replace("_", "")
            return value in ("quickgelu", "true", "1"), f"its metadata says {key}={metadata[key]}"
    config = path.with_name("open_clip_config.json")
    if config.is_file():
        told = json.loads(config.read_text(encoding="utf-8")).get("model_cfg", {})
        quick = bool(told.get("quick_gelu", False))
        return quick, f"{config.name} beside it says quick_gelu={str(quick).lower()}"
    config = path.with_name("config.json")
    if config.is_file():
        told = json.loads(config.read_text(encoding="utf-8"))
        act = told.get("hidden_act") or told.get("vision_config", {}).get("hidden_act")
        if act is not None:
            return act == "quick_gelu", f"{config.name} beside it says hidden_act={act}"
    if NOT_WEIGHTS & set(names):
        return True, "it carries the marks of an OpenAI checkpoint"
    if any("openai" in part.lower() for part in path.parts[-4:]):
        return True, "its path names OpenAI's weights"
    return None, ""


def _check_activation(checkpoint: Checkpoint, model_name: str, *, quick_gelu: bool) -> None:
    if checkpoint.quick_gelu is not None and checkpoint.quick_gelu != quick_gelu:
        raise _wrong_activation(
            f"{checkpoint.path} was", checkpoint.evidence, model_name, quick_gelu=quick_gelu
        )


def _untold_activation(path: Path, model_name: str, *, quick_gelu: bool) -> WeightsMismatch:
    wanted = "quickgelu" if quick_gelu else "gelu"
    return WeightsMismatch(
        f"delete it and fetch the published file, or say activation={wanted} in its metadata: "
        f"{path} is not the published {model_name} and does not tell its activation"
    )


def _check_tag(tag: str, model_name: str, *, quick_gelu: bool) -> None:
    built = bool(_config(model_name).get("quick_gelu"))
    if built != quick_gelu:
        raise _wrong_activation(
            f"the weights tagged {tag!r} were", "open_clip's list", model_name, quick_gelu=built
        )


def _wrong_activation(
    subject: str, evidence: str, model_name: str, *, quick_gelu: bool
) -> WeightsMismatch:
    plain = model_name.removesuffix("-quickgelu")
    trained, built = ("GELU", "QuickGELU") if quick_gelu else ("QuickGELU", "GELU")
    better = plain if quick_gelu else f"{plain}-quickgelu"
    return WeightsMismatch(
        f"{subject} trained with {trained} ({evidence}), but {model_name} is built with {built}: "
        f"use the model name {better}"
    )


# --- size ------------------------------------------------------------------------------------


def _check_size(checkpoint: Checkpoint, model_name: str, config: Mapping[str, Any]) -> None:
    """Compare what the tensors reveal with the model's name, in one sentence."""
    shapes = checkpoint.shapes
    conv = shapes.get("visual.conv1.weight")
    grid = shapes.get("visual.positional_embedding")
    if conv is None or grid is None or "visual.proj" not in shapes:
        return  # not this layout at all: the comparison of names says so
    vision = config["vision_cfg"]
    wanted = {
        "layers": vision["layers"],
        "width": vision["width"],
        "patch": vision["patch_size"],
        "image size": vision["image_size"],
        "embedding": config["embed_dim"],
    }
    found = {
        "layers": _count(shapes, "visual.transformer.resblocks."),
        "width": conv[0],
        "patch": conv[-1],
        "image size": round((grid[0] - 1) ** 0.5) * conv[-1],
        "embedding": shapes["visual.proj"][1],
    }
    if wanted != found:
        raise WeightsMismatch(
            f"{checkpoint.path} holds a CLIP with {_facts(found)}; {model_name} needs "
            f"{_facts(wanted)}"
        )


def _count(names: Iterable[str], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)})


def _facts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


# --- building --------------------------------------------------------------------------------


def _build(
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
    name: str,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> nn.Module:
    """Lay the model out without memory, then hand it the tensors one by one."""
    with torch.device("meta"):
        model: nn.Module = open_clip.CLIP(**config)
    outline = model.state_dict()
    _check_names(checkpoint, set(outline), name)
    rough = dtype == torch.bfloat16
    left = rough and checkpoint.tensor_file and torch.device(device).type == "cpu"

    state = {}
    for key, empty in outline.items():
        shape = tuple(empty.shape)
        found = checkpoint.shapes[key]
        if found != shape and key != "logit_scale":  # some files store it with one axis
            raise WeightsMismatch(
                f"{checkpoint.path}: {key} has the shape {list(found)}, {name} needs {list(shape)}"
            )
        if left and _is_a_text_product(key):
            state[key] = empty
            continue
        tensor = checkpoint.read(key).reshape(shape)
        kept = _precision(key, dtype)
        if rough and _is_a_text_product(key) and _fits_half(tensor):
            kept = torch.float16  # as the published files were; see `ClipBackbone.encode_text`
        # a file stays in memory as long as one tensor of it is used as it lies there
        state[key] = tensor.to(device=device, dtype=kept, copy=rough)
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False).eval()
    if left:
        _leave_text(model, TensorFile(checkpoint.path), _precision("transformer", dtype))
    length = int(config["text_cfg"]["context_length"])  # the causal mask is no weight: made anew
    text = _precision("positional_embedding", dtype)
    mask = torch.full((length, length), float("-inf"), device=device, dtype=text)
    model.attn_mask = mask.triu_(1)  # type: ignore[assignment]
    return model


def _leave_text(model: Any, file: TensorFile, dtype: torch.dtype) -> None:
    """The matrices of the text tower stay in the file."""
    model.token_embedding = TableInFile(file, "token_embedding.weight")
    blocks = model.transformer.resblocks
    for number, block in enumerate(blocks):
        names = {
            own: f"transformer.resblocks.{number}.{own}"
            for own, tensor in block.state_dict().items()
            if tensor.is_meta
        }
        blocks[number] = BlockInFile(block, file, names, dtype)


def _precision(key: str, dtype: torch.dtype) -> torch.dtype:
    """What a tensor is kept in. bfloat16 has eight bits: only the products of the vision tower
    take it. LayerNorms, and so what flows between blocks, and the text tower, whose rows are
    remembered, compute in float32.
    """
    if dtype != torch.bfloat16:
        return dtype
    product = key.startswith("visual.") and re.search(r"(conv1|attn|mlp)\.|\.proj$", key)
    return dtype if product else torch.float32


def _is_a_text_product(key: str) -> bool:
    """A matrix of a block of the text tower, or the table of its tokens."""
    return bool(re.match(r"transformer\..*weight$|token_embedding\.", key)) and ".ln_" not in key


def _fits_half(tensor: Tensor) -> bool:
    """Whether float16 holds every number exactly."""
    return tensor.dtype == torch.float16 or torch.equal(tensor.half().to(tensor.dtype), tensor)


def _check_names(checkpoint: Checkpoint, wanted: set[str], name: str) -> None:
    found = set(checkpoint.shapes) - NOT_WEIGHTS
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    if not missing and not extra:
        return
    for start, layout in FOREIGN.items():
        if any(key.startswith(start) for key in extra):
            raise WeightsMismatch(
                f"{checkpoint.path} has the tensor names of {layout}; {name} needs OpenAI's "
                f"names, as in {HUB_FILES[0]}"
            )
    parts = [
        f"{verb} {len(keys)} tensors ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for verb, keys in (("lacks", missing), ("has unexpected", extra))
        if keys
    ]
    raise WeightsMismatch(f"{checkpoint.path} does not fit {name}: it {' and '.join(parts)}")
