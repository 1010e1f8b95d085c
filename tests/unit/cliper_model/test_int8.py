"""Linear layers in bytes against arithmetic in float64, and where the format is refused."""

import pytest
import torch
from torch import Tensor

import cliper_model
from backend.cli import sources
from backend.settings import Settings
from backend.wiring import _describe
from cliper_model import loading, profiles
from cliper_model.backbones.int8 import Int8Linear, is_shrunk, shrink
from cliper_model.backbones.tiny import tiny_clip
from cliper_model.errors import UnfitPrecision

from ...weights.flops import counting

ZEN = {"avx512_vnni": True, "avx512_bf16": True}
with_units = pytest.mark.skipif(
    not loading._units(loading.INT8_UNITS), reason="needs VNNI or AMX: sums of bytes overflow"
)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def with_huge_tokens() -> tuple[Tensor, Tensor]:
    """Tokens as CLIP has them, one in a hundred 20 times as long, and which are ordinary."""
    tokens = drawn(500, 96)
    tokens[:, :4] *= 10
    tokens[::100] *= 20
    return tokens, torch.arange(500) % 100 != 0


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@with_units
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 5)])
def test_a_layer_stays_within_half_a_step_of_every_factor(shape: tuple[int, ...]):
    weight, bias, tokens = drawn(40, 96), drawn(40), drawn(*shape, 96)

    found = Int8Linear(weight, bias)(tokens)

    left, right = tokens.double(), weight.double()
    steps = left.abs().amax(-1, keepdim=True) / 127, right.abs().amax(-1, keepdim=True) / 127
    bound = (
        steps[0] / 2 * right.abs().sum(-1)
        + left.abs().sum(-1, keepdim=True) * steps[1].T / 2
        + 96 * steps[0] * steps[1].T / 4
    )
    exact = left @ right.T + bias.double()
    assert found.shape == (*shape, 40)
    assert ((found.double() - exact).abs() <= bound + 1e-5).all()
    assert 0 < error(found, exact) < 0.02


@with_units
def test_huge_tokens_cost_ordinary_ones_nothing_and_one_scale_for_all_would():
    weight, bias = drawn(40, 96), torch.zeros(40)
    tokens, ordinary = with_huge_tokens()
    layer = Int8Linear(weight, bias)
    exact = (tokens.double() @ weight.double().T)[ordinary]

    found = layer(tokens)[ordinary]

    step = tokens.abs().max() / 127
    alike = layer((tokens / step).round() * step)[ordinary]  # what one scale leaves of them
    torch.testing.assert_close(found, layer(tokens[ordinary]), rtol=0, atol=0)
    assert error(found, exact) < 0.03
    assert error(alike, exact) > 0.2


@with_units
def test_a_token_of_zeros_gives_the_bias():
    bias = drawn(40)

    assert torch.equal(Int8Linear(drawn(40, 96), bias)(torch.zeros(1, 96)), bias[None])


@with_units
def test_what_comes_out_is_as_precise_as_the_weights_were():
    layer = Int8Linear(drawn(40, 96).bfloat16(), drawn(40).bfloat16())

    assert layer(drawn(3, 96)).dtype == torch.bfloat16


def test_only_linear_layers_before_the_last_block_shrink():
    clip = tiny_clip()
    before = {name for name, _ in clip.vision.named_parameters()}

    shrink(clip._model)

    gone = before - {name for name, _ in clip.vision.named_parameters()}
    parts = ("attn.in_proj_", "attn.out_proj.", "mlp.c_fc.", "mlp.c_proj.")
    assert clip.number_format == "int8"
    assert gone == {
        f"transformer.resblocks.{block}.{part}{kind}"
        for block in range(clip.layers - 1)
        for part in parts
        for kind in ("weight", "bias")
    }
    assert not is_shrunk(clip.vision.transformer.resblocks[-1])
    assert not is_shrunk(clip._model.transformer)


@with_units
@pytest.mark.skipif(not loading._units(loading.BFLOAT16_UNITS), reason="computes in bfloat16, too")
def test_a_look_in_bytes_multiplies_as_much_and_is_close():
    rough, bytes_ = (cliper_model.load("demo", device="cpu", dtype=d) for d in ("bfloat16", "int8"))
    pixels = drawn(1, 3, 64, 64)

    with counting() as much:
        wanted = rough.clip.look(pixels)  # type: ignore[attr-defined]
    with counting() as as_much:
        found = bytes_.clip.look(pixels)  # type: ignore[attr-defined]

    assert found.inputs.dtype == wanted.inputs.dtype
    assert 0 < error(found.inputs, wanted.inputs.double()) < 0.05
    assert as_much == much


@pytest.mark.parametrize(
    ("device", "profile", "has", "because"),
    [
        ("cuda:0", profiles.get("fast"), ZEN,
         "it is for processors, and this model would run on cuda:0"),
        ("mps", profiles.get("fast"), ZEN, "it is for processors, and this model would run on mps"),
        ("cpu", profiles.get("fast", method="maskclip"), ZEN,
         "what it costs was measured for CLIPer alone"),
        ("cpu", profiles.get("fast", method="cliper", features="dino-vitb8"), ZEN,
         "what it costs was measured for CLIPer alone"),
        ("cpu", None, ZEN, "what it costs was measured for CLIPer alone"),
        ("cpu", profiles.get("fast"), {"avx512_bf16": True},
         "this processor has none of amx_int8, avx512_vnni, avx_vnni"),
        ("cpu", profiles.get("fast"), {"avx_vnni": True},
         "this processor has none of amx_bf16, avx512_bf16"),
    ],
)  # fmt: skip
def test_bytes_are_refused_where_they_bring_nothing_or_were_not_measured(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    profile: profiles.Profile | None,
    has: dict[str, bool],
    because: str,
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)

    with pytest.raises(UnfitPrecision) as refusal:
        loading.check_precision("int8", device, profile)

    assert str(refusal.value) == f"leave the number format 'int8' out: {because}"
    loading.check_precision("bfloat16", device, profile)


@pytest.mark.parametrize("dtype", ["int8", torch.int8])
def test_loading_refuses_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, dtype: str | torch.dtype
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)

    with pytest.raises(UnfitPrecision, match="this processor has none of"):
        cliper_model.load("demo", device="cpu", dtype=dtype)


def test_a_feature_source_by_itself_takes_no_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ZEN)

    with pytest.raises(UnfitPrecision, match="for CLIPer alone"):
        sources.load("dino-vitb8", "demo", "cpu", Settings(dtype="int8"))


def test_bytes_are_never_chosen_by_themselves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ZEN)

    assert loading.best_precision("cpu", profiles.get("fast")).dtype == torch.bfloat16


def test_health_tells_of_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ZEN)
    model = cliper_model.load("demo", device="cpu", dtype="int8")

    told = _describe(model, Settings(dtype="int8"))

    assert (told["dtype"], told["dtype_because"]) == ("int8", "DTYPE says so")
