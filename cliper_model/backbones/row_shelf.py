"""Where text rows are remembered, word by word, and what tells them apart.

A row is made from one word and its sentences alone, so its bits do not depend on which words it
was asked together with, and a remembered row is the one that would be made again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

REVISION = 1  # raise whenever the same words, sentences and weights give other rows


@dataclass(frozen=True)
class RowKey:
    """What the bits of a text row depend on: `model` from `model_digest`, sentences with `{}`,
    and the word as written."""

    model: str
    templates: tuple[str, ...]
    word: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all three."""
        text = json.dumps([self.model, self.templates, self.word])
        return hashlib.sha256(text.encode()).hexdigest()


class RowShelf(Protocol):
    """Remembers text rows: float32, of unit length, in main memory. For many threads."""

    def get(self, keys: Sequence[RowKey]) -> Mapping[RowKey, Float[Tensor, " embed"]]:
        """Those it has."""
        ...

    def put(self, rows: Mapping[RowKey, Float[Tensor, " embed"]]) -> None:
        """Remember rows just made."""
        ...


class NoShelf:
    """Remembers nothing."""

    def get(self, keys: Sequence[RowKey]) -> Mapping[RowKey, Float[Tensor, " embed"]]:
        return {}

    def put(self, rows: Mapping[RowKey, Float[Tensor, " embed"]]) -> None:
        return


def model_digest(
    weights: Mapping[str, str], clip: str, *, device: torch.device, dtype: torch.dtype
) -> str:
    """Of everything beside words and sentences that rows depend on, to the last bit.

    `weights`: checksums of CLIP's files. `clip`: the network's name. On a processor the number of
    threads counts: sums that are divided among other numbers of threads end in other bits. The
    tokenizer comes with open_clip.
    """
    facts = [
        REVISION,
        dict(weights),
        clip,
        str(dtype),
        *_arithmetic(device),
        torch.__version__,
        version("open_clip_torch"),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _arithmetic(device: torch.device) -> tuple[str, ...]:
    """What computes: the same operations on another kind of device end in other bits."""
    if device.type == "cpu":
        return ("cpu", torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads()))
    if device.type == "cuda":
        return ("cuda", torch.cuda.get_device_name(device))
    return (device.type,)
