"""A weight file as tensors by name: safetensors, or a torch file that holds nothing but tensors;
and the configuration beside it.

Nothing is unpickled beyond tensors and plain containers, whatever a file claims to be.
"""

import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import WeightsMismatch, WeightsMissing

SUFFIXES: Final = (".safetensors", ".pth", ".pt", ".bin")
WRAPPINGS: Final = ("teacher", "state_dict", "model", "model_state_dict")  # dicts around the dict
PREFIXES: Final = ("module.", "backbone.", "image_encoder.")
FOREIGN: Final = {  # first words of tensor names -> the layout they belong to
    "embeddings.": "the transformers library",
    "vision_model.": "the transformers library",
    "vision_encoder.": "the transformers library",
    "visual.": "a CLIP model",
    "transformer.resblocks.": "a CLIP model",
    "down_blocks.": "a diffusion U-Net",
    "conv1.": "a residual network",
}


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """An opened weight file; each tensor is read when asked for."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    def renamed(self, spell: Callable[[str], str | None]) -> "Tensors":
        """The same tensors under other names; those spelled None are left out."""
        names = {new: old for old in self.shapes if (new := spell(old)) is not None}
        shapes = {new: self.shapes[old] for new, old in names.items()}
        return Tensors(path=self.path, shapes=shapes, read=lambda name: self.read(names[name]))

    def depth(self, stem: str = "blocks") -> int:
        """How many numbered modules `stem.0`, `stem.1`, … there are."""
        pattern = re.compile(rf"{re.escape(stem)}\.(\d+)\.")
        numbers = {int(found[1]) for name in self.shapes if (found := pattern.match(name))}
        return max(numbers, default=-1) + 1

    def shape(self, name: str, *, of: str) -> tuple[int, ...]:
        """The shape of a tensor that makes the file what it should be (`of`).

        Raises WeightsMismatch where it is missing.
        """
        if name not in self.shapes:
            raise WeightsMismatch(
                f"{self.path} is not {of}: it lacks {name}{_looks_like(self.shapes)}"
            )
        return self.shapes[name]


def open_tensors(place: Path) -> Tensors:
    """Open a weight file, or the only one in a folder; usual wrappings and prefixes come off.

    Raises WeightsMissing where there is none, WeightsMismatch where it is no such file.
    """
    path = _in_folder(place) if place.is_dir() else place
    if not path.is_file():
        raise WeightsMissing("weights", [path], "give the path of a weight file")
    opened = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    prefix = next(
        (start for start in PREFIXES if any(name.startswith(start) for name in opened.shapes)),
        None,
    )
    if prefix is None:
        return opened
    return opened.renamed(
        lambda name: name.removeprefix(prefix) if name.startswith(prefix) else None
    )


def fill(
    module: nn.Module,
    tensors: Tensors,
    *,
    of: str,
    dtype: torch.dtype,
    device: torch.device | str,
) -> nn.Module:
    """Hand a module laid out without memory its tensors, one by one, and freeze it.

    Raises WeightsMismatch where names or shapes do not fit.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = sorted(set(wanted) - set(tensors.shapes))
    extra = sorted(set(tensors.shapes) - set(wanted))
    if missing or extra:
        parts = [
            f"{verb} {len(names)} tensors ({', '.join(names[:3])}{', …' if names[3:] else ''})"
            for verb, names in (("lacks", missing), ("has unexpected", extra))
            if names
        ]
        hint = _looks_like(tensors.shapes)
        raise WeightsMismatch(f"{tensors.path} is not {of}: it {' and '.join(parts)}{hint}")
    state = {}
    for name, shape in wanted.items():
        if tensors.shapes[name] != shape:
            raise WeightsMismatch(
                f"{tensors.path} is not {of}: {name} has the shape "
                f"{list(tensors.shapes[name])} where {list(shape)} is needed"
            )
        tensor = tensors.read(name)
        state[name] = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file. Raises WeightsMissing, and WeightsMismatch where it is none."""
    if not path.is_file():
        raise WeightsMissing(
            path.name, [path.parent], "run 'cliper weights fetch PROFILE', or copy it there"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsMismatch(f"{path} is not readable as JSON ({error})") from error
    if not isinstance(told, dict):
        raise WeightsMismatch(f"{path} is not a JSON object")
    return told


def _looks_like(names: Mapping[str, Any]) -> str:
    for start, layout in FOREIGN.items():
        if any(name.startswith(start) for name in names):
            return f"; its tensor names are those of {layout}"
    return ""


def _in_folder(folder: Path) -> Path:
    for suffix in SUFFIXES:
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) > 1:
            raise WeightsMissing(
                "one weight file", [folder], f"give the path of one of {_listed(found)}"
            )
        if found:
            return found[0]
    raise WeightsMissing("weights", [folder], f"put a {' or '.join(SUFFIXES[:2])} file there")


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _safetensors(path: Path) -> Tensors:
    try:
        with safe_open(str(path), "pt") as stored:
            names = list(stored.keys())
            shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise WeightsMismatch(f"{path} is not a whole safetensors file ({error})") from error

    def read(name: str) -> Tensor:
        with safe_open(str(path), "pt") as stored:  # opened anew, so that pages are given back
            tensor: Tensor = stored.get_tensor(name)
            return tensor

    return Tensors(path=path, shapes=shapes, read=read)


def _torch_file(path: Path) -> Tensors:
    try:
        content: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsMismatch(
            f"{path} cannot be read as tensors alone; convert it to safetensors "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error
    while isinstance(content, dict):
        inner = next((key for key in WRAPPINGS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = content[inner]
    found = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not found:
        raise WeightsMismatch(f"{path} holds no tensors by name; give a state dict")
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    return Tensors(path=path, shapes=shapes, read=found.__getitem__)
