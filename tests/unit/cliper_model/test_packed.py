"""Layers with weights laid out for the processor: what comes out, and where they are used."""

import copy
import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.activations import GEGLU
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn

from cliper_model import allocator
from cliper_model.backbones import diffusion_weights, packed
from cliper_model.backbones.clip import ClipBackbone
from cliper_model.backbones.diffusion import DiffusionBackbone

from ...weights import synthesise
from ...weights.test_diffusion_weights import backbone


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Conv2d(8, 4, 1, stride=2),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2),
    ],
    ids=["3x3", "1x1 stride", "stride", "dilation"],
)
def test_a_packed_convolution_gives_what_the_plain_one_gives(layer: nn.Conv2d) -> None:
    given = drawn(2, 8, 12, 10).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = layer(given)
        one = packed.PackedConv2d(layer)

        torch.testing.assert_close(one(given), wanted)
        assert one(given).is_contiguous(memory_format=torch.channels_last)
        own = drawn(*wanted.shape, seed=1).contiguous(memory_format=torch.channels_last)
        sum_wanted = own + wanted
        added = one.add_to(own, given)

    torch.testing.assert_close(added, sum_wanted)
    assert added.data_ptr() == own.data_ptr()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_convolution_of_single_positions_is_packed_as_a_linear_layer(
    bias: bool, layout: torch.memory_format
) -> None:
    layer = nn.Conv2d(8, 4, 1, bias=bias)
    given = drawn(2, 8, 12, 10).contiguous(memory_format=layout)
    with torch.no_grad():
        wanted = layer(given)
        one = packed.pack(nn.Sequential(layer))

        assert isinstance(one[0], packed.PackedPointwise)  # type: ignore[index]
        torch.testing.assert_close(one(given), wanted)
        assert one(given).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_linear_layer_gives_what_the_plain_one_gives(bias: bool) -> None:
    layer, given = nn.Linear(24, 40, bias=bias), drawn(2, 7, 24)
    with torch.no_grad():
        torch.testing.assert_close(packed.PackedLinear(layer)(given), layer(given))


def test_a_packed_gated_layer_gives_what_the_plain_one_gives() -> None:
    layer, given = GEGLU(24, 40), drawn(2, 7, 24)
    with torch.no_grad():
        wanted = layer(given)
        found = packed.pack(nn.Sequential(layer))

        assert isinstance(found[0], packed.PackedGeglu)  # type: ignore[index]
        torch.testing.assert_close(found(given), wanted)


def test_a_packed_tower_sees_what_the_plain_one_sees() -> None:
    torch.manual_seed(1)
    tower = VisionTransformer(
        image_size=32, patch_size=8, width=32, layers=3, heads=2, mlp_ratio=2.0, output_dim=16
    ).eval()
    model = SimpleNamespace(visual=tower, eval=lambda: model)
    pixels = drawn(1, 3, 32, 40)
    clip = ClipBackbone(nn.ModuleDict({"visual": tower}), lambda texts: torch.zeros(0))  # type: ignore[arg-type]
    with torch.no_grad():
        wanted = clip.look(pixels)
        packed.pack_tower(model)
        found = clip.look(pixels)

    first, _, last = tower.transformer.resblocks
    assert isinstance(first.attn, packed.PackedAttention)
    assert isinstance(first.mlp, packed.PackedMlp)
    assert isinstance(first.mlp.c_fc, packed.PackedLinear)
    assert isinstance(last.attn, nn.MultiheadAttention)
    torch.testing.assert_close(found.inputs, wanted.inputs)
    torch.testing.assert_close(found.accumulated, wanted.accumulated)


def _mlp_of(gelu: nn.Module) -> nn.Module:
    mlp = nn.Sequential()
    for name, part in (
        ("c_fc", nn.Linear(24, 96)), ("gelu", gelu), ("c_proj", nn.Linear(96, 24))
    ):  # fmt: skip
        mlp.add_module(name, part)
    return mlp


@pytest.mark.parametrize("gelu", [QuickGELU, nn.GELU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_mlp_adds_what_the_plain_one_gives(
    gelu: type[nn.Module], dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    mlp, norm, tokens = _mlp_of(gelu()).to(dtype), nn.LayerNorm(24), drawn(2, 7, 24)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    with torch.no_grad():
        exact = tokens + mlp.float()(norm(tokens))
        mlp.to(dtype)
        assert packed.PackedMlp.can_be(mlp)
        given = tokens.to(dtype)
        inner = mlp.c_fc(given)  # type: ignore[operator]
        one = packed.PackedMlp(packed.pack(mlp), norm)
        own = tokens.clone()
        found = one.add_to(own)

        assert found.dtype == torch.float32
        assert found.data_ptr() == own.data_ptr()
        rounding = 0.02 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(found, exact, rtol=0, atol=rounding)
        torch.testing.assert_close(one.c_fc(given), inner)


def test_an_mlp_with_another_function_stays_as_it_is() -> None:
    model = SimpleNamespace(eval=lambda: model)
    model.visual = VisionTransformer(
        image_size=32, patch_size=8, width=32, layers=2, heads=2, mlp_ratio=2.0, output_dim=16,
        act_layer=lambda: nn.GELU(approximate="tanh"),
    )  # fmt: skip

    packed.pack_tower(model)

    mlp = model.visual.transformer.resblocks[0].mlp
    assert not isinstance(mlp, packed.PackedMlp)
    assert isinstance(mlp.c_fc, packed.PackedLinear)


def test_large_layers_are_packed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that those after them fit where these were on their way."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Conv2d(3, 30, 3)), nn.Linear(9, 9))
    order: list[int] = []
    plain = packed._packed
    monkeypatch.setattr(
        packed, "_packed", lambda layer: (order.append(layer.weight.numel()), plain(layer))[1]
    )

    packed.pack(network)

    assert order == [30 * 3 * 9, 81, 4]


@pytest.mark.parametrize("shape", [(3, 4), (1, 1, 5, 2)])
def test_memory_for_a_passing_weight_is_its_own(shape: tuple[int, ...]) -> None:
    one, other = (packed.passing(shape, torch.bfloat16) for _ in range(2))

    one.fill_(1.0)

    assert (one.shape, one.dtype, one.numel()) == (torch.Size(shape), torch.bfloat16, one.sum())
    assert not other.any()


def test_every_layer_of_a_network_is_packed_but_those_that_cannot_be() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Linear(8, 8)]),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"),
        nn.GroupNorm(2, 8),
    )

    kinds = [type(part) for part in packed.pack(network).modules()]

    assert kinds == [
        nn.Sequential, packed.PackedConv2d, nn.ModuleList, nn.Conv2d, packed.PackedLinear,
        nn.Conv2d, nn.GroupNorm,
    ]  # fmt: skip


def test_at_no_time_there_are_two_of_all_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(64, 64), nn.Sequential(nn.Linear(64, 64)), nn.Linear(64, 64))
    old = [weakref.ref(part) for part in network.modules() if isinstance(part, nn.Linear)]
    alive: list[int] = []

    def given_back() -> bool:
        gc.collect()
        alive.append(sum(1 for one in old if one() is not None))
        return True

    monkeypatch.setattr(packed, "HOLE", 64 * 64 * 4)
    monkeypatch.setattr(allocator, "give_back_freed_memory", given_back)

    packed.pack(network)

    assert alive == [2, 1, 0]


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("cuda", torch.bfloat16), ("cpu", torch.float32), ("cpu", torch.float16)],
)
def test_other_devices_and_formats_keep_their_layers(device: str, dtype: torch.dtype) -> None:
    assert not packed.can_be_packed(torch.device(device), dtype)


def test_a_torch_without_such_layers_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed, "OPERATORS", ("_no_such_operator",))

    assert not packed.can_be_packed(torch.device("cpu"), torch.bfloat16)
    assert "no layers of laid out weights" in caplog.text


def test_settled_networks_give_the_same_packed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = diffusion_weights.load_diffusion(synthesise.write_stable_diffusion(tmp_path / "sd"))
    image = (drawn(48, 64, 3).sigmoid() * 255).to(torch.uint8).numpy()

    def links(pack: bool) -> tuple[Tensor, Tensor]:
        monkeypatch.setattr(
            "cliper_model.backbones.diffusion.can_be_packed", lambda device, dtype: pack
        )
        network: DiffusionBackbone = backbone(copy.deepcopy(parts)).settle()
        kinds = {type(part) for part in (*network.vae.modules(), *network.unet.modules())}
        assert (packed.PackedConv2d in kinds) == (packed.PackedLinear in kinds) == pack
        assert (nn.Conv2d in kinds) != pack
        assert (network.dtype, network.device) == (torch.float32, torch.device("cpu"))
        return network.links(image)

    for one, other in zip(links(pack=True), links(pack=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
