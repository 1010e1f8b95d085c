"""Edges of maps move onto edges of the picture, and nothing else moves."""

from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cliper_model import presets, profiles, registry
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.errors import IncompatibleState
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Identity, RowLogits, Scores
from cliper_model.stages import edges
from cliper_model.stages.resize import resize_maps

FILTERS = ("guided", "pamr")
WORDS = ["house", "tree", "red car"]


def two_colours(height: int, width: int, *, border: int) -> UInt8[Tensor, "3 height width"]:
    """Dark blue up to column `border`, light yellow from there on."""
    guide = torch.tensor([20, 30, 90], dtype=torch.uint8).view(3, 1, 1).repeat(1, height, width)
    guide[:, :, border:] = torch.tensor([230, 220, 150], dtype=torch.uint8).view(3, 1, 1)
    return guide


def noise(*shape: int, seed: int = 0) -> Float[Tensor, "..."]:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def colourful(height: int, width: int) -> UInt8[Tensor, "3 height width"]:
    return (noise(3, height, width, seed=1) * 255).to(torch.uint8)


@pytest.mark.parametrize("rule", FILTERS)
def test_a_constant_map_stays_constant(rule: str) -> None:
    maps = torch.tensor([0.25, 0.75, -3.0]).view(3, 1, 1).repeat(1, 6, 8)

    found = edges.at_edges(maps, colourful(24, 32), rule=rule)

    assert found.shape == (3, 24, 32)
    torch.testing.assert_close(found, maps[:, :1, :1].expand_as(found), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", FILTERS)
def test_a_blurred_step_moves_onto_the_step_of_the_picture(rule: str) -> None:
    """Map cells are 4 columns wide; the picture's border lies inside one, at column 18."""
    ramp = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.6, 0.0, 0.0, 0.0])
    maps = ramp.repeat(8, 1)[None]
    guide = two_colours(32, 32, border=18)

    plain = resize_maps(maps, size_hw=(32, 32))[0, 16]
    found = edges.at_edges(maps, guide, rule=rule)[0, 16]

    assert found[17] - found[18] > 2 * (plain[17] - plain[18])
    assert (found[:-1] - found[1:]).argmax() == 17
    assert found[10] > 0.95
    assert found[26] < 0.05


@pytest.mark.parametrize("rule", FILTERS)
def test_values_stay_within_the_range_of_the_map(rule: str) -> None:
    maps = noise(5, 7, 9) * torch.tensor([1.0, 10.0, 0.1, 100.0, 1e-4]).view(5, 1, 1) - 0.5

    found = edges.at_edges(maps, colourful(28, 36), rule=rule)

    lowest, highest = maps.amin(dim=(1, 2)), maps.amax(dim=(1, 2))
    assert (found.amin(dim=(1, 2)) >= lowest - 1e-6 * lowest.abs()).all()
    assert (found.amax(dim=(1, 2)) <= highest + 1e-6 * highest.abs()).all()
    assert (found.amax(dim=(1, 2)) > found.amin(dim=(1, 2))).all()


@pytest.mark.parametrize("rule", FILTERS)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_one_colour_leaves_plain_bilinear_maps(rule: str, level: int) -> None:
    maps = noise(3, 6, 5)
    blank = torch.full((3, 24, 20), level, dtype=torch.uint8)

    found = edges.at_edges(maps, blank, rule=rule)

    torch.testing.assert_close(found, resize_maps(maps, size_hw=(24, 20)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rule", FILTERS)
@pytest.mark.parametrize("guide_hw", [(1, 1), (1, 30), (30, 1), (17, 23), (2, 3)])
@pytest.mark.parametrize("classes", [1, 4])
def test_any_size_and_one_class_work(rule: str, guide_hw: tuple[int, int], classes: int) -> None:
    maps, guide = noise(classes, 5, 7), colourful(*guide_hw)

    found = edges.at_edges(maps, guide, rule=rule)

    assert found.shape == (classes, min(guide_hw[0], 20), min(guide_hw[1], 28))
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("rule", FILTERS)
def test_inputs_are_left_as_they_were(rule: str) -> None:
    maps, guide = noise(2, 6, 6), colourful(24, 24)
    maps_before, guide_before = maps.clone(), guide.clone()

    edges.at_edges(maps, guide, rule=rule)

    assert torch.equal(maps, maps_before)
    assert torch.equal(guide, guide_before)


@pytest.mark.parametrize("rule", FILTERS)
def test_many_classes_in_blocks_equal_one_at_a_time(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps, guide = noise(7, 6, 6), colourful(24, 24)
    together = edges.at_edges(maps, guide, rule=rule)

    monkeypatch.setattr(edges, "BLOCK_VALUES", 4 * 24 * 24)
    alone = edges.at_edges(maps, guide, rule=rule)

    torch.testing.assert_close(alone, together)


def test_a_window_mean_is_the_mean_of_what_lies_inside_the_map() -> None:
    maps = torch.tensor([[1.0, 2.0, 6.0], [3.0, 4.0, 8.0]])

    found = edges.box_mean(maps, (1, 1))

    torch.testing.assert_close(found, torch.tensor([[2.5, 4.0, 5.0], [2.5, 4.0, 5.0]]))


def test_the_guided_filter_repeats_a_map_that_is_a_colour_of_the_picture() -> None:
    """A map that is linear in the colours has an exact answer: itself."""
    guide = noise(3, 12, 10)
    maps = (0.5 * guide[0] + 0.25 * guide[2])[None]

    found = edges.guided(maps, guide, radius_hw=(2, 2), epsilon=1e-7)

    torch.testing.assert_close(found, maps, atol=1e-3, rtol=0)


def test_pamr_takes_over_what_places_of_the_same_colour_say() -> None:
    """A single wrong cell in a field of one colour beside another colour is outvoted."""
    guide = two_colours(9, 12, border=6).float() / 255
    maps = torch.zeros(1, 9, 12)
    maps[:, :, 6:] = 1.0
    maps[0, 4, 5] = 1.0

    found = edges.pamr(maps, guide, dilations=(1, 2), iterations=3)

    assert found[0, 4, 5] < 0.2
    assert found[0, 4, 6] > 0.9


def test_a_guide_is_bounded_and_never_larger_than_the_picture(picture: Any) -> None:
    assert edges.guide_of(picture(400, 200), rule="pamr").shape == (3, 96, 48)
    assert edges.guide_of(picture(31, 17), rule="pamr").shape == (3, 31, 17)
    assert edges.guide_of(picture(1, 3000), rule="guided").shape == (3, 1, 96)
    assert edges.guide_of(picture(400, 200), rule="none").numel() == 0


def test_unknown_rules_and_rules_of_published_forms_are_refused(picture: Any) -> None:
    with pytest.raises(ValueError, match="edge_aware must be one of none, guided, pamr"):
        edges.guide_of(picture(8, 8), rule="sharp")
    with pytest.raises(ValueError, match="edge_aware must be one of none, guided, pamr"):
        CliperConfig(edge_aware="sharp")
    for name in registry.METHODS:
        if name == "maskclip+":
            continue
        config = registry.module_of(name).config_of(profiles.get("fast", method=name))
        with pytest.raises(ValueError, match="'none' where published is set, got 'pamr'"):
            type(config)(edge_aware="pamr", published=True)
    with pytest.raises(ValueError, match="rule must be 'guided' or 'pamr'"):
        edges.at_edges(noise(1, 4, 4), colourful(8, 8), rule="none")


def scores(**changes: Any) -> Scores:
    numbers = np.random.default_rng(0)
    return Scores(
        labels=("a", "b"),
        maps=numbers.random((2, 6, 6), np.float32),
        strength=np.array([0.5, 0.25], np.float32),
        presence=np.array([0.75, 0.5], np.float32),
        size_hw=(48, 48),
        **changes,
    )


def test_without_a_rule_scores_are_the_very_same() -> None:
    given = scores()

    assert edges.sharpen(given, colourful(24, 24), rule="none") is given


def test_presence_and_strength_do_not_move() -> None:
    given = scores()

    found = edges.sharpen(given, colourful(24, 24), rule="pamr")

    assert found.maps.shape == (2, 24, 24)
    assert found.maps.dtype == np.float32
    np.testing.assert_array_equal(found.strength, given.strength)
    np.testing.assert_array_equal(found.presence, given.presence)


def test_row_logits_and_clusters_are_sharpened_in_place_of_maps() -> None:
    values = np.random.default_rng(1).random((3, 6, 6), np.float32)
    given = scores(
        rows=RowLogits(values=values, row_class=(0, 1, -1), scale=20.0),
        clusters=np.random.default_rng(2).random((4, 12, 12), np.float32),
    )

    found = edges.sharpen(given, colourful(24, 24), rule="guided")

    assert found.rows is not None
    assert found.rows.values.shape == (3, 24, 24)
    assert found.rows.row_class == (0, 1, -1)
    assert found.clusters is not None
    assert found.clusters.shape == (4, 24, 24)
    np.testing.assert_array_equal(found.maps, given.maps)


def cliper(rule: str) -> Cliper:
    return Cliper(
        tiny_clip(),
        tiny_diffusion(),
        CliperConfig(short_side=64, edge_aware=rule),
        presets=lambda name: presets.get(name, "tiny"),
        identity=Identity(method="cliper", revision=1, profile="tiny"),
    )


def test_a_picture_observed_without_a_guide_is_refused(picture: Any) -> None:
    state = cliper("none").observe(picture(60, 90))
    method = cliper("pamr")

    with pytest.raises(IncompatibleState, match="observe the image again"):
        method.score(state, method.read(WORDS))


def test_the_stage_changes_maps_but_not_presence(picture: Any) -> None:
    image = picture(60, 90)
    plain, sharp = cliper("none"), cliper("pamr")

    before = plain.score(plain.observe(image), plain.read(WORDS))
    after = sharp.score(sharp.observe(image), sharp.read(WORDS))

    assert after.maps.shape == (
        3,
        60,
        64,
    )  # four times the diffusion grid, no more than the picture
    np.testing.assert_array_equal(after.presence, before.presence)
    np.testing.assert_array_equal(after.strength, before.strength)


def test_defaults_come_from_data_and_real_weights_have_none() -> None:
    for method in registry.METHODS:
        module = registry.module_of(method)
        for name in profiles.names():
            profile = profiles.get(name, method=method)
            published = module.config_of(profile, published=True)
            assert getattr(published, "edge_aware", "none") == "none"
            chosen = getattr(module.config_of(profile), "edge_aware", "none")
            assert chosen in edges.RULES
            assert profile.on_demo_weights or chosen == "none"


def test_every_rule_in_the_data_exists() -> None:
    for name in profiles.methods():
        assert set(profiles.method_card(name).edge_aware.values()) <= set(edges.RULES)
