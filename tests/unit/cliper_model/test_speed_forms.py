"""Forms made for speed and bounded memory equal the plain ones of the specification."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cliper_model.segmenter import Decision, Scores
from cliper_model.stages import attention, decide, edges, products, refine

from ...weights.flops import counting


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[False, True], ids=["torch", "onednn"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever multiplies."""
    monkeypatch.setattr(products, "takes_all_of_the_width", lambda: request.param)


def plain_head(maps: Tensor, queries: Tensor, keys: Tensor, *, floor: float) -> Tensor:
    """Specification §8 steps 1 to 3 in float64."""
    queries, keys = queries.double(), keys.double()
    links = torch.softmax(queries @ keys.T / queries.shape[-1] ** 0.5, dim=-1)
    links = links / (links.amax(dim=0) + 1e-5)
    links = torch.where(links < floor, 0.0, links)
    return (links @ maps.double()) / (links.sum(dim=1, keepdim=True) + 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [1, 2, 10])
@pytest.mark.parametrize(("n", "classes"), [(35, 1), (49, 6), (63, 150)])
@pytest.mark.parametrize("block", [1, 8, 35, 1000])
def test_heads_in_blocks_equal_the_plain_product(
    n: int,
    classes: int,
    heads: int,
    dtype: torch.dtype,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queries, keys = random(heads, n, 6, seed=1).to(dtype), random(heads, n, 6, seed=2).to(dtype)
    maps = random(n, classes, seed=3).abs()
    wanted = maps
    for head in reversed(range(heads)):
        wanted = plain_head(wanted, queries[head], keys[head], floor=0.25)

    monkeypatch.setattr(attention, "CACHE_VALUES", block * n)
    found = refine.chain(maps, queries, keys, floor=0.25)

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted.float(), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("block", [5, 100])
def test_mean_and_single_head_equal_the_plain_product(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, keys, maps = random(3, 23, 4, seed=1), random(3, 23, 4, seed=2), random(23, 2).abs()
    each = [plain_head(maps, q, k, floor=0.1) for q, k in zip(queries, keys, strict=True)]

    monkeypatch.setattr(attention, "CACHE_VALUES", block * 23)
    mean = refine.mean_of_heads(maps, queries, keys, floor=0.1)
    one = refine.one_head(maps, queries, keys, floor=0.1, head=2)

    torch.testing.assert_close(mean, torch.stack(each).mean(dim=0).float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one, each[2].float(), atol=1e-5, rtol=1e-5)


def test_the_chain_leaves_its_inputs_alone_and_repeats_to_the_byte() -> None:
    queries, keys, maps = random(2, 40, 8, seed=1), random(2, 40, 8, seed=2), random(40, 3)
    before = [tensor.clone() for tensor in (queries, keys, maps)]

    first = refine.chain(maps, queries, keys, floor=0.2)
    second = refine.chain(maps, queries, keys, floor=0.2)

    assert torch.equal(first, second)
    assert all(map(torch.equal, (queries, keys, maps), before))


@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize("form", ["chain", "mean_of_heads", "one_head"])
def test_known_levels_give_the_same_to_the_byte_and_each_map_is_made_once(
    form: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, keys, maps = random(3, 40, 8, seed=1), random(3, 40, 8, seed=2), random(40, 2)
    monkeypatch.setattr(attention, "CACHE_VALUES", block * 40)
    extra = {"head": 1} if form == "one_head" else {}
    wanted = getattr(refine, form)(maps, queries, keys, floor=0.2, **extra)
    known = refine.levels(queries, keys)
    monkeypatch.setattr(refine, "levels", None)

    with counting() as count:
        found = getattr(refine, form)(maps, queries, keys, floor=0.2, known=known, **extra)

    each = torch.softmax(queries @ keys.mT / 8**0.5, dim=-1)
    torch.testing.assert_close(known.strongest, each.amax(dim=-2))
    torch.testing.assert_close(known.rows, torch.logsumexp(queries @ keys.mT / 8**0.5, dim=-1))
    assert torch.equal(found, wanted)
    heads = 1 if form == "one_head" else 3
    assert count.flops == heads * 2 * 40 * 40 * (8 + 2 + refine.LANES)


@pytest.mark.parametrize("strength", [1.0, 5.0, 15.0])
@pytest.mark.parametrize("floor", [0.0, 0.1, 0.35])
def test_cutting_logarithms_gives_what_cutting_links_gives(strength: float, floor: float) -> None:
    queries, keys = (strength * random(60, 8, seed=seed) for seed in (1, 2))
    maps = random(60, 3)
    links = refine.keep_strong_links(refine.attention_map(queries, keys), floor=floor)
    wanted = refine.apply_rows(links, maps)

    found = refine.chain(maps, queries[None], keys[None], floor=floor)

    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=2e-4)


def test_a_chain_of_many_positions_never_holds_a_square_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Products of queries and keys stay within a block, while looking and while scoring."""
    queries, keys = random(1, 500, 4), random(1, 500, 4, seed=1)
    monkeypatch.setattr(attention, "CACHE_VALUES", 64 * 500)

    with counting() as count:
        refine.chain(random(500, 2), queries, keys, floor=0.1)

    assert max(rows * columns for rows, _, columns in count.products) == 64 * 500
    assert count.products[64, 4, 500] == count.products[64, 6, 500] == 500 // 64


@pytest.mark.parametrize("strength", [1.0, 7.0, 40.0, 400.0])
@pytest.mark.parametrize("told", [False, True])
def test_softmax_without_subnormal_numbers_equals_the_ordinary_one(
    strength: float, told: bool
) -> None:
    bits = attention.BITS * strength * random(5, 7, 300)
    wanted = torch.softmax(bits.double() / attention.BITS, dim=-1).float()
    reach = float(bits.abs().max()) if told else math.inf

    found = attention.softmax_(bits, reach=reach)

    torch.testing.assert_close(found, wanted, atol=1e-30, rtol=1e-5)
    assert float(found.min()) > torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("strength", [0.0, 1.0, 30.0])
def test_no_logit_is_beyond_its_reach(strength: float) -> None:
    queries, keys = strength * random(3, 40, 8, seed=1), random(3, 50, 8, seed=2)

    assert float((queries @ keys.mT).abs().max()) <= attention.reach(queries, keys)


def test_numbers_that_are_none_are_within_no_reach() -> None:
    queries = random(4, 8)
    queries[2] = math.nan

    assert not attention.reach(queries, queries) <= attention.REACH
    assert attention.reach(queries.to("meta"), queries.to("meta")) == math.inf


@pytest.mark.parametrize("strength", [0.5, 3.0, 30.0])
def test_levels_are_those_of_the_plain_maps_however_far_logits_reach(strength: float) -> None:
    queries, keys = (strength * random(2, 60, 8, seed=seed) for seed in (1, 2))
    logits = (queries @ keys.mT).double() / 8**0.5

    found = refine.levels(queries, keys)

    torch.testing.assert_close(
        found.rows, torch.logsumexp(logits, dim=-1).float(), rtol=1e-5, atol=1e-5
    )
    strongest = torch.softmax(logits, dim=-1).amax(dim=-2).float()
    torch.testing.assert_close(found.strongest, strongest, rtol=1e-3, atol=1e-25)


def test_links_at_the_floor_are_kept_and_those_below_are_not() -> None:
    """Two positions; the second row's weaker link is half of its column's strongest."""
    keys = torch.eye(2)
    queries = math.sqrt(2) * torch.tensor([[math.log(4), 0.0], [0.0, 0.0]])
    shares = torch.softmax(queries @ keys.T / math.sqrt(2), dim=-1)
    relative = float(shares[1, 0] / (shares[:, 0].max() + refine.EPSILON))
    maps = torch.tensor([[1.0], [0.0]])

    kept, cut = (
        refine.chain(maps, queries[None], keys[None], floor=relative * factor)
        for factor in (1 - 1e-5, 1 + 1e-5)
    )

    links = relative / (relative + 1)
    assert float(kept[1, 0]) == pytest.approx(links, abs=1e-4)
    assert float(cut[1, 0]) == 0


@pytest.mark.parametrize("classes", [1, 15, 16, 33])
def test_the_chain_gives_every_class_its_map_whatever_their_number(classes: int) -> None:
    queries, keys = random(40, 8, seed=1), random(40, 8, seed=2)
    maps = random(40, classes)

    found = refine.chain(maps, queries[None], keys[None], floor=0.1)

    assert found.shape == maps.shape
    wanted = plain_head(maps, queries, keys, floor=0.1).float()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_attention_output_in_blocks_equals_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys, values = (random(2, 3, 37, 8, seed=seed) for seed in range(3))

    monkeypatch.setattr(attention, "CACHE_VALUES", 5 * 37)
    found, levels = refine.mix(queries, keys, values)

    wanted = torch.softmax(queries @ keys.mT / 8**0.5, dim=-1) @ values
    torch.testing.assert_close(found, wanted)
    for picture, of in enumerate(levels):
        alone = refine.levels(queries[picture], keys[picture])
        torch.testing.assert_close(of.rows, alone.rows)
        torch.testing.assert_close(of.strongest, alone.strongest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_without_levels_is_the_fused_one(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, keys, values = (random(2, 3, 37, 8, seed=seed).to(dtype) for seed in range(3))

    monkeypatch.setattr(attention, "CACHE_VALUES", 5 * 37)
    found = refine.attend_in_blocks(queries, keys, values)

    wanted = functional.scaled_dot_product_attention(queries, keys, values)
    assert found.dtype == dtype
    rounding = 0.005 if dtype == torch.bfloat16 else 1e-5  # of weights, and of sums
    torch.testing.assert_close(found, wanted, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("epsilon", [0.0, 1e-12])
@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 17, 17), (2, 4, 9, 9)])
@pytest.mark.parametrize("at_once", [1, 1000])
def test_factors_per_row_and_column_equal_rounds_on_the_whole_map(
    shape: tuple[int, ...], epsilon: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulated = torch.softmax(3 * random(*shape), dim=-1) * 5
    before, stepped, wanted = accumulated.clone(), accumulated, []
    for _ in range(6):
        stepped = attention.column_row_normalise(stepped, epsilon=epsilon)
        wanted.append(attention.sharpen(stepped, epsilon=epsilon))

    monkeypatch.setattr(attention, "CACHE_VALUES", at_once)
    found = attention.fuse(accumulated, rounds=6, epsilon=epsilon)

    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), atol=2e-6, rtol=1e-5)
    assert torch.equal(accumulated, before)


def test_a_key_nobody_attends_to_stays_empty_and_is_nan_as_published() -> None:
    accumulated = torch.softmax(random(1, 6, 6), dim=-1)
    accumulated[..., 2] = 0.0
    stepped = accumulated
    for _ in range(24):
        stepped = attention.column_row_normalise(stepped, epsilon=1e-12)

    found = attention.fuse(accumulated, rounds=24, epsilon=1e-12)[-1]

    torch.testing.assert_close(found, attention.sharpen(stepped, epsilon=1e-12))
    assert attention.fuse(accumulated, rounds=1)[0].isnan().any()


def plain_pamr(maps: Tensor, guide: Tensor, dilations: tuple[int, ...], iterations: int) -> Tensor:
    """Cell by cell; borders repeat."""
    h, w = guide.shape[1:]
    places = [(d * y, d * x) for d in dilations for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]

    def near(values: Tensor, y: int, x: int) -> Tensor:
        cells = [(min(max(y + b, 0), h - 1), min(max(x + a, 0), w - 1)) for b, a in places]
        return torch.stack([values[:, b, a] for b, a in cells])

    weights, trust = torch.zeros(h, w, len(places)), torch.zeros(h, w)
    for y in range(h):
        for x in range(w):
            around = near(guide, y, x)
            deviation = torch.cat([around, guide[None, :, y, x]]).std(dim=0)
            unlike = (around - guide[:, y, x]).abs() / (0.1 * deviation + 1e-8)
            weights[y, x] = torch.softmax(-unlike.mean(dim=1), dim=0)
            variance = deviation.square().sum()
            trust[y, x] = variance / (variance + 1e-3)
    refined = maps
    for _ in range(iterations):
        following = torch.empty_like(maps)
        for y in range(h):
            for x in range(w):
                following[:, y, x] = weights[y, x] @ near(refined, y, x)
        refined = following
    mixed = maps + trust * (refined - maps)
    return mixed.clamp(maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True))


@pytest.mark.parametrize(("h", "w", "classes"), [(7, 5, 1), (6, 9, 3), (1, 4, 2)])
def test_pamr_equals_the_rule_applied_cell_by_cell(h: int, w: int, classes: int) -> None:
    guide, maps = random(3, h, w).sigmoid(), random(classes, h, w, seed=1)

    found = edges.pamr(maps, guide, dilations=(1, 2), iterations=3)

    torch.testing.assert_close(found, plain_pamr(maps, guide, (1, 2), 3), atol=2e-6, rtol=1e-5)


def scores_of(classes: int, presence: Any, *, size_hw: tuple[int, int]) -> Scores:
    numbers = np.random.default_rng(classes)
    return Scores(
        labels=tuple(f"label {number}" for number in range(classes)),
        maps=numbers.random((classes, 6, 5), np.float32),
        strength=numbers.uniform(0.4, 1.2, classes).astype(np.float32),
        presence=np.asarray(presence, np.float32),
        size_hw=size_hw,
    )


@pytest.mark.parametrize("background", ["threshold", "quadratic", "none"])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_leaving_absent_labels_out_changes_nothing(
    background: str, overlap: bool, normalise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = np.random.default_rng(3).random(9)
    scores = scores_of(9, presence, size_hw=(23, 31))
    decision = Decision(
        background=background,
        background_threshold=0.6,
        mask_threshold=tuple(np.linspace(0.1, 0.8, 9)),
        overlap=overlap,
        normalise=normalise,
    )
    whole = decide._decide_pixels(scores, decision, presence > 0.5)

    monkeypatch.setattr(decide, "BLOCK_VALUES", 200)
    found = decide.decide(scores, decision)

    assert 0 < (presence > 0.5).sum() < 9
    assert found.labels == scores.labels
    np.testing.assert_array_equal(found.label_map, whole.label_map)
    np.testing.assert_allclose(found.confidence, whole.confidence, rtol=1e-6)
    np.testing.assert_array_equal(found.presence, scores.presence)
    assert (found.layers is None) == (not overlap)
    if found.layers is not None and whole.layers is not None:
        np.testing.assert_array_equal(found.layers, whole.layers)


@pytest.mark.parametrize("background", ["threshold", "quadratic", "none"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_leaving_losers_of_a_tile_out_changes_no_bit(
    seed: int, background: str, normalise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = np.random.default_rng(seed)
    classes, size_hw = (1, 3, 7, 40, 90, 5)[seed], ((150, 110), (3, 97), (61, 200))[seed % 3]
    scores = scores_of(classes, np.ones(classes), size_hw=size_hw)
    if seed % 2:  # plateaus, equal labels and labels that are nowhere
        maps = (scores.maps * 3).round() / 3
        scores = replace(scores, maps=np.where(numbers.random((classes, 1, 1)) < 0.2, 0, maps))
    decision = Decision(
        background=background,
        background_threshold=0.4,
        mask_threshold=tuple(numbers.choice([0.0, 0.7, 1.0], classes).tolist()),
        normalise=normalise,
    )
    found = decide.decide(scores, decision)

    monkeypatch.setattr(decide, "_leaves_losers_out", lambda scores, decision: False)
    whole = decide.decide(scores, decision)

    assert found.label_map.max() > 0
    assert found.label_map.dtype == whole.label_map.dtype
    np.testing.assert_array_equal(found.label_map, whole.label_map)
    np.testing.assert_array_equal(found.confidence, whole.confidence)
