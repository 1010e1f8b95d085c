"""Masks may be cut from the maps before refinement: what refinement does can be looked at."""

from dataclasses import replace

import numpy as np
import pytest

import cliper_model
from cliper_model.segmenter import Decision, Scores, Segmenter
from cliper_model.stages.decide import decide
from cliper_model.tiled import Tiled, TilePlan


@pytest.fixture(scope="module")
def demo() -> Segmenter:
    return cliper_model.load("demo", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (96, 128, 3), np.uint8)


def scores(coarse: np.ndarray | None) -> Scores:
    return Scores(
        labels=("a", "b"),
        maps=np.array([[[0.9, 0.1]], [[0.1, 0.9]]], np.float32),
        strength=np.array([0.9, 0.9], np.float32),
        presence=np.array([0.9, 0.9], np.float32),
        size_hw=(2, 4),
        coarse=coarse,
    )


def test_masks_are_cut_from_the_coarse_maps_where_that_is_asked_for() -> None:
    turned = np.array([[[0.1, 0.9]], [[0.9, 0.1]]], np.float32)

    refined = decide(scores(turned), Decision())
    coarse = decide(scores(turned), Decision(refined=False))

    assert refined.label_map[0, 0] == 1
    assert coarse.label_map[0, 0] == 2
    np.testing.assert_array_equal(coarse.presence, refined.presence)


def test_where_nothing_was_refined_there_is_nothing_else_to_cut_from() -> None:
    as_it_is = decide(scores(None), Decision(refined=False))

    np.testing.assert_array_equal(as_it_is.label_map, decide(scores(None), Decision()).label_map)


def test_the_demo_model_keeps_what_it_had_before_refinement(
    demo: Segmenter, picture: np.ndarray
) -> None:
    state, words = demo.observe(picture), demo.read(["sky", "house"])

    found = demo.score(state, words)

    assert found.coarse is not None
    assert found.coarse.shape[0] == 2
    assert found.coarse.shape[1:] != found.maps.shape[1:]
    unrefined = replace(found, maps=found.coarse)
    decision = demo.decision(words.preset)
    np.testing.assert_array_equal(
        decide(found, replace(decision, refined=False)).label_map,
        decide(unrefined, decision).label_map,
    )


def test_of_a_picture_in_tiles_the_coarse_maps_are_stitched_too(
    demo: Segmenter, picture: np.ndarray
) -> None:
    plan = TilePlan(above_megapixels=0.01, smallest_tile=64, most_tiles=6, most_pixels=20_000)
    tiled = Tiled(demo, plan)
    words = tiled.read(["sky", "house"])

    found = tiled.score(tiled.observe(picture), words)

    assert found.coarse is not None
    whole = decide(found, replace(tiled.decision(words.preset), refined=False))
    assert whole.label_map.shape == (96, 128)


def test_a_number_that_came_later_leaves_identities_as_they_were() -> None:
    """Else every prediction that was ever stored would be asked for again."""
    known = cliper_model.identity("demo").settings["presets"]

    assert known == "bd9d70c0c2175a27"
