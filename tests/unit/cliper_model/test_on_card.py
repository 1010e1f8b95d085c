"""Pixels labelled where the maps were made: on a graphics card where there is one, else by torch on
the processor; what numpy gives, to the bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cliper_model.segmenter import Decision, RowLogits, Scores
from cliper_model.stages import decide, on_card

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [((6, 5), (150, 110)), ((8, 8), (3, 97)), ((64, 64), (61, 200)), ((12, 9), (12, 9))]


def scores_of(classes: int, seed: int) -> Scores:
    """Plateaus, equal labels, labels that are nowhere; a third of them absent."""
    numbers = np.random.default_rng(seed)
    cells, size_hw = SHAPES[seed % len(SHAPES)]
    maps = numbers.random((classes, *cells), np.float32)
    if seed % 2:
        maps = (maps * 3).round() / np.float32(3)
        maps[numbers.random(classes) < 0.2] = 0
    return Scores(
        labels=tuple(f"label {number}" for number in range(classes)),
        maps=maps,
        strength=numbers.uniform(0.4, 1.2, classes).astype(np.float32),
        presence=np.where(np.arange(classes) % 3 == 2, 0.1, 0.9).astype(np.float32),
        size_hw=size_hw,
        device=DEVICE,
    )


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many labels were decided about there, each time."""
    labels: list[int] = []

    class Noting(on_card.OnCard):
        def __init__(self, maps: Any, **told: Any) -> None:
            labels.append(len(maps))
            super().__init__(maps, **told)

    monkeypatch.setattr(decide, "OnCard", Noting)
    return labels


@pytest.mark.parametrize("values", [on_card.BLOCK_VALUES, 2_000])
@pytest.mark.parametrize("background", ["threshold", "quadratic", "none"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("classes", "seed"), [(1, 0), (3, 1), (7, 2), (40, 3), (400, 4), (9, 5)])
def test_a_card_labels_every_pixel_as_numpy_does(
    classes: int,
    seed: int,
    normalise: bool,
    background: str,
    values: int,
    used: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_card, "BLOCK_VALUES", values)
    scores = scores_of(classes, seed)
    floors = np.random.default_rng(seed).choice([0.0, 0.7], classes)
    decision = Decision(
        background=background,
        background_threshold=0.4,
        mask_threshold=tuple(floors.tolist()),
        normalise=normalise,
        min_area=0.001,
    )

    found = decide.decide(scores, decision)
    assert used[0] == np.count_nonzero(scores.presence > 0.5)
    wanted = decide.decide(replace(scores, device=None), decision)

    assert found.label_map.max() > 0
    assert found.label_map.dtype == wanted.label_map.dtype
    np.testing.assert_array_equal(found.label_map, wanted.label_map)
    np.testing.assert_array_equal(found.confidence, wanted.confidence)
    np.testing.assert_array_equal(found.presence, wanted.presence)


def test_a_full_card_leaves_pixels_to_numpy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: on_card.OnCard) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(on_card.OnCard, "extremes", full)
    scores = scores_of(3, 0)

    with caplog.at_level("INFO"):
        found = decide.decide(scores, Decision())

    wanted = decide.decide(replace(scores, device=None), Decision())
    np.testing.assert_array_equal(found.label_map, wanted.label_map)
    assert f"no room to label pixels on {DEVICE}: done on the processor" in caplog.text


def test_a_threshold_of_numpys_own_means_the_same_number() -> None:
    maps = np.full((1, 4, 4), 0.7, np.float32)
    scores = replace(scores_of(1, 0), maps=maps, strength=np.float32([0.7 + 7e-6]))
    decision = Decision(background_threshold=np.float64(0.7))

    found = decide.decide(scores, decision)

    assert type(decision.background_threshold) is float
    wanted = decide.decide(replace(scores, device=None), decision)
    np.testing.assert_array_equal(found.label_map, wanted.label_map)


def test_blocks_of_few_labels_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_card, "BLOCK_VALUES", 9 * 1000)

    card = on_card.OnCard(np.zeros((1, 4, 4), np.float32), size_hw=(10, 1000), device=DEVICE)
    finer = on_card.OnCard(np.zeros((1, 40, 4), np.float32), size_hw=(10, 100), device=DEVICE)

    assert [rows.stop - rows.start for rows in card._blocks] == [1] * 10
    assert [rows.stop - rows.start for rows in finer._blocks] == [2] * 5


@pytest.mark.parametrize("what", ["overlap", "rows", "clusters", "no number", "nothing there"])
def test_what_a_card_does_not_decide_numpy_does(what: str, used: list[int]) -> None:
    scores, decision = scores_of(3, 0), Decision(overlap=what == "overlap")
    if what == "rows":
        rows = RowLogits(values=scores.maps, row_class=(0, 1, 2), scale=3.0)
        scores = replace(scores, rows=rows)
    if what == "clusters":
        scores = replace(scores, clusters=scores.maps)
    if what == "no number":
        scores = replace(scores, maps=np.where(scores.maps > 0.9, np.float32(np.nan), scores.maps))
    if what == "nothing there":
        scores = replace(scores, presence=np.zeros(3, np.float32))

    found = decide.decide(scores, decision)

    assert used == []
    wanted = decide.decide(replace(scores, device=None), decision)
    np.testing.assert_array_equal(found.label_map, wanted.label_map)
