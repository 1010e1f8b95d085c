"""Round outlines, no crumbs, no holes; maps are drawn with letters, a dot is background."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import ndimage

from cliper_model.segmenter import Decision, Scores, Segmentation
from cliper_model.stages import tidy as tidying
from cliper_model.stages.decide import decide
from cliper_model.stages.tidy import drop_pieces, fill_holes, smooth_map, smooth_mask, tidy

ALL_LABELS = 3
MAPS = arrays.arrays(
    np.int32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.integers(0, ALL_LABELS),
)


def drawn(*rows: str) -> NDArray[np.int32]:
    return np.array([[".ABC".index(letter) for letter in row] for row in rows], np.int32)


def letters(label_map: Any) -> list[str]:
    return ["".join(".ABC"[int(number)] for number in row) for row in label_map]


def dropped(label_map: Any, smallest: float) -> Any:
    return drop_pieces(label_map, smallest=np.full(ALL_LABELS, float(smallest)))


def segmentation(label_map: Any, layers: Any = None) -> Segmentation:
    return Segmentation(
        labels=("a", "b", "c"),
        label_map=label_map,
        confidence=np.array([0.9, 0.8, 0.7], np.float32),
        presence=np.ones(3, np.float32),
        layers=layers,
    )


# --- pieces -----------------------------------------------------------------------------------


def test_a_crumb_goes_to_what_surrounds_it_and_a_large_piece_stays() -> None:
    given_map = drawn(
        "AAAA..",
        "ABAA.A",
        "AAAA..",
    )

    assert letters(dropped(given_map, 2)) == ["AAAA..", "AAAA..", "AAAA.."]


def test_a_crumb_between_two_goes_to_the_longer_border_and_ties_to_the_lower_label() -> None:
    assert letters(dropped(drawn("AACBBB", "AACBBB", "AAAABB"), 3)) == [
        "AAABBB",
        "AAABBB",
        "AAAABB",
    ]
    assert letters(dropped(drawn("BBCAA"), 2)) == ["BBAAA"]


def test_pieces_that_meet_at_a_corner_are_one() -> None:
    given_map = drawn("A..", ".A.", "..A")

    assert letters(dropped(given_map, 3)) == letters(given_map)
    assert letters(dropped(given_map, 4)) == ["...", "...", "..."]


def test_a_crumb_inside_a_crumb_follows_it() -> None:
    given_map = drawn("AAAAAA", "ABBBAA", "ABCBAA", "ABBBAA", "AAAAAA")

    assert letters(dropped(given_map, 9)) == ["AAAAAA"] * 5


def test_where_every_piece_is_a_crumb_the_largest_stays() -> None:
    assert letters(dropped(drawn("AABBBCC"), 7)) == ["BBBBBBB"]
    assert letters(dropped(drawn("AB.CC"), 5)) == ["....."]


def test_the_smallest_piece_may_differ_per_label() -> None:
    tidied = tidy(segmentation(drawn("A..B..CC..")), min_piece=(0.2, 0.0, 0.2))

    assert letters(tidied.label_map) == ["...B..CC.."]


def test_a_label_that_loses_all_pixels_has_no_area_and_no_confidence() -> None:
    tidied = tidy(segmentation(drawn("A....BBBBB")), min_piece=0.2)

    assert tidied.areas.tolist() == [0, 5, 0]
    assert tidied.confidence.tolist() == pytest.approx([0.0, 0.8, 0.0])
    assert tidied.presence.tolist() == [1, 1, 1]


@settings(deadline=None, max_examples=150)
@given(label_map=MAPS, smallest=st.integers(1, 30))
def test_no_crumb_is_left_no_hole_is_made_and_a_second_time_changes_nothing(
    label_map: NDArray[np.int32], smallest: int
) -> None:
    once = dropped(label_map, smallest)

    sizes = [size for label in (1, 2, 3) for size in piece_sizes(once == label)]
    assert all(size >= smallest for size in sizes) or len(set(once.ravel())) == 1
    assert label_map.min() == 0 or once.min() > 0
    np.testing.assert_array_equal(dropped(once, smallest), once)


@settings(deadline=None, max_examples=100)
@given(label_map=MAPS, smallest=st.integers(1, 30))
def test_large_pieces_keep_every_pixel(label_map: NDArray[np.int32], smallest: int) -> None:
    once = dropped(label_map, smallest)

    for label in (1, 2, 3):
        pieces, count = ndimage.label(label_map == label, np.ones((3, 3)))
        for piece in range(1, count + 1):
            if (pieces == piece).sum() >= smallest:
                assert (once[pieces == piece] == label).all()
    assert (once[label_map == 0] == 0).all()


def piece_sizes(mask: Any) -> list[int]:
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    return [int((pieces == piece).sum()) for piece in range(1, count + 1)]


def test_blocks_of_rows_count_every_border_once(monkeypatch: pytest.MonkeyPatch) -> None:
    label_map = np.random.default_rng(0).integers(0, 4, (40, 30)).astype(np.int32)
    whole = dropped(label_map, 12)

    for rows in (1, 2, 7):
        monkeypatch.setattr(tidying, "BLOCK_ROWS", rows)
        np.testing.assert_array_equal(dropped(label_map, 12), whole)


# --- holes ------------------------------------------------------------------------------------


def test_a_hole_is_filled_and_a_bay_is_not() -> None:
    given_map = drawn(
        "AAAAA.",
        "A.AA..",
        "AAA..A",
        "AAAAAA",
    )

    assert letters(fill_holes(given_map, largest=24.0)) == [
        "AAAAA.",
        "AAAA..",
        "AAA..A",
        "AAAAAA",
    ]


def test_an_outline_closed_over_corners_encloses() -> None:
    given_map = drawn(".....", "..A..", ".A.A.", "..A..", ".....")

    assert letters(fill_holes(given_map, largest=25.0))[2] == ".AAA."


def test_a_hole_larger_than_asked_stays_and_size_one_means_any() -> None:
    ring = drawn("AAAAA", "A...A", "AAAAA")

    assert tidy(segmentation(ring), largest_hole=0.1).areas.tolist() == [12, 0, 0]
    assert tidy(segmentation(ring), largest_hole=0.2).areas.tolist() == [15, 0, 0]
    assert tidy(segmentation(ring), largest_hole=1.0).areas.tolist() == [15, 0, 0]


def test_other_labels_inside_a_hole_stay() -> None:
    given_map = drawn("AAAAAA", "A....A", "A.BB.A", "A....A", "AAAAAA")

    assert letters(fill_holes(given_map, largest=30.0)) == [
        "AAAAAA",
        "AAAAAA",
        "AABBAA",
        "AAAAAA",
        "AAAAAA",
    ]


def test_a_gap_beside_a_door_goes_to_the_house() -> None:
    given_map = drawn("AAAAAA", "AABB.A", "AABB.A", "AAAAAA")

    assert letters(fill_holes(given_map, largest=24.0)) == ["AAAAAA", "AABBAA", "AABBAA", "AAAAAA"]


def test_what_only_several_labels_enclose_together_stays() -> None:
    given_map = drawn("AAABBB", "A....B", "AAABBB")

    assert letters(fill_holes(given_map, largest=18.0)) == letters(given_map)


def test_of_two_rings_the_inner_one_fills_its_own_hole() -> None:
    given_map = drawn("AAAAAAA", "A.....A", "A.BBB.A", "A.B.B.A", "A.BBB.A", "A.....A", "AAAAAAA")

    filled = letters(fill_holes(given_map, largest=49.0))

    assert filled == ["AAAAAAA", "AAAAAAA", "AABBBAA", "AABBBAA", "AABBBAA", "AAAAAAA", "AAAAAAA"]


@settings(deadline=None, max_examples=150)
@given(label_map=MAPS, largest=st.integers(1, 40))
def test_holes_are_filled_once_and_nobody_loses_a_pixel(
    label_map: NDArray[np.int32], largest: int
) -> None:
    filled = fill_holes(label_map, largest=float(largest))

    claimed = label_map > 0
    np.testing.assert_array_equal(filled[claimed], label_map[claimed])
    np.testing.assert_array_equal(fill_holes(filled, largest=float(largest)), filled)


@settings(deadline=None, max_examples=100)
@given(mask=arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_one_label_alone_is_filled_as_scipy_fills_it(mask: NDArray[np.bool_]) -> None:
    filled = fill_holes(mask.astype(np.int32), largest=float(mask.size))

    np.testing.assert_array_equal(filled > 0, ndimage.binary_fill_holes(mask))


# --- outlines ---------------------------------------------------------------------------------


def test_a_lonely_pixel_and_a_spike_go_and_a_straight_edge_stays() -> None:
    given_map = drawn(
        "AAA....",
        "AAA..B.",
        "AAAA...",
        "AAA....",
        "AAA....",
    )

    assert letters(smooth_map(given_map, radius=1)) == ["AAA...."] * 5


def test_a_notch_in_the_border_of_two_labels_leaves_no_gap() -> None:
    given_map = drawn("AAABBB", "AAABBB", "AABBBB", "AAABBB", "AAABBB")

    assert letters(smooth_map(given_map, radius=1)) == ["AAABBB"] * 5


def test_a_corner_is_rounded_symmetrically() -> None:
    square = np.zeros((40, 40), np.int32)
    square[8:32, 8:32] = 1

    rounded = smooth_map(square, radius=6)

    assert rounded[8, 8] == 0
    assert rounded[8, 20] == rounded[20, 8] == rounded[20, 31] == 1
    for turned in (rounded[::-1], rounded[:, ::-1], rounded.T):
        np.testing.assert_array_equal(turned, rounded)


@settings(deadline=None, max_examples=60)
@given(label_map=MAPS, radius=st.integers(1, 5))
def test_smoothing_is_the_vote_of_the_definition(label_map: NDArray[np.int32], radius: int) -> None:
    numbers = sorted(set(label_map.ravel()))
    weights = [weight_around(label_map == number, radius) for number in numbers]
    most = np.max(weights, axis=0)

    smoothed = smooth_map(label_map, radius=radius)

    for number, weight in zip(numbers, weights, strict=True):
        assert (weight[smoothed == number] == most[smoothed == number]).all()
        held = (label_map == number) & (weight == most)
        assert (smoothed[held] == number).all()  # a tie changes nothing


def weight_around(mask: Any, radius: int) -> Any:
    sums = mask.astype(np.int64)
    for reach in (radius // 2, radius - radius // 2):
        row = np.ones(2 * reach + 1, np.int64)
        sums = ndimage.convolve1d(sums, row, axis=0, mode="constant")
        sums = ndimage.convolve1d(sums, row, axis=1, mode="constant")
    return sums


@pytest.mark.parametrize("radius", [1, 3, 50])
@pytest.mark.parametrize("tile", [5, 16])
def test_tiles_leave_no_seam(monkeypatch: pytest.MonkeyPatch, radius: int, tile: int) -> None:
    label_map = np.random.default_rng(0).integers(0, 4, (37, 50)).astype(np.int32)
    whole, mask = smooth_map(label_map, radius=radius), smooth_mask(label_map > 1, radius=radius)

    monkeypatch.setattr(tidying, "TILE", tile)

    np.testing.assert_array_equal(smooth_map(label_map, radius=radius), whole)
    np.testing.assert_array_equal(smooth_mask(label_map > 1, radius=radius), mask)


def test_the_largest_radius_overflows_nothing() -> None:
    halves = np.zeros((300, 300), np.int32)
    halves[:, 150:] = 1

    np.testing.assert_array_equal(smooth_map(halves, radius=50), halves)


# --- all together -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    label_map=MAPS,
    min_piece=st.floats(0, 0.5),
    largest_hole=st.floats(0, 1),
    smooth=st.integers(0, 4),
)
def test_where_every_pixel_has_a_label_it_keeps_one(
    label_map: NDArray[np.int32], min_piece: float, largest_hole: float, smooth: int
) -> None:
    full = np.maximum(label_map, 1)

    tidied = tidy(segmentation(full), min_piece=min_piece, largest_hole=largest_hole, smooth=smooth)

    assert tidied.label_map.dtype == np.int32
    assert set(tidied.label_map.ravel()) <= set(full.ravel())


@settings(deadline=None, max_examples=100)
@given(label_map=MAPS, min_piece=st.floats(0, 0.5), largest_hole=st.floats(0, 1))
def test_pieces_and_holes_together_are_done_after_one_time(
    label_map: NDArray[np.int32], min_piece: float, largest_hole: float
) -> None:
    once = tidy(segmentation(label_map), min_piece=min_piece, largest_hole=largest_hole)
    twice = tidy(once, min_piece=min_piece, largest_hole=largest_hole)

    np.testing.assert_array_equal(twice.label_map, once.label_map)


def test_nothing_asked_gives_the_same_object() -> None:
    given_one = segmentation(drawn("AB."))

    assert tidy(given_one) is given_one


def test_a_label_never_found_and_an_empty_picture_are_fine() -> None:
    nothing = segmentation(np.zeros((3, 5), np.int32))

    tidied = tidy(nothing, min_piece=0.5, largest_hole=1.0, smooth=2)

    assert tidied.areas.tolist() == [0, 0, 0]


def test_overlapping_masks_are_tidied_one_by_one() -> None:
    layers = np.stack(
        [
            drawn("AAAAA.", "A.AAA.", "AAAAA.") > 0,
            drawn(".BB...", ".BB...", ".....B") > 0,
            drawn("......", "......", ".....C") > 0,
        ]
    )
    shown = drawn("AAAAA.", "ABAAA.", "AAAAAC")

    tidied = tidy(segmentation(shown, layers), min_piece=0.1, largest_hole=0.1)

    assert tidied.layers is not None
    assert letters(tidied.layers[0]) == ["AAAAA.", "AAAAA.", "AAAAA."]
    assert letters(tidied.layers[1]) == [".AA...", ".AA...", "......"]
    assert not tidied.layers[2].any()
    assert letters(tidied.label_map) == ["AAAAA.", "ABAAA.", "AAAAA."]
    assert tidied.confidence.tolist() == pytest.approx([0.9, 0.8, 0.0])


@settings(deadline=None, max_examples=60)
@given(
    layers=arrays.arrays(bool, (3, 7, 9)),
    label_map=arrays.arrays(np.int32, (7, 9), elements=st.integers(0, 3)),
    smooth=st.integers(0, 3),
)
def test_what_is_shown_of_overlapping_masks_agrees_with_them(
    layers: NDArray[np.bool_], label_map: NDArray[np.int32], smooth: int
) -> None:
    tidied = tidy(segmentation(label_map, layers), min_piece=0.05, largest_hole=1.0, smooth=smooth)

    assert tidied.layers is not None
    np.testing.assert_array_equal(tidied.label_map > 0, tidied.layers.any(axis=0))
    for label in range(3):
        assert tidied.layers[label][tidied.label_map == label + 1].all()


# --- as part of a decision --------------------------------------------------------------------


def two_labels() -> Scores:
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, :, :6] = 0.9
    maps[0, 4, 2] = 0.0
    maps[1, 0, 7] = 0.8
    return Scores(
        labels=("large", "speck"),
        maps=maps,
        strength=np.array([0.9, 0.8], np.float32),
        presence=np.ones(2, np.float32),
        size_hw=(8, 8),
    )


def test_decisions_say_how_tidy() -> None:
    plain = decide(two_labels(), Decision())
    tidied = decide(two_labels(), Decision(min_piece=0.05, largest_hole=0.05))
    only_large = decide(two_labels(), Decision(min_piece=(0.9, 0.0)))

    assert plain.areas.tolist() == [47, 1]
    assert tidied.areas.tolist() == [48, 0]
    assert tidied.confidence[1] == 0
    assert only_large.areas.tolist() == [0, 1]


def test_the_smallest_area_may_differ_per_label() -> None:
    assert decide(two_labels(), Decision(min_area=(0.9, 0.0))).areas.tolist() == [0, 1]
    assert decide(two_labels(), Decision(min_area=(0.0, 0.1))).areas.tolist() == [47, 0]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: Decision(min_piece=1.0), r"min_piece must be in \[0, 1\), got 1.0"),
        (lambda: Decision(min_area=(0.1, -1.0)), r"min_area must be in \[0, 1\), got -1.0"),
        (lambda: Decision(largest_hole=float("nan")), r"largest_hole must be in \[0, 1\], got nan"),
        (lambda: Decision(smooth=51), "whole number of pixels from 0 to 50, got 51"),
        (lambda: Decision(smooth=1.5), "whole number of pixels from 0 to 50, got 1.5"),  # type: ignore[arg-type]
        (
            lambda: decide(two_labels(), Decision(min_piece=(0.1, 0.1, 0.1))),
            "min_piece has 3 numbers for 2 labels",
        ),
        (
            lambda: decide(two_labels(), Decision(min_area=(0.1,))),
            "min_area has 1 number for 2 labels",
        ),
    ],
)
def test_wrong_numbers_are_refused(wrong: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        wrong()
