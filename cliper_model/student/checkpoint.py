"""A student on disk: safetensors with a JSON header, no pickle, replaced as a whole.

While it is trained the file also holds the optimiser's momentum and the step, so that training
goes on exactly where it stopped.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import CheckpointDiffers, CheckpointMissing, CheckpointUnreadable
from .words import StudentWords

FORMAT: Final = "cliper-student-1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that decides what a student sees, and how its training goes on.

    settings  every number of the training, as plain values
    teacher   digest of the teacher's identity: method, weights, settings
    pictures  digest of the training pictures' and label maps' names and sizes
    momentum  the optimiser's, by parameter name; empty once training has ended
    """

    words: StudentWords
    settings: Mapping[str, Any]
    teacher: str
    pictures: str
    step: int
    weights: Mapping[str, Tensor]
    momentum: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.step >= int(self.settings["steps"])

    def save(self, path: Path) -> None:
        """Write beside the old file, then take its place: a kill never leaves half a file."""
        tensors = {f"weights.{key}": value for key, value in self.weights.items()}
        tensors |= {f"momentum.{key}": value for key, value in self.momentum.items()}
        tensors["rows"] = self.words.rows
        header = {
            "format": FORMAT,
            "names": self.words.names,
            "synonyms": self.words.synonyms,
            "templates": self.words.templates,
            "background": self.words.background,
            "words_digest": self.words.digest,
            "settings": dict(self.settings),
            "teacher": self.teacher,
            "pictures": self.pictures,
            "step": self.step,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                partial,
                {"student": json.dumps(header, sort_keys=True)},
            )
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Raises CheckpointMissing, CheckpointUnreadable."""
        header, tensors = _read(path)
        try:
            words = StudentWords(
                names=tuple(header["names"]),
                synonyms=tuple(tuple(group) for group in header["synonyms"]),
                rows=tensors.pop("rows"),
                templates=tuple(header["templates"]),
                background=bool(header["background"]),
            )
            if words.digest != header["words_digest"]:
                raise CheckpointUnreadable(path, "holds text rows that do not fit its names")
            return cls(
                words=words,
                settings=header["settings"],
                teacher=header["teacher"],
                pictures=header["pictures"],
                step=int(header["step"]),
                weights=_under("weights.", tensors),
                momentum=_under("momentum.", tensors),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointUnreadable(path, "is no complete student") from error

    def check_same_training(self, other: "Checkpoint") -> None:
        """Raises CheckpointDiffers, naming the first difference to the training `other`."""
        pairs: list[tuple[str, object, object]] = [
            ("labels", self.words.names, other.words.names),
            ("synonyms", self.words.synonyms, other.words.synonyms),
            ("background class", self.words.background, other.words.background),
            ("templates", self.words.templates, other.words.templates),
            ("text rows", self.words.digest, other.words.digest),
            ("teacher", self.teacher, other.teacher),
            ("pictures", self.pictures, other.pictures),
        ]
        mine, yours = _plain(self.settings), _plain(other.settings)
        for key in sorted(set(mine) | set(yours)):
            pairs.append((key.replace("_", " "), mine.get(key), yours.get(key)))
        for what, stored, asked in pairs:
            if stored != asked:
                raise CheckpointDiffers(what, stored, asked)


def remove_partials(path: Path) -> None:
    """Halves of `path` that savings left beside it when they were killed."""
    half = re.compile(re.escape(path.name) + r"\.\d+\.partial")
    for neighbour in path.parent.glob("*.partial"):
        if half.fullmatch(neighbour.name):
            neighbour.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a student's file; raises CheckpointMissing."""
    if not path.is_file():
        raise CheckpointMissing(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads after JSON: tuples are lists."""
    content: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return content


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointMissing(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("student", "{}"))
            tensors: dict[str, torch.Tensor] = {
                key: file.get_tensor(key) for key in sorted(file.keys())
            }
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointUnreadable(path, "cannot be read") from error
    if header.get("format") != FORMAT:
        raise CheckpointUnreadable(path, "is no student of this version")
    return header, tensors
