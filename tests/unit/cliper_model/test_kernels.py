"""Kernels for cards against the torch forms that say what they compute.

Without a card Triton interprets them, which `tests/conftest.py` asks for.
"""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cliper_model import presets
from cliper_model.backbones import by_kernels as on_cards
from cliper_model.backbones import clip, diffusion
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.errors import BadImage
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Identity
from cliper_model.stages import attention, cards, kernel_check, kernels, refine

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMATS = [torch.float32, torch.float16]
LEAST_SHARED = 99 * 1024  # bytes; what a multiprocessor has of any card since capability 8.0
HALF = {torch.float32: 1e-5, torch.float16: 2e-3}  # of the largest value


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def near(found: Tensor, wanted: Tensor, share: float) -> None:
    assert found.shape == wanted.shape
    assert float((found.float() - wanted).abs().max()) <= share * float(wanted.abs().max())


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(("count", "width"), [(100, 40), (64, 16), (1, 64)])
def test_levels_of_many_maps(count: int, width: int, dtype: torch.dtype) -> None:
    queries, keys = (1.5 * drawn(3, count, width, seed=seed, dtype=dtype) for seed in (1, 2))
    maps = torch.softmax(queries.float() @ keys.float().mT / width**0.5, dim=-1)

    rows, strongest = kernels.levels(queries, keys)

    logits = queries.float() @ keys.float().mT / width**0.5
    torch.testing.assert_close(rows, logits.logsumexp(dim=-1))
    torch.testing.assert_close(strongest, maps.amax(dim=-2))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("floor", [0.1, 0.0])
@pytest.mark.parametrize(("classes", "programs"), [(1, 512), (21, 3), (70, 8)])
def test_links_are_cut_and_spread_values_head_by_head(
    classes: int, programs: int, floor: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "PROGRAMS", programs)
    queries, keys = (1.5 * drawn(3, 200, 40, seed=seed, dtype=dtype) for seed in (1, 2))
    values = wanted = drawn(200, classes, seed=3).abs()
    for head in (2, 1, 0):
        whole = refine.attention_map(queries[head], keys[head])
        wanted = refine.apply_rows(refine.keep_strong_links(whole, floor=floor), wanted)
    rows, strongest = kernels.levels(queries, keys)
    limits: Any = {"weakest": math.log2(floor) if floor else -101.0, "epsilon": refine.EPSILON}

    found = kernels.chain(values, queries, keys, rows=rows, strongest=strongest, **limits)

    near(found, wanted, 1e-5)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("pictures", [1, 2])
def test_attention_also_adds_its_weights(pictures: int, dtype: torch.dtype) -> None:
    heads, count, d = 3, 70, 24
    projected = drawn(pictures, count, 3 * heads * d, seed=1, dtype=dtype).chunk(3, dim=-1)
    parts = [one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in projected]
    queries, keys, values = (one.float() for one in parts)
    weights = torch.softmax(queries @ keys.mT / d**0.5, dim=-1)
    before = drawn(pictures, heads, count, count, seed=2)
    total = kernels.room_for_maps(pictures, heads, count, before.device)
    assert not total.any()
    total += before

    mixed = kernels.attend(*parts, total)

    torch.testing.assert_close(total, before + weights)
    near(mixed, (weights @ values).transpose(1, 2).flatten(2), HALF[dtype])


@pytest.mark.parametrize("dtype", FORMATS)
def test_every_layer_is_mixed_by_its_own_map(dtype: torch.dtype) -> None:
    layers, pictures, heads, count, d = 4, 2, 3, 70, 24
    weights = torch.softmax(2 * drawn(layers, pictures, heads, count, count, seed=1), dim=-1)
    maps = kernels.room_for_maps(pictures, heads, count, weights.device)
    maps += weights.sum(dim=0)
    values = drawn(layers, pictures, count, heads * d, seed=2, dtype=dtype)
    fused = attention.fuse(maps, rounds=layers, epsilon=1e-12)
    factors = attention.factors(maps, rounds=layers, epsilon=1e-12)

    found = kernels.mix_fused(maps, factors, values, epsilon=1e-12)

    for layer, wanted in enumerate(fused):
        heads_of = values[layer].float().unflatten(-1, (heads, -1)).transpose(1, 2)
        near(found[layer], (wanted @ heads_of).transpose(1, 2).flatten(2), HALF[dtype])
        own = (one[layer] for one in factors)
        torch.testing.assert_close(attention.fused_by(maps, *own, epsilon=1e-12), wanted)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("onto", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_a_convolution_adds_its_bias_and_more(last: bool, onto: bool, dtype: torch.dtype) -> None:
    layer = torch.nn.Conv2d(20, 70, 3, padding=1, stride=2).requires_grad_(False)
    layer = layer.to(DEVICE, dtype)
    given = drawn(2, 20, 9, 8, seed=1, dtype=dtype)
    before, more = drawn(2, 70, 5, 4, seed=2, dtype=dtype), drawn(70, seed=3, dtype=dtype)
    if last:
        layer, given, before = (
            one.to(memory_format=torch.channels_last) for one in (layer, given, before)
        )
    plain = layer.float()(given.float())
    layer.to(dtype)

    near(kernels.convolved(layer, given), plain, HALF[dtype])
    bare = kernels.convolved(layer, given, with_bias=False)
    near(bare, plain - layer.bias.float()[:, None, None], HALF[dtype])
    if onto:
        added = kernels.convolved(layer, given, onto=before, more=more)
        near(added, plain + before.float() + more.float()[:, None, None], 2 * HALF[dtype])
        added = kernels.convolved(layer, given, onto=before, with_bias=False)
        near(added, bare.float() + before.float(), HALF[dtype])


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("channels", "groups", "hw"), [(96, 8, (40, 41)), (160, 32, (7, 5))])
def test_groups_are_normalised_as_torch_does(
    channels: int, groups: int, hw: tuple[int, int], shifted: bool, activated: bool, dtype: Any
) -> None:
    given = (3 * drawn(2, channels, *hw, seed=1) + 50).to(dtype)
    given = given.to(memory_format=torch.channels_last)
    norm = torch.nn.GroupNorm(groups, channels).requires_grad_(False).to(DEVICE, dtype)
    norm.weight.data, norm.bias.data = (drawn(channels, seed=n, dtype=dtype) for n in (2, 3))
    shift = drawn(channels, seed=4, dtype=dtype) if shifted else None
    exact = given.double() if shift is None else given.double() + shift.double()[:, None, None]
    weight, bias = norm.weight.double(), norm.bias.double()
    wanted = functional.group_norm(exact, groups, weight, bias, norm.eps)
    wanted = functional.silu(wanted) if activated else wanted

    found = kernels.group_norm(given, norm, activated=activated, shift=shift)

    assert found.is_contiguous(memory_format=torch.channels_last)
    near(found.double(), wanted, 1e-3 if dtype == torch.float16 else 1e-4)


@pytest.mark.parametrize("dtype", FORMATS)
def test_gated_functions(dtype: torch.dtype) -> None:
    given = 3 * drawn(2, 37, 2 * 45, seed=1, dtype=dtype)
    plain, gate = given.float().chunk(2, dim=-1)

    near(kernels.geglu(given), plain * functional.gelu(gate), HALF[dtype])
    wanted = given.float() * torch.sigmoid(1.702 * given.float())
    near(kernels.quick_gelu_(given), wanted, HALF[dtype])


def test_kernels_run_on_the_card_of_their_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton takes the current card, whatever it is given."""
    entered: list[Tensor] = []

    @contextmanager
    def device_of(tensor: Tensor) -> Iterator[None]:
        entered.append(tensor)
        yield

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    hidden = drawn(3, 5, seed=1)

    kernels.quick_gelu_(hidden)

    assert [one is hidden for one in entered] == [True]


def computed_by(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (clip, diffusion, on_cards, refine):
        monkeypatch.setattr(module, "kernels", lambda device, width=0: found)


@pytest.fixture
def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a card, wherever this is."""
    computed_by(kernels, monkeypatch)


def tiny() -> Cliper:
    eyes, diffusion = tiny_clip(), tiny_diffusion()
    for network in (eyes._model, diffusion._vae, diffusion._unet):
        network.to(DEVICE, memory_format=torch.channels_last)
    return Cliper(
        eyes,
        diffusion.settle(),
        CliperConfig(short_side=64),
        presets=lambda name: presets.get(name, "tiny"),
        identity=Identity(method="cliper", revision=1, profile="tiny"),
    )


def pictures() -> list[Any]:
    drawing = np.random.default_rng(0)
    return [drawing.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(2)]


def test_a_prediction_by_kernels_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    computed_by(None, monkeypatch)
    model = tiny()
    words = model.read(["a", "b", "c"])
    plain = [model.score(state, words) for state in model.observe_many(pictures())]
    launched: list[str] = []
    run = kernels._run
    monkeypatch.setattr(
        kernels,
        "_run",
        lambda one, *given, **told: (launched.append(one), run(one, *given, **told)),
    )
    assert not launched

    computed_by(kernels, monkeypatch)
    model = tiny()
    together = [model.score(state, words) for state in model.observe_many(pictures())]
    alone = [model.score(model.observe(picture), words) for picture in pictures()]
    at_once = model.score_many(model.observe_many(pictures()), words)

    card = str(model.clip.device) if model.clip.device.type == "cuda" else None
    for wanted, *found in zip(plain, together, alone, at_once, strict=True):
        for one in found:
            assert one.device == card
            np.testing.assert_allclose(one.coarse, wanted.coarse, atol=1e-5)
            np.testing.assert_allclose(one.maps, wanted.maps, atol=1e-4)
    assert set(launched) == {one for name, one in vars(kernels).items() if name.endswith("_kernel")}


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 4)])
def test_several_pictures_of_which_one_is_none_are_refused_like_one(shape: Any) -> None:
    wrong = np.zeros(shape, np.uint8)
    with pytest.raises(BadImage):
        tiny().observe(wrong)
    with pytest.raises(BadImage):
        tiny().observe_many([wrong, wrong])


def test_heads_that_are_too_wide_go_without_kernels(a_card: torch.device) -> None:
    assert cards.kernels(a_card, width=64) is kernels
    assert cards.kernels(a_card, width=80) is None


@pytest.mark.usefixtures("by_kernels")
def test_before_the_first_picture_kernels_have_met_every_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    met: list[int] = []
    chain = kernels.chain

    def watched(maps: Tensor, *given: Tensor, **told: Any) -> Tensor:
        met.append(min(kernels.MOST_CLASSES, kernels._wide(maps.shape[1])))
        return chain(maps, *given, **told)

    monkeypatch.setattr(kernels, "chain", watched)

    tiny().warm_up()

    assert list(dict.fromkeys(met)) == [16, 32, 64]
    assert {min(kernels.MOST_CLASSES, kernels._wide(labels)) for labels in range(1, 1001)} == set(
        met
    )


def test_pictures_are_resized_by_several_threads_in_their_order() -> None:
    model, images = tiny(), pictures()
    alone, together = (model._clip_inputs(images, threads=threads) for threads in (1, 3))

    for (one, grid_hw), (other, other_hw) in zip(alone, together, strict=True):
        assert torch.equal(one, other)
        assert grid_hw == other_hw


def test_a_processor_has_no_kernels_and_says_nothing() -> None:
    assert cards.found(torch.device("cpu")) == cards.Found()


def test_an_old_card_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    cards.found.cache_clear()

    told = cards.found(torch.device("cuda:0"))

    cards.found.cache_clear()
    assert told.kernels is None
    assert told.missing is not None
    assert "7.5" in told.missing
    assert told.missing in caplog.text


@pytest.fixture
def a_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """What `cards` takes for one, though everything is computed where we are."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    differing = kernel_check.differing
    monkeypatch.setattr(kernel_check, "differing", lambda device: differing(torch.device(DEVICE)))
    cards.found.cache_clear()
    yield torch.device("cuda:0")
    cards.found.cache_clear()


def test_kernels_that_compute_what_torch_does_are_used(a_card: torch.device) -> None:
    assert cards.found(a_card) == cards.Found(kernels)
    assert cards.kernels(a_card) is kernels


def test_a_card_whose_kernels_cannot_be_compiled_is_told_of(
    a_card: torch.device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: Tensor) -> None:
        raise RuntimeError("Failed to find C compiler.\nTry something")

    monkeypatch.setattr(kernels, "levels", no_compiler)

    told = cards.found(a_card)

    assert told.kernels is None
    assert told.missing is not None
    assert "Failed to find C compiler" in told.missing
    assert "attention goes through memory, which is slower" in caplog.text


@pytest.mark.parametrize("wrong", [0.5, math.nan])
def test_a_card_whose_kernels_compute_something_else_is_told_of(
    wrong: float, a_card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    geglu = kernels.geglu
    monkeypatch.setattr(kernels, "geglu", lambda given: geglu(given) * wrong)

    told = cards.found(a_card)

    assert told.kernels is None
    assert told.missing is not None
    assert told.missing.endswith("(other results than torch: GEGLU)")


@pytest.mark.parametrize("capability", ["80", "90"])
def test_every_kernel_compiles_for_a_card_that_is_not_here(capability: str) -> None:
    root = Path(__file__).parents[3]
    environment = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "tests.doubles.compile_kernels", capability],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    compiled = {line.split()[0] for line in done.stdout.splitlines()}
    assert compiled == {name for name in vars(kernels) if name.endswith("_kernel")}
    shared = [int(line.split()[2]) for line in done.stdout.splitlines()]
    assert max(shared) <= LEAST_SHARED
