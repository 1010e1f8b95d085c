"""Convolutions with half of the multiplications: what comes out, and where they are used."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cliper_model.backbones import diffusion_weights, packed, winograd
from cliper_model.backbones.winograd import WinogradConv2d

from ...weights import synthesise
from ...weights.test_diffusion_weights import backbone

CHANNELS = 128


def drawn(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


def layer(made: int = CHANNELS, *, bias: bool = True, dtype: torch.dtype = torch.float32) -> Any:
    one = nn.Conv2d(CHANNELS, made, 3, padding=1, bias=bias)
    for number, weight in enumerate(one.parameters()):
        weight.data = torch.randn(
            weight.shape, generator=torch.Generator().manual_seed(number + 1)
        ) / (9 * CHANNELS) ** (0.5 if weight.ndim > 1 else 0)
    return one.to(dtype).requires_grad_(False)


@pytest.mark.parametrize("columns", [8, 9, 10, 11, 3, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_it_gives_what_the_plain_convolution_gives(columns: int, bias: bool) -> None:
    given, plain = drawn(2, CHANNELS, 7, columns), layer(160, bias=bias)

    wanted, found = plain(given), WinogradConv2d(plain)(given)

    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_rows_around_its_own_may_be_given_in_place_of_zeros() -> None:
    given, plain = drawn(1, CHANNELS, 12, 16), layer()
    one = WinogradConv2d(plain)

    whole = one(given)

    torch.testing.assert_close(one(given[:, :, 3:9], padding=(0, 1)), whole[:, :, 4:8])


def test_it_adds_to_what_is_there() -> None:
    given, plain = drawn(2, CHANNELS, 6, 10), layer(160)
    own = drawn(2, 160, 6, 10, seed=1)
    wanted = own + plain(given)

    added = WinogradConv2d(plain).add_to(own, given)

    torch.testing.assert_close(added, wanted, atol=2e-5, rtol=1e-4)
    assert added.data_ptr() == own.data_ptr()


def test_in_bfloat16_it_is_off_by_six_thousandths() -> None:
    given = functional.silu(drawn(1, CHANNELS, 32, 32)).bfloat16()
    plain = layer(dtype=torch.bfloat16)
    exact = functional.conv2d(given.double(), plain.weight.double(), plain.bias.double(), padding=1)

    off = (WinogradConv2d(plain)(given).double() - exact).norm() / exact.norm()

    assert 0.003 < off < 0.008


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, stride=2),
        nn.Conv2d(CHANNELS, CHANNELS, 3),
        nn.Conv2d(CHANNELS, CHANNELS, 5, padding=1),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, dilation=2),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=2),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(CHANNELS, CHANNELS - 1, 3, padding=1),
        nn.Linear(CHANNELS, CHANNELS),
    ],
    ids=["stride", "padding", "size", "dilation", "groups", "mode", "narrow", "linear"],
)
def test_other_layers_are_left_alone(other: nn.Module) -> None:
    assert winograd.is_for(layer(), winograd.LEAST_POSITIONS)
    assert not winograd.is_for(layer(), winograd.LEAST_POSITIONS - 1)
    assert not winograd.is_for(other, winograd.LEAST_POSITIONS)


@pytest.mark.parametrize(
    ("wide", "units", "pays"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_it_pays_without_units_for_whole_tiles(
    wide: bool, units: bool, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "takes_all_of_the_width", lambda: wide)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": units})

    assert winograd.pays() == pays


@pytest.mark.parametrize("pays", [True, False])
def test_an_autoencoder_has_it_on_its_large_maps(
    pays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "pays", lambda: pays)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1)
    parts = diffusion_weights.load_diffusion(synthesise.write_stable_diffusion(tmp_path / "sd"))
    side, plain, own = parts.side, backbone(parts), backbone(copy.deepcopy(parts))
    monkeypatch.setattr(winograd, "LEAST_POSITIONS", (side // 2) ** 2)
    monkeypatch.setattr(
        "cliper_model.backbones.diffusion.can_be_packed", lambda device, dtype: True
    )

    own.settle()

    encoder = own.vae.encoder
    found = [
        {type(layer) for resnet in block.resnets for layer in (resnet.conv1, resnet.conv2)}
        for block in encoder.down_blocks
    ]
    expected = [WinogradConv2d if pays else packed.PackedConv2d] * 2
    assert found == [{kind} for kind in expected] + [{packed.PackedConv2d}] * (len(found) - 2)
    assert not any(isinstance(part, WinogradConv2d) for part in own.unet.modules())
    assert own.settle().convolutions == ("winograd" if pays else "direct")
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(5)) * 2 - 1
    wanted, latent = plain.encode(pixels), own.encode(pixels)
    torch.testing.assert_close(latent, wanted, rtol=1e-3, atol=1e-4)
