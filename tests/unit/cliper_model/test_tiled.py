"""Large pictures through a method that looks at colours: what is cut, merged, kept and bounded."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from cliper_model.errors import BadImage, IncompatibleState
from cliper_model.segmenter import (
    Decision,
    Identity,
    ImageState,
    Label,
    RowLogits,
    Scores,
    Segmentation,
    Segmenter,
    Vocabulary,
    finished,
)
from cliper_model.stages.decide import decide
from cliper_model.tiled import (
    LOOK_PIXELS,
    MOST_VALUES,
    Tiled,
    TiledState,
    TilePlan,
    _Packed,
    most_bytes,
)

COLOURS = ("red", "green", "blue")
PLAN = TilePlan(above_megapixels=0.01, smallest_tile=64, most_tiles=6, most_pixels=20_000)
HALF = 0.5  # of the largest value; what the toy calls present


@dataclass(frozen=True)
class Cells(ImageState):
    """Mean colours of 8 x 8 parts of a picture, from 0 to 1."""

    kind: ClassVar[str] = "cells-1"

    cells: Float[Tensor, "3 8 8"]


class Colours:
    """A toy: a label named after a colour is where that colour is. Counts its looks."""

    def __init__(self, *, how: str = "maps") -> None:
        self.how, self.looks = how, list[tuple[int, int]]()
        self.clip = "its backbone"

    @property
    def identity(self) -> Identity:
        return Identity(method="colours", revision=1, profile="toy", settings={"how": self.how})

    @property
    def whole_because(self) -> str | None:
        return "its clusters belong to the picture" if self.how == "clusters" else None

    def presence(self, strength: Any, *, preset: str) -> Any:
        return np.clip(strength, 0, 1)

    def decision(self, preset: str) -> Decision:
        return Decision(background="none", presence_threshold=HALF)

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        names = tuple(label if isinstance(label, str) else label.name for label in labels)
        rows = torch.stack([torch.eye(3)[COLOURS.index(name)] for name in names])
        return Vocabulary(
            labels=names,
            preset=preset or "objects",
            rows=rows,
            row_class=tuple(range(len(names))),
            mean_row=None,
        )

    def observe(self, image: Any) -> Cells:
        if not isinstance(image, np.ndarray) or image.shape[2:] != (3,):
            raise BadImage(str(np.shape(image)))
        self.looks.append((image.shape[0], image.shape[1]))
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        cells = torch.nn.functional.adaptive_avg_pool2d(pixels, 8)[0]
        return Cells(size_hw=(image.shape[0], image.shape[1]), cells=cells)

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        if not isinstance(state, Cells):
            raise IncompatibleState(state.kind, Cells.kind)
        values = torch.einsum("rc,chw->rhw", vocabulary.rows, state.cells).numpy()
        logits = RowLogits(values=values, row_class=vocabulary.row_class, scale=10.0)
        strength = values.max(axis=(1, 2))
        return Scores(
            labels=vocabulary.labels,
            maps=values,
            strength=strength,
            presence=np.clip(strength, 0, 1),
            size_hw=state.size_hw,
            rows=None if self.how == "maps" else logits,
            clusters=values if self.how == "clusters" else None,
        )

    def segment(
        self,
        image: Any,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
        decision: Decision | None = None,
    ) -> Segmentation:
        vocabulary = self.read(labels)
        return decide(
            self.score(self.observe(image), vocabulary), decision or self.decision("objects")
        )


def painted(height: int, width: int) -> Any:
    """Red on the left, blue on the right, a green square near the bottom."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    side = max(1, min(height, width) // 4)
    image[-2 * side : -side, side : 2 * side] = (0, 255, 0)
    return image


# -- small pictures ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["maps", "rows", "clusters"])
def test_up_to_the_threshold_nothing_changes(how: str) -> None:
    inner = Colours(how=how)
    tiled, image = Tiled(inner, PLAN), painted(100, 100)  # exactly 0.01 megapixels
    vocabulary = tiled.read(COLOURS)

    state, alone = tiled.observe(image), inner.observe(image)
    found, wanted = tiled.score(state, vocabulary), inner.score(alone, vocabulary)

    assert type(state) is Cells
    assert state.to_bytes() == alone.to_bytes()
    np.testing.assert_array_equal(found.maps, wanted.maps)
    np.testing.assert_array_equal(found.presence, wanted.presence)
    np.testing.assert_array_equal(
        tiled.segment(image, COLOURS).label_map, inner.segment(image, COLOURS).label_map
    )


def test_what_is_no_picture_is_refused_in_the_methods_own_words() -> None:
    tiled = Tiled(Colours(), PLAN)

    with pytest.raises(BadImage, match="expected an RGB picture"):
        tiled.observe("a path")  # type: ignore[arg-type]
    for large in (np.zeros((200, 200, 4), np.uint8), np.zeros((200, 200, 3), np.float32)):
        with pytest.raises(BadImage, match=r"\[200, 200, "):
            tiled.observe(large)


# -- large pictures ---------------------------------------------------------------------


def test_a_large_picture_is_seen_once_as_a_whole_and_in_a_few_tiles() -> None:
    inner = Colours()

    state = Tiled(inner, PLAN).observe(painted(150, 300))

    assert isinstance(state, TiledState)
    assert len(state.tiles) == len(state.grid) <= PLAN.most_tiles
    assert len(inner.looks) == len(state.tiles) + 1
    assert inner.looks[0] == (150, 300)
    assert set(inner.looks[1:]) == {(b - t, r - x) for t, x, b, r in state.grid.boxes}


class Stepping(Colours):
    """Looks in three steps."""

    def observe_in_steps(self, image: Any) -> Generator[None, None, ImageState]:
        yield
        yield
        return self.observe(image)


@pytest.mark.parametrize(("kind", "steps"), [(Colours, 1), (Stepping, 3)])
def test_a_large_picture_is_looked_at_in_steps(kind: type[Colours], steps: int) -> None:
    tiled, image = Tiled(kind(), PLAN), painted(150, 300)
    alone = Tiled(Colours(), PLAN).observe(image)
    assert isinstance(alone, TiledState)
    between: list[int] = []

    found = finished(tiled.observe_in_steps(image), between=lambda: between.append(1))

    assert found.to_bytes() == alone.to_bytes()
    assert len(between) == steps * (len(alone.tiles) + 1) - 1


@pytest.mark.parametrize("size_hw", [(60, 1200), (1200, 60), (2, 6000), (1, 10_001), (101, 100)])
def test_odd_shapes_get_masks_of_their_own_shape(size_hw: tuple[int, int]) -> None:
    tiled = Tiled(Colours(), replace(PLAN, most_pixels=200_000))

    found = tiled.segment(painted(*size_hw), COLOURS)

    assert found.label_map.shape == size_hw
    assert np.isfinite(found.confidence).all()


@pytest.mark.parametrize("how", ["maps", "rows"])
def test_colours_are_found_where_they_are(how: str) -> None:
    image = painted(200, 400)
    tiled = Tiled(Colours(how=how), replace(PLAN, most_pixels=200_000))

    found = tiled.segment(image, COLOURS)

    right = found.label_map == image.argmax(axis=2) + 1
    assert right.mean() > 0.97
    assert (found.presence > 0.9).all()


def test_a_small_thing_is_found_that_one_look_misses() -> None:
    """Of 12 pixels in 800: a cell of the whole picture shows 1 % of it, a cell of a tile 16 %."""
    image = painted(800, 800)
    image[300:312, 600:612] = (0, 255, 0)
    image[image[:, :, 1].astype(bool) & (np.indices((800, 800))[1] < 500)] = (255, 0, 0)
    inner = Colours()
    tiled = Tiled(inner, replace(PLAN, most_tiles=36))
    vocabulary = tiled.read(COLOURS)

    once = inner.score(inner.observe(image), vocabulary)
    found = tiled.score(tiled.observe(image), vocabulary)

    assert found.strength[1] > 4 * once.strength[1]
    row, column = np.unravel_index(found.maps[1].argmax(), found.maps[1].shape)
    assert abs(row / found.maps.shape[1] - 306 / 800) < 0.03
    assert abs(column / found.maps.shape[2] - 606 / 800) < 0.03


def test_a_label_that_only_the_whole_believes_in_counts_as_much_as_the_whole() -> None:
    """`context` is the share of the look at the whole; strength is that of the blended map."""

    class Doubtful(Colours):
        def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
            scores = super().score(state, vocabulary)
            if state.size_hw == (200, 400):  # the whole picture
                return scores
            return replace(scores, maps=0 * scores.maps, strength=0 * scores.strength)

    for context in (0.0, 0.25, 1.0):
        tiled = Tiled(Doubtful(), replace(PLAN, context=context))
        scores = tiled.score(tiled.observe(painted(200, 400)), tiled.read(COLOURS))

        np.testing.assert_allclose(scores.strength[[0, 2]], context, atol=0.01)
        np.testing.assert_array_equal(scores.strength, scores.maps.max(axis=(1, 2)))


def test_class_maps_are_scaled_to_their_strength_before_they_are_blended() -> None:
    """A method whose raw maps mean nothing by themselves: every tile has another scale."""

    class Unscaled(Colours):
        def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
            scores = super().score(state, vocabulary)
            factor = 1 + 7 * float(scores.maps[0, 0, 0])
            return replace(scores, maps=(scores.maps * factor).astype(np.float32))

    image = painted(200, 400)
    plain, scaled = Tiled(Colours(), PLAN), Tiled(Unscaled(), PLAN)
    vocabulary = plain.read(COLOURS)

    wanted = plain.score(plain.observe(image), vocabulary)
    found = scaled.score(scaled.observe(image), vocabulary)

    np.testing.assert_allclose(found.maps, wanted.maps, atol=1e-3)


def test_row_logits_are_blended_before_the_softmax() -> None:
    tiled = Tiled(Colours(how="rows"), PLAN)
    vocabulary = tiled.read(COLOURS)
    state = tiled.observe(painted(200, 400))

    scores = tiled.score(state, vocabulary)

    assert scores.rows is not None
    assert scores.rows.scale == 10.0
    assert scores.rows.row_class == (0, 1, 2)
    np.testing.assert_allclose(scores.rows.values, scores.maps, atol=1e-3)  # the toy's own rule
    np.testing.assert_allclose(scores.rows.values.sum(axis=0), 1.0, atol=1e-5)  # one colour each


def test_clusters_are_looked_at_once_and_the_wrapper_says_why() -> None:
    inner = Colours(how="clusters")
    tiled = Tiled(inner, PLAN)
    vocabulary = tiled.read(COLOURS)

    state = tiled.observe(painted(200, 400))
    scores = tiled.score(state, vocabulary)

    assert tiled.whole_because == "its clusters belong to the picture"
    assert len(inner.looks) == 1
    assert scores.clusters is not None
    assert scores.size_hw == state.size_hw == (100, 200)
    assert decide(scores, tiled.decision("objects")).label_map.shape == (100, 200)


def test_clusters_nobody_announced_are_refused() -> None:
    class Silent(Colours):
        whole_because = None  # type: ignore[assignment]

    tiled = Tiled(Silent(how="clusters"), PLAN)

    with pytest.raises(ValueError, match="clusters of tiles cannot be stitched"):
        tiled.score(tiled.observe(painted(200, 400)), tiled.read(COLOURS))


# -- what is bounded --------------------------------------------------------------------


def test_masks_of_very_large_pictures_are_smaller_and_keep_their_shape() -> None:
    tiled = Tiled(Colours(), PLAN)

    found = tiled.segment(painted(300, 600), COLOURS)

    assert found.label_map.shape == PLAN.masks_hw((300, 600)) == (100, 200)
    assert PLAN.masks_hw((90, 110)) == (90, 110)


def test_a_method_is_never_shown_more_than_it_can_use() -> None:
    inner = Colours()

    Tiled(inner, replace(PLAN, most_tiles=2, most_pixels=20_000)).observe(
        np.zeros((2000, 4500, 3), np.uint8)
    )

    assert len(inner.looks) == 3
    assert all(0.9 * LOOK_PIXELS < height * width <= LOOK_PIXELS for height, width in inner.looks)


def test_many_words_get_a_coarser_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    tiled = Tiled(Colours(), PLAN)
    state, vocabulary = tiled.observe(painted(200, 400)), tiled.read(COLOURS)
    fine = tiled.score(state, vocabulary).maps

    monkeypatch.setattr("cliper_model.tiled.MOST_VALUES", 300)
    coarse = tiled.score(state, vocabulary).maps

    assert coarse.size <= 300 < fine.size
    assert coarse.shape[2] / coarse.shape[1] == pytest.approx(2, rel=0.1)


def test_a_tile_as_large_as_the_picture_is_not_looked_at_twice() -> None:
    inner = Colours()

    state = Tiled(inner, replace(PLAN, smallest_tile=500)).observe(painted(200, 400))

    assert isinstance(state, TiledState)
    assert state.tiles == ()
    assert len(inner.looks) == 1


def test_the_bound_of_memory_stops_growing_with_the_picture() -> None:
    plan = TilePlan()
    large, huge = (
        most_bytes(plan, size_hw=size_hw, state_bytes=5e6)
        for size_hw in ((9000, 12_000), (90_000, 120_000))
    )

    assert huge == pytest.approx(large, rel=1e-3)
    assert large < 17 * 5e6 + 12 * (MOST_VALUES + plan.most_pixels) + 400e6 + 1
    assert most_bytes(plan, size_hw=(9000, 12_000), state_bytes=5e6, row_logits=True) > large


# -- what travels, and what callers look at ---------------------------------------------


def test_a_state_of_tiles_survives_its_bytes() -> None:
    tiled = Tiled(Colours(), PLAN)
    vocabulary = tiled.read(COLOURS)
    state = tiled.observe(painted(150, 301))

    returned = TiledState.from_bytes(state.to_bytes())

    assert isinstance(returned, TiledState)
    assert returned.to_bytes() == state.to_bytes()
    assert returned.grid == state.grid
    assert returned.size_hw == state.size_hw
    np.testing.assert_array_equal(
        tiled.score(returned, vocabulary).maps, tiled.score(state, vocabulary).maps
    )


def test_bytes_of_a_method_that_is_not_loaded_are_refused() -> None:
    state = _Packed(
        size_hw=(1, 1),
        parts=torch.zeros(0, dtype=torch.uint8),
        lengths=(),
        inner_kind="never-heard-of-9",
        rows=(),
        columns=(),
        picture_hw=(1, 1),
    )

    with pytest.raises(IncompatibleState, match=r"'never-heard-of-9'.*observe the image again"):
        TiledState.from_bytes(state.to_bytes())
    with pytest.raises(IncompatibleState, match="'cells-1', not 'tiled-1'"):
        TiledState.from_bytes(Colours().observe(painted(10, 10)).to_bytes())


def test_another_methods_tiles_are_refused() -> None:
    class Others(Colours):
        def observe(self, image: Any) -> Any:
            return ImageState(size_hw=(1, 1))

    mine, others = Tiled(Colours(), PLAN), Tiled(Others(), PLAN)

    with pytest.raises(IncompatibleState, match="observe the image again"):
        mine.score(others.observe(painted(200, 400)), mine.read(COLOURS))


def test_another_plan_is_another_version() -> None:
    inner = Colours()
    first, second = (Tiled(inner, plan) for plan in (PLAN, replace(PLAN, overlap=0.5)))

    assert first.identity != second.identity
    assert first.identity == PLAN.identity_of(inner.identity)
    assert first.identity.settings["how"] == "maps"
    assert first.identity.settings["tiles"]["overlap"] == 0.25
    assert first.identity.method == "colours"


def test_what_callers_look_at_is_still_there() -> None:
    tiled = Tiled(Colours(), PLAN)

    assert isinstance(tiled, Segmenter)
    assert tiled.clip == "its backbone"
    assert tiled.diffusion is None
    assert tiled.features is None
    assert tiled.whole_because is None


def test_only_a_method_can_be_tiled_and_only_once() -> None:
    with pytest.raises(TypeError, match="got Tiled"):
        Tiled(Tiled(Colours(), PLAN), PLAN)
    with pytest.raises(TypeError, match="turns strengths into presence"):
        Tiled(object(), PLAN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"above_megapixels": 0}, "above_megapixels must be positive, got 0"),
        ({"above_megapixels": float("nan")}, "above_megapixels must be positive"),
        ({"most_tiles": 1}, "most_tiles must be in 2 ... 64, got 1"),
        ({"most_tiles": 65}, "most_tiles must be in 2 ... 64, got 65"),
        ({"smallest_tile": 15}, "smallest_tile must be at least 16, got 15"),
        ({"overlap": 0.2}, r"overlap must be in \[0.25, 0.75\], got 0.2"),
        ({"context": 1.1}, r"context must be in \[0, 1\], got 1.1"),
        ({"most_pixels": 1000}, "most_pixels must be at least above_megapixels, 16000000"),
    ],
)
def test_a_wrong_plan_gets_one_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TilePlan(**wrong)


def test_todays_photographs_are_looked_at_once() -> None:
    plan = TilePlan()

    assert not plan.is_large((3000, 4000))
    assert plan.is_large((9000, 12_000))
    assert plan.masks_hw((3000, 4000)) == (3000, 4000)
    height, width = plan.masks_hw((9000, 12_000))
    assert height * width <= plan.most_pixels
    assert width / height == pytest.approx(4 / 3, abs=1e-3)
