"""What one prediction costs, in operations and calls: no clock, so a busy machine fails nothing.

The formulas follow from the architecture (cliper §13); 2 operations per multiply-add.
"""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import cliper_model
from cliper_model import presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.demo.scenes import make_scene
from cliper_model.methods.cliper import Cliper, CliperConfig, CliperState
from cliper_model.segmenter import Identity, Vocabulary
from cliper_model.stages import select
from cliper_model.stages.refine import LANES

from ...doubles.calls import counting_calls, of
from ...weights.flops import counting

WORDS = ("sky", "grass", "house", "tree", "car", "person")
PICTURE = make_scene(np.random.default_rng(0)).image


@cache
def demo() -> Any:
    return cliper_model.load("demo", device="cpu", dtype="float32")


@cache
def look() -> CliperState:
    state = demo().observe(PICTURE)
    assert isinstance(state, CliperState)
    return state


def tiny() -> Cliper:
    """All modules of its networks are there, also those that nobody needs."""
    return Cliper(
        tiny_clip(),
        tiny_diffusion(),
        CliperConfig(short_side=64),
        presets=lambda name: presets.get(name, "tiny"),
        identity=Identity(method="cliper", revision=1, profile="tiny"),
    )


def networks(method: Any) -> dict[str, torch.nn.Module]:
    return {
        "vision": method.clip.vision,
        "text": method.clip._model.transformer,
        "vae": method.diffusion.vae,
        "unet": method.diffusion.unet,
    }


def seeded_words(count: int) -> Vocabulary:
    """Rows drawn from a seed: the demo tower knows no thousand words."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(count, look().patches.shape[-1], generator=generator)
    return Vocabulary(
        labels=tuple(f"word {number}" for number in range(count)),
        preset="objects",
        rows=rows,
        row_class=tuple(range(count)),
        mean_row=rows.mean(dim=0),
    )


# -- formulas -------------------------------------------------------------------------


def linear(rows: int, before: int, after: int) -> int:
    return 2 * rows * before * after


def convolution(places: int, before: int, after: int, side: int = 3) -> int:
    return 2 * places * side * side * before * after


def residual(places: int, before: int, after: int) -> int:
    """Two convolutions, and a third where the width changes; the time step's share is known."""
    shortcut = convolution(places, before, after, side=1) if before != after else 0
    inside = convolution(places, before, after) + convolution(places, after, after)
    return inside + shortcut


def transformer(n: int, width: int, tokens: int) -> int:
    """In, self-attention, cross-attention with the prompt's `tokens`, whose keys and values are
    known, a gated MLP of four times the width, out."""
    own = 4 * linear(n, width, width) + 2 * linear(n, width, n)
    cross = 2 * linear(n, width, width) + 2 * linear(n, width, tokens)
    mlp = linear(n, width, 8 * width) + linear(n, 4 * width, width)
    return 2 * linear(n, width, width) + own + cross + mlp


def clip_flops(method: Any, patches: int) -> int:
    """Plain blocks, the balanced map of every layer, and all layers through the last block."""
    clip, blocks = method.clip, method.clip.layers
    width, embed = clip.vision.proj.shape
    heads, t = clip.vision.transformer.resblocks[0].attn.num_heads, patches + 1
    plain = 4 * linear(t, width, width) + 2 * linear(t, width, t) + 2 * linear(t, width, 4 * width)
    along = heads * linear(1, t, t)  # a sum along rows or columns; twice a round, and once before
    last = 2 * linear(t, width, width) + linear(t, t, width) + linear(t, width, embed)
    return (
        convolution(patches, 3, width, side=clip.patch)
        + (blocks - 1) * plain
        + blocks * (2 * along + last)
        + along
    )


def vae_flops(method: Any) -> int:
    """Encoder without attention, halved after every level but the last."""
    config, side = method.diffusion.vae.config, method.diffusion.side
    widths, latent = config.block_out_channels, 2 * config.latent_channels
    total, before = convolution(side**2, 3, widths[0]), widths[0]
    for level, width in enumerate(widths):
        total += residual(side**2, before, width)
        before = width
        if level + 1 < len(widths):
            side //= 2
            total += convolution(side**2, width, width)
    middle = 2 * residual(side**2, before, before)
    out = convolution(side**2, before, latent) + convolution(side**2, latent, latent, side=1)
    return total + middle + out


def unet_flops(method: Any, positions: int) -> int:
    """Three levels, the lower two with attention on the way down, to the taps of the last block."""
    a, b, c = method.diffusion.unet.config.block_out_channels
    prompt = method.diffusion.empty_prompt.shape[1]
    n, half, quarter = positions, positions // 4, positions // 16
    down = (
        (convolution(n, 4, a) + residual(n, a, a) + transformer(n, a, prompt))
        + (convolution(half, a, a) + residual(half, a, b) + transformer(half, b, prompt))
        + (convolution(quarter, b, b) + residual(quarter, b, c))
    )
    middle = 2 * residual(quarter, c, c) + transformer(quarter, c, prompt)
    up = (
        residual(quarter, c + c, c) + residual(quarter, c + b, c)
        + convolution(half, c, c)
        + residual(half, c + b, b) + residual(half, b + a, b)
        + 2 * transformer(half, b, prompt)
        + convolution(n, b, b)
    )  # fmt: skip
    taps = (
        residual(n, b + a, a)
        + transformer(n, a, prompt)
        + residual(n, a + a, a)
        + 3 * linear(n, a, a)  # in, queries and keys of the second
    )
    return down + middle + up + taps


def score_flops(state: CliperState, rows: int, labels: int) -> int:
    """Affine in the labels: a + b C, with `rows` text rows of which `labels` are labels'. The
    chain multiplies as many columns as a processor takes at once, one of them the sum of links."""
    layers, patches, embed = state.patches.shape
    heads, n, _ = state.queries.shape
    return (
        layers * linear(patches, embed, rows)
        + linear(labels, patches, patches)
        + maps_flops(state, more=2)
        + heads * linear(n, n, LANES * math.ceil((labels + 1) / LANES))
    )


def maps_flops(state: CliperState, *, more: int = 0) -> int:
    """Every map once: with every score, where its levels are two more channels."""
    heads, n, width = state.queries.shape
    return heads * linear(n, width + more, n)


# -- one look -------------------------------------------------------------------------


def test_a_look_runs_every_network_once_and_none_of_what_is_not_needed() -> None:
    method = tiny()
    with counting_calls(**networks(method)) as calls:
        state = method.observe(PICTURE)

    assert calls["vae.encoder.conv_in"] == calls["unet.conv_in"] == calls["vision.conv1"] == 1
    assert calls["unet.mid_block.resnets.0.conv1"] == 1
    last = "unet.up_blocks.1"
    second = f"{last}.attentions.1.transformer_blocks.0.attn1"
    assert of(calls, second) == {f"{second}.to_k": 1, f"{second}.to_q": 1}
    assert not of(calls, f"{last}.attentions.1.transformer_blocks.0.attn2", "unet.conv_out")
    assert not of(calls, "unet.conv_norm_out", "vae.decoder", "vae.post_quant_conv", "text")
    first = f"{last}.attentions.0.transformer_blocks.0.attn1"  # the second tap's input needs it
    assert of(calls, first) == {
        f"{first}.{name}": 1 for name in ("to_q", "to_k", "to_v", "to_out.0", "to_out.1")
    }
    repeated = {name for name, times in calls.items() if times > 1}
    last = f"vision.transformer.resblocks.{method.clip.layers - 1}"
    assert {name for name in repeated if not name.endswith(".nonlinearity")} == {
        f"{last}.ln_1",  # layer by layer
        "vision.ln_post",
    }
    assert state.queries.shape[1] == 256


@pytest.mark.parametrize("which", ["demo", "tiny"])
def test_every_block_of_the_vision_tower_runs_once_and_the_last_never_plainly(which: str) -> None:
    method = demo() if which == "demo" else tiny()
    with counting_calls(**networks(method)) as calls:
        method.observe(PICTURE)

    *plain, last = (f"vision.transformer.resblocks.{n}" for n in range(method.clip.layers))
    for block in plain:
        once = ("ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj", "attn.out_proj")
        assert [calls[f"{block}.{name}"] for name in once] == [1] * len(once)
    assert of(calls, last) == {f"{last}.ln_1": method.clip.layers}  # every layer's values pass it


def test_a_look_costs_what_the_architecture_says() -> None:
    with counting() as count:
        state = demo().observe(PICTURE)

    positions = state.queries.shape[1]
    parts = (
        clip_flops(demo(), state.patches.shape[1]),
        vae_flops(demo()),
        unet_flops(demo(), positions),
        maps_flops(state) // 2,  # the first tap's levels come with its attention, in float32
    )
    assert count.flops == sum(parts)
    assert count.cubes(positions) == {}


# -- one score ------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [1, 2, 30, 1000])
def test_scoring_costs_what_the_labels_say_and_no_product_of_maps(labels: int) -> None:
    state, words = look(), seeded_words(labels)
    with counting() as count:
        demo().score(state, words)

    assert count.flops == score_flops(state, rows=labels + 1, labels=labels)
    assert count.cubes(state.queries.shape[1]) == {}


def test_more_labels_cost_the_slope_of_the_specification() -> None:
    """§13 form 1: 0.34 G per label for ten heads over 64 x 64 positions. The chain takes as many
    as a processor multiplies at once together."""
    heads, n, _ = look().queries.shape
    counts = []
    for labels in (LANES - 1, 2 * LANES - 1, 3 * LANES - 1):
        with counting() as count:
            demo().score(look(), seeded_words(labels))
        counts.append(count)

    slopes = {after.flops - before.flops for before, after in pairwise(counts)}
    layers, patches, embed = look().patches.shape
    chain = heads * 2 * n * n
    assert slopes == {LANES * (layers * 2 * patches * embed + 2 * patches**2 + chain)}
    assert counts[0].flops_of(rows=n, inner=n) == 0  # never a whole map at once
    full_size = 10 * 2 * 4096**2
    assert full_size == pytest.approx(0.34e9, rel=0.02)


def test_other_words_for_the_same_picture_run_no_vision_network() -> None:
    method = tiny()
    state = method.observe(PICTURE)
    first = method.read(("house", "tree"))
    with counting_calls(**networks(method)) as calls:
        method.score(state, method.read(("car", "red person")))
    assert of(calls, "text")
    assert not of(calls, "vision", "vae", "unet")

    with counting_calls(**networks(method)) as calls:
        method.score(state, first)

    assert not calls  # words already read, picture already seen


def test_other_thresholds_and_clicks_run_no_network_and_no_product() -> None:
    scores = demo().score(look(), demo().read(WORDS))
    decision = demo().decision("objects")
    with counting() as count, counting_calls(**networks(demo())) as calls:
        for threshold in (0.1, 0.9):
            cliper_model.decide(scores, replace(decision, background_threshold=threshold))
        select.select(scores, 0, positive=((160.0, 120.0),), decision=decision)

    assert count.flops == 0
    assert not calls
