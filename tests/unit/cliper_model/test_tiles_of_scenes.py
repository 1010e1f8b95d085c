"""The demo's weights on drawn scenes: tiles say what one look says, and nobody sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float
from numpy.typing import NDArray

import cliper_model
from cliper_model.demo.scenes import LABELS, make_scene
from cliper_model.stages import tiles
from cliper_model.stages.tiles import weights as blended_weights
from cliper_model.tiled import Tiled, TiledState, TilePlan

SIZE_HW = (1100, 1500)
PLAN = TilePlan(above_megapixels=0.5, smallest_tile=640)
SEED, SCENES = 2, range(20, 26)  # validation scenes
MOST_DIFFERENT = 0.08  # of the labelled pixels of one scene; 0.009 to 0.054 on 24 scenes
MOST_LOST = 0.03  # of them that one look has right and tiles have wrong; at most 0.017
OUTLIER = 7.0  # deviations; tiles that are blended stay below 4, those that are cut pass 20
BESIDE = 8  # pixels from an outline of the scene; label changes there are explained
WINDOW = 4  # pixels to either side that are counted together


@dataclass(frozen=True)
class Seen:
    """Label numbers per pixel: the truth, one look, blended tiles, and tiles cut with a knife."""

    truth: NDArray[Any]
    whole: NDArray[Any]
    tiled: NDArray[Any]
    cut: NDArray[Any]
    grid: tiles.Grid


def cut_with_a_knife(
    spans: Sequence[tiles.Span], *, length: int, cells: int
) -> Float[np.ndarray, "spans cells"]:
    """Every cell belongs to the one tile in which it lies furthest inside."""
    soft = blended_weights(spans, length=length, cells=cells)
    winner = soft.argmax(axis=0) == np.arange(len(spans))[:, None]
    return winner.astype(np.float32)


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    method: Any = cliper_model.load("demo", device="cpu")
    tiled = Tiled(method, PLAN)
    decision = replace(method.decision("whole-scene"), presence_threshold=0.0, min_area=0.0)
    found = []
    for index in SCENES:
        scene = make_scene(np.random.default_rng((SEED, index)), size_hw=SIZE_HW)
        truth = scene.label_map().astype(np.int64)
        words = [LABELS[number - 1] for number in np.unique(truth) if number]
        vocabulary = method.read(words, background=())
        numbers = np.array([0, *(LABELS.index(word) + 1 for word in words)])
        state = tiled.observe(scene.image)
        assert isinstance(state, TiledState)
        scores = [
            method.score(method.observe(scene.image), vocabulary),
            tiled.score(state, vocabulary),
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles, "weights", cut_with_a_knife)
            alone = Tiled(method, replace(PLAN, context=0.0))
            scores.append(alone.score(state, vocabulary))
        maps = [numbers[cliper_model.decide(each, decision).label_map] for each in scores]
        found.append(Seen(truth, *maps, grid=state.grid))
    return found


def test_tiles_and_one_look_agree_on_most_pixels(seen: list[Seen]) -> None:
    for scene in seen:
        labelled = scene.truth > 0  # what has no label gets any
        differs = (scene.tiled != scene.whole)[labelled]
        assert differs.mean() < MOST_DIFFERENT
        assert (differs & (scene.whole == scene.truth)[labelled]).mean() < MOST_LOST


def test_tiles_are_no_further_from_the_truth_than_one_look(seen: list[Seen]) -> None:
    def wrong(label_maps: list[NDArray[Any]]) -> float:
        return float(
            np.mean(
                [
                    (label_map != scene.truth)[scene.truth > 0].mean()
                    for label_map, scene in zip(label_maps, seen, strict=True)
                ]
            )
        )

    assert wrong([scene.tiled for scene in seen]) < wrong([scene.whole for scene in seen])


def unexplained(label_map: NDArray[Any], truth: NDArray[Any]) -> NDArray[Any]:
    """Per column: label changes to the next one, away from where the scene itself changes."""
    changes = label_map[:, 1:] != label_map[:, :-1]
    outline = np.pad(truth[:, 1:] != truth[:, :-1], ((0, 0), (BESIDE + 1, BESIDE)))
    running = np.cumsum(outline, axis=1)
    near = running[:, 2 * BESIDE + 1 :] > running[:, : -2 * BESIDE - 1]
    return (changes & ~near).sum(axis=0)


def seam(label_maps: list[NDArray[Any]], truths: list[NDArray[Any]], spans: Any) -> float:
    """How far the label changes at the tiles' borders stand out from those at other columns.

    In deviations (of the median) from the median, of all scenes together; borders are where a
    tile begins or ends, and the middle of what two share.
    """
    columns = sum(map(unexplained, label_maps, truths))
    counts = np.convolve(columns, np.ones(2 * WINDOW + 1), mode="same")
    median = np.median(counts)
    deviation = max(1.0, 1.4826 * float(np.median(np.abs(counts - median))))
    borders = [
        border
        for (_, end), (start, _) in pairwise(spans)
        for border in (start, (start + end) // 2, end)
    ]
    most = max(counts[border - 3 : border + 3].max() for border in borders)
    return float((most - median) / deviation)


def seams(seen: list[Seen], which: str) -> tuple[float, float]:
    """Of columns, and of rows."""
    maps, truths = [getattr(scene, which) for scene in seen], [scene.truth for scene in seen]
    turned = [label_map.T for label_map in maps], [truth.T for truth in truths]
    return seam(maps, truths, seen[0].grid.columns), seam(*turned, seen[0].grid.rows)


def test_borders_of_tiles_do_not_show_in_the_masks(seen: list[Seen]) -> None:
    assert max(seams(seen, "tiled")) < OUTLIER


def test_the_same_count_finds_tiles_that_are_cut_with_a_knife(seen: list[Seen]) -> None:
    assert min(seams(seen, "cut")) > OUTLIER
