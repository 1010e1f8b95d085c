"""The encoder's first levels in strips of rows against the plain encoder."""

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.vae import Encoder
from torch import Tensor, nn

from cliper_model import allocator
from cliper_model.backbones import packed, strips

SIDE = 44


def encoder(**changed: Any) -> Any:
    torch.manual_seed(1)
    kinds = ("DownEncoderBlock2D",) * 3
    made = Encoder(
        block_out_channels=(8, 16, 16), down_block_types=kinds, layers_per_block=2,
        norm_num_groups=4, **changed,
    ).eval()  # fmt: skip
    for part in made.modules():  # as trained ones: none is the identity
        if isinstance(part, nn.GroupNorm):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return made.requires_grad_(False)


def plainly(network: Any, pixels: Tensor, blocks: int) -> Tensor:
    hidden: Tensor = network.conv_in(pixels)
    for block in network.down_blocks[:blocks]:
        hidden = block(hidden)
    return hidden


@pytest.mark.parametrize("rows", [4, 8, 64])
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_strips_give_what_whole_maps_give(
    blocks: int, pictures: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = encoder()
    pixels = torch.randn(pictures, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = plainly(network, pixels, blocks)
        # bytes of one channel's map are 4 * SIDE ** 2 first, then a quarter, then a sixteenth
        least = 4 * SIDE**2 * (8, 4, 1)[blocks - 1]
        monkeypatch.setattr(allocator, "LARGE", least)
        monkeypatch.setattr(strips, "ROWS", rows)
        entered = strips.entered(packed.pack(network), pixels)
        assert entered is not None
        found, passed = entered

    assert passed == blocks
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_small_maps_and_unusual_layers_pass_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        small, unpacked = packed.pack(encoder()), encoder()
        other = packed.pack(encoder(act_fn="gelu"))

        assert strips.entered(small, pixels) is None
        monkeypatch.setattr(allocator, "LARGE", 1)
        for network in (unpacked, other):
            assert strips.entered(network, pixels) is None


def test_no_array_is_as_large_as_a_whole_map(monkeypatch: pytest.MonkeyPatch) -> None:
    network = packed.pack(encoder())
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(allocator, "LARGE", 4 * SIDE**2 * 4)
    monkeypatch.setattr(strips, "ROWS", 4)
    made: list[int] = []

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and not func.is_view:
                made.append(out.untyped_storage().nbytes())
            return out

    with torch.no_grad(), Watching():
        entered = strips.entered(network, pixels)
        assert entered is not None
        found, _ = entered

    assert max(made) == max(found.nbytes, 8 * (4 + 2) * SIDE * 4) < 4 * 8 * SIDE**2
