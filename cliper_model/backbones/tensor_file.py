"""Modules whose weights stay in their safetensors file and are in memory while they compute.

CLIP's text tower has 64 million numbers, and is asked only for words that nobody knows yet.
"""

import copy
import json
import mmap
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import WeightsMismatch

DTYPES: Final = {  # as safetensors spells them
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


class TensorFile:
    """Tensors of one safetensors file, for as long as the process likes.

    The file is held open: who puts another one in its place changes nothing here. Any number of
    threads may read.
    """

    def __init__(self, path: Path) -> None:
        """Raises WeightsMismatch for numbers of an unknown kind."""
        self._path = path
        self._number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._number)
        self._written = self._stamp()
        pages = self._pages()
        length = int.from_bytes(pages[:8], "little")  # of the header, which follows
        self._first = 8 + length
        header = json.loads(pages[8 : self._first])
        self._header: Mapping[str, Any] = {
            name: told for name, told in header.items() if name != "__metadata__"
        }
        if unknown := {told["dtype"] for told in self._header.values()} - set(DTYPES):
            raise WeightsMismatch(f"{path} holds numbers of the kind {', '.join(sorted(unknown))}")

    def read(self, name: str) -> Tensor:
        """As it lies there; what is touched of it stays in memory until the tensor is gone.

        Raises WeightsMismatch where the file was written to since it was opened.
        """
        if self._stamp() != self._written:
            raise WeightsMismatch(f"{self._path} was changed while in use: start again")
        told = self._header[name]
        dtype = DTYPES[told["dtype"]]
        start, end = told["data_offsets"]
        numbers = torch.frombuffer(
            self._pages(),
            dtype=dtype,
            count=(end - start) // dtype.itemsize,
            offset=self._first + start,
        )
        return numbers.view(told["shape"])

    def _pages(self) -> mmap.mmap:
        return mmap.mmap(self._number, 0, access=mmap.ACCESS_COPY)

    def _stamp(self) -> tuple[int, int]:
        told = os.fstat(self._number)
        return told.st_size, told.st_mtime_ns


class TableInFile(nn.Module):
    """An embedding, of which only the rows asked for are brought into memory."""

    def __init__(self, file: TensorFile, name: str) -> None:
        super().__init__()
        self._file, self._name = file, name

    def forward(self, ids: Int[Tensor, "*any"]) -> Float[Tensor, "*any width"]:
        return self._file.read(self._name)[ids]


class BlockInFile(nn.Module):
    """A module whose larger weights are in a file; ask `brought` for one that computes."""

    def __init__(
        self, outline: nn.Module, file: TensorFile, names: Mapping[str, str], dtype: torch.dtype
    ) -> None:
        """`outline` lacks the weights (device "meta") that are keys of `names`; what each is
        called in the file is its value. They compute as `dtype`.
        """
        super().__init__()
        self._outline = (outline,)  # no child: nobody can move or count what is not there
        self._file, self._names, self._dtype = file, dict(names), dtype

    def brought(self) -> nn.Module:
        """The whole module, for whoever asked alone."""
        (outline,) = self._outline
        weights = {
            own: self._file.read(name).to(self._dtype, copy=True)
            for own, name in self._names.items()
        }
        whole = copy.deepcopy(outline)
        whole.load_state_dict(weights, strict=False, assign=True)
        return whole.requires_grad_(False)
