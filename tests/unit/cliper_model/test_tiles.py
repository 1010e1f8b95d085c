"""Tiles cover a picture, are few, and count as one at every place."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliper_model.stages import tiles

SIZES = [(9000, 12000), (3000, 6000), (1000, 20000), (20000, 1000), (4097, 4096), (17, 1_000_003)]


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("most", [2, 7, 16])
def test_there_are_never_more_tiles_than_allowed(size_hw: tuple[int, int], most: int) -> None:
    grid = tiles.plan(size_hw, side=512, overlap=0.25, most=most)

    assert 1 <= len(grid) == len(grid.boxes) <= most


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 30_000),
    width=st.integers(1, 30_000),
    side=st.integers(16, 4000),
    overlap=st.sampled_from([0.25, 1 / 3, 0.5, 0.75]),
    most=st.integers(2, 64),
)
def test_spans_cover_every_pixel_and_share_what_was_asked(
    height: int, width: int, side: int, overlap: float, most: int
) -> None:
    grid = tiles.plan((height, width), side=side, overlap=overlap, most=most)

    for spans, length in ((grid.rows, height), (grid.columns, width)):
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert len({end - start for start, end in spans}) == 1
        for (start, end), (following, _) in pairwise(spans):
            assert end - following >= overlap * (end - start)
    assert len(grid) <= most


def test_tiles_grow_only_where_there_would_be_too_many() -> None:
    few = tiles.plan((2000, 3000), side=1536, overlap=0.25, most=16)
    many = tiles.plan((9000, 12000), side=1536, overlap=0.25, most=16)

    assert few.columns[0] == (0, 1536)
    assert (len(few.rows), len(few.columns)) == (2, 3)
    assert many.columns[0][1] > 3000
    assert 12 <= len(many) <= 16


def test_a_panorama_gets_one_row_of_tiles() -> None:
    grid = tiles.plan((1000, 20_000), side=1536, overlap=0.25, most=16)

    assert grid.rows == ((0, 1000),)
    assert 12 <= len(grid.columns) <= 16


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("cells", [50, 333])
def test_the_weights_of_all_tiles_add_up_to_one_everywhere(
    size_hw: tuple[int, int], cells: int
) -> None:
    grid = tiles.plan(size_hw, side=600, overlap=0.3, most=16)

    down = tiles.weights(grid.rows, length=size_hw[0], cells=cells)
    across = tiles.weights(grid.columns, length=size_hw[1], cells=cells)
    total = sum(np.outer(row, column) for row in down for column in across)

    np.testing.assert_allclose(total, 1.0, atol=1e-6)


def test_a_tile_counts_nothing_outside_and_little_near_a_shared_edge() -> None:
    first, second = tiles.weights(((0, 60), (40, 100)), length=100, cells=100)

    assert (first[:40] == 1).all()
    assert (first[60:] == 0).all()
    assert first[59] < 0.01
    assert abs(first[49] - 0.5) < 0.05
    assert (np.diff(second) >= 0).all()
    assert np.abs(np.diff(first)).max() < 0.09  # no step


def blend_of(grid: tiles.Grid, maps: int, canvas_hw: tuple[int, int]) -> tiles.Blend:
    return tiles.Blend(maps, picture_hw=(90, 200), canvas_hw=canvas_hw, grid=grid)


def test_tiles_that_say_the_same_blend_to_what_they_say() -> None:
    grid = tiles.plan((90, 200), side=90, overlap=0.25, most=4)
    blend = blend_of(grid, 2, (30, 70))
    flat = np.stack([np.full((6, 6), 0.25), np.full((6, 6), 4.0)]).astype(np.float32)

    for number in range(len(grid)):
        blend.add_tile(number, flat, share=0.75)
    blend.add_whole(flat, share=0.25)

    np.testing.assert_allclose(blend.maps[0], 0.25, rtol=1e-5)
    np.testing.assert_allclose(blend.maps[1], 4.0, rtol=1e-5)


def test_a_ramp_cut_into_tiles_is_the_ramp_again() -> None:
    """Cells of tiles do not lie on those of the canvas; bilinear sampling of a ramp is exact."""
    grid = tiles.plan((90, 200), side=90, overlap=0.4, most=6)
    blend = blend_of(grid, 1, (45, 100))

    for number, (_, left, _, right) in enumerate(grid.boxes):
        centres = left + (np.arange(30) + 0.5) * ((right - left) / 30)
        blend.add_tile(number, np.tile(centres, (1, 8, 1)).astype(np.float32), share=1.0)

    wanted = np.tile((np.arange(100) + 0.5) * 2, (45, 1))
    np.testing.assert_allclose(blend.maps[0][:, 2:-2], wanted[:, 2:-2], atol=0.05)


def test_maps_without_a_label_blend_to_none() -> None:
    grid = tiles.plan((90, 200), side=90, overlap=0.25, most=4)
    blend = blend_of(grid, 0, (30, 70))

    blend.add_tile(0, np.zeros((0, 6, 6), np.float32), share=1.0)

    assert blend.maps.shape == (0, 30, 70)


@pytest.mark.parametrize("size_hw", [(9000, 12_000), (1, 30_000_000), (30_000_000, 1), (7, 11)])
def test_a_size_within_a_number_of_pixels_keeps_its_shape(size_hw: tuple[int, int]) -> None:
    height, width = tiles.within(size_hw, most_pixels=1_000_000)

    assert 1 <= height * width <= 1_000_000
    assert height <= size_hw[0]
    assert width <= size_hw[1]
    if min(height, width) > 100:
        assert abs(height / width - size_hw[0] / size_hw[1]) < 0.01


def test_a_picture_shrinks_to_the_mean_of_areas_also_through_bands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (64, 96, 3), np.uint8)
    means = image.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))

    at_once = tiles.shrink(image, most_pixels=16 * 24)
    monkeypatch.setattr(tiles, "BAND_VALUES", 96 * 8)
    in_bands = tiles.shrink(image, most_pixels=16 * 24)

    assert at_once.shape == (16, 24, 3)
    assert np.abs(at_once - means).max() <= 1
    np.testing.assert_array_equal(in_bands, at_once)


def test_a_picture_that_is_small_enough_is_not_copied() -> None:
    image = np.zeros((20, 30, 3), np.uint8)

    assert tiles.shrink(image, most_pixels=600) is image
