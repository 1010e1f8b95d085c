"""Weights at one byte per value: float8 with one scale per tensor, for what is only a control."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import WeightsMismatch

_DTYPE: Final = torch.float8_e4m3fn
_SCALES: Final = "scales"  # one float32 per tensor, in the order of their names


def write_compact(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Every tensor divided by a scale that makes its largest value the largest of float8."""
    stored, scales = {}, []
    for name in sorted(tensors):
        values = tensors[name].detach().float()
        scales.append((values.abs().amax() / torch.finfo(_DTYPE).max).clamp_min(1e-12))
        stored[name] = (values / scales[-1]).to(_DTYPE).contiguous()
    save_file({**stored, _SCALES: torch.stack(scales)}, path)


def read_compact(path: Path) -> dict[str, Tensor]:
    """Float32 tensors of a file from `write_compact`. Raises WeightsMismatch for another file."""
    stored = load_file(path)
    scales = stored.pop(_SCALES, torch.empty(0))
    if len(scales) != len(stored):
        raise WeightsMismatch(f"{path} lacks its scales: train the demo weights again")
    return {
        name: stored[name].float() * scale
        for name, scale in zip(sorted(stored), scales, strict=True)
    }
