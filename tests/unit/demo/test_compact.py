"""One byte per value: near enough for a control, and never mistaken for something else."""

import pytest
import torch
from safetensors.torch import save_file

from cliper_model.demo.compact import read_compact, write_compact
from cliper_model.errors import WeightsMismatch


def test_values_come_back_close_to_what_they_were(tmp_path):
    torch.manual_seed(0)
    tensors = {
        "wide": 100 * torch.randn(8, 8),
        "narrow": 0.001 * torch.randn(4),
        "none": torch.zeros(3),
    }

    write_compact(tensors, tmp_path / "c.safetensors")
    back = read_compact(tmp_path / "c.safetensors")

    assert set(back) == set(tensors)
    for name, value in tensors.items():
        torch.testing.assert_close(back[name], value, rtol=0.07, atol=value.abs().max() / 1000)
    assert (tmp_path / "c.safetensors").stat().st_size < 75 + 400


def test_another_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "c.safetensors")

    with pytest.raises(WeightsMismatch, match="lacks its scales"):
        read_compact(tmp_path / "c.safetensors")
