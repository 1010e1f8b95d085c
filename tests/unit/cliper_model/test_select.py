"""Points and boxes on maps that fit in the head, and on drawn scenes with the demo weights."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

import cliper_model
from cliper_model.demo.scenes import THINGS, make_scene
from cliper_model.segmenter import Decision, RowLogits, Scores
from cliper_model.stages import select as selecting
from cliper_model.stages.select import select, selection_grid

HALF = Decision(background_threshold=0.5)


def scores_of(*maps: Any, size_hw: tuple[int, int] | None = None, **more: Any) -> Scores:
    """Every map counts tenths: 9 is 0.9."""
    values = np.array([[list(map(int, row)) for row in one] for one in maps], np.float32) / 10
    return Scores(
        labels=tuple(f"label {number}" for number in range(len(values))),
        maps=values,
        strength=values.max(axis=(1, 2)),
        presence=more.pop("presence", np.ones(len(values), np.float32)),
        size_hw=size_hw or (values.shape[1], values.shape[2]),
        **more,
    )


def shown(mask: Any) -> list[str]:
    return ["".join(".X"[int(pixel)] for pixel in row) for row in mask]


def at(column: int, row: int = 0) -> tuple[float, float]:
    return column + 0.5, row + 0.5


TWO_THINGS = scores_of(("9990000088", "9990000088"))


# --- positive points and boxes ----------------------------------------------------------------


def test_without_points_it_is_the_usual_mask() -> None:
    assert shown(select(TWO_THINGS, 0, decision=HALF)) == ["XXX.....XX"] * 2


def test_a_click_on_one_of_two_things_gives_only_that_one() -> None:
    assert shown(select(TWO_THINGS, 0, positive=[at(1)], decision=HALF)) == ["XXX......."] * 2
    assert shown(select(TWO_THINGS, 0, positive=[at(8, 1)], decision=HALF)) == ["........XX"] * 2
    both = select(TWO_THINGS, 0, positive=[at(8, 1), at(0)], decision=HALF)
    assert shown(both) == ["XXX.....XX"] * 2


def test_a_click_on_what_the_model_missed_gives_the_piece_around_it() -> None:
    missed = scores_of(("9900344300000000",))

    clicked = select(missed, 0, positive=[at(5)], decision=HALF)

    assert shown(clicked) == ["....XXXX........"]


def test_a_click_beside_a_mask_that_ends_too_early_gives_both() -> None:
    short = scores_of(("099431000000",))

    assert shown(select(short, 0, positive=[at(3)], decision=HALF)) == [".XXXX......."]


def test_a_click_does_not_leak_into_what_is_another_label() -> None:
    maps = ("3344440000",), ("0000099999",)

    clicked = select(scores_of(*maps), 0, positive=[at(3)], decision=Decision(background="none"))

    assert shown(clicked) == ["XXXXX....."]


def test_a_click_into_another_label_gives_a_part_of_that_thing() -> None:
    maps = ("3344433333",), ("0000999000",)

    clicked = select(scores_of(*maps), 0, positive=[at(5)], decision=HALF)

    assert shown(clicked) == ["....XXX..."]


@pytest.mark.parametrize("value", ["0", "1", "4"])
def test_a_click_on_a_flat_map_takes_a_part_of_the_picture_only(value: str) -> None:
    flat = scores_of([value * 40] * 30)

    clicked = select(flat, 0, positive=[at(20, 15)], decision=HALF)

    assert clicked[15, 20]
    assert 10 < clicked.sum() <= 0.26 * 1200


def test_a_level_that_leaks_over_the_picture_is_raised() -> None:
    rows = ["2" * 20] * 20
    rows[9] = "2" * 9 + "44" + "2" * 9

    clicked = select(scores_of(rows), 0, positive=[at(9, 9)], decision=HALF)

    assert clicked.sum() == 2


def test_an_absent_label_can_be_clicked() -> None:
    absent = replace(TWO_THINGS, presence=np.zeros(1, np.float32))

    assert shown(select(absent, 0, decision=HALF)) == ["XXX.....XX"] * 2
    assert select(absent, 0, positive=[at(1)], decision=HALF).sum() == 6


def test_the_label_s_smallest_area_is_ignored_and_a_crumb_can_be_clicked() -> None:
    strict = Decision(background_threshold=0.5, min_area=0.9, min_piece=0.25)

    assert shown(select(TWO_THINGS, 0, decision=strict)) == ["XXX......."] * 2
    assert select(TWO_THINGS, 0, positive=[at(9)], decision=strict).sum() == 4


def test_a_box_limits_and_a_point_outside_of_it_says_nothing() -> None:
    box = (2.0, 0.0, 10.0, 1.0)

    assert shown(select(TWO_THINGS, 0, box_xyxy=box, decision=HALF)) == ["..X.....XX", ".........."]
    one = select(TWO_THINGS, 0, box_xyxy=box, positive=[at(2)], decision=HALF)
    assert shown(one) == ["..X.......", ".........."]
    outside = select(TWO_THINGS, 0, box_xyxy=box, positive=[at(0)], decision=HALF)
    np.testing.assert_array_equal(outside, select(TWO_THINGS, 0, box_xyxy=box, decision=HALF))


def test_a_box_around_what_was_missed_gives_its_strong_part() -> None:
    missed = scores_of(("9990013310",))

    assert shown(select(missed, 0, box_xyxy=(4.0, 0.0, 10.0, 1.0), decision=HALF)) == ["......XX.."]


def test_points_and_boxes_beyond_the_picture_are_clipped() -> None:
    clicked = select(
        TWO_THINGS, 0, positive=[(-5.0, -5.0)], box_xyxy=(-1e9, -3.0, 1e9, 99.0), decision=HALF
    )

    assert shown(clicked) == ["XXX......."] * 2
    assert select(TWO_THINGS, 0, box_xyxy=(50.0, 50.0, 60.0, 60.0), decision=HALF).sum() == 1


def test_labels_decided_by_rows_and_by_clusters_can_be_clicked() -> None:
    logits = np.array([[[9, 9, 0, 9]], [[0, 0, 9, 0]]], np.float32)
    rows = replace(
        scores_of(("9909",), ("0090",)),
        rows=RowLogits(values=logits, row_class=(0, 1), scale=1.0),
    )
    clusters = replace(
        scores_of(("9990",), ("1129",)),
        clusters=np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], np.float32),
    )

    assert shown(select(rows, 0, positive=[at(0)], decision=HALF)) == ["XX.."]
    assert shown(select(rows, 0, positive=[at(2)], decision=HALF)) == ["..X."]
    assert shown(select(clusters, 0, positive=[at(1)], decision=HALF)) == ["XXXX"]


# --- negative points --------------------------------------------------------------------------


def test_a_negative_click_takes_its_piece_away() -> None:
    assert shown(select(TWO_THINGS, 0, negative=[at(8)], decision=HALF)) == ["XXX......."] * 2
    assert shown(select(TWO_THINGS, 0, negative=[at(5)], decision=HALF)) == ["XXX.....XX"] * 2


def test_two_hills_in_one_piece_part_at_the_valley() -> None:
    hills = scores_of(("6899876899",))

    parted = select(hills, 0, positive=[at(3)], negative=[at(9)], decision=HALF)

    assert shown(parted) in (["XXXXXX...."], ["XXXXXXX..."])


def test_a_flat_piece_is_parted_half_way() -> None:
    parted = select(
        scores_of(("9999999999",)), 0, positive=[at(1)], negative=[at(8)], decision=HALF
    )

    assert shown(parted) == ["XXXXX....."]


def test_a_part_that_a_negative_click_cuts_off_goes_too() -> None:
    parted = select(
        scores_of(("999999999",)), 0, positive=[at(0), at(4)], negative=[at(6)], decision=HALF
    )

    assert shown(parted) == ["XXXXXX..."]


def test_where_both_clicks_fall_on_one_pixel_the_negative_one_counts() -> None:
    both = select(TWO_THINGS, 0, positive=[at(0), at(1)], negative=[at(0)], decision=HALF)

    assert not both[0, 0]
    assert both[0, 1]


def test_wrong_inputs_get_one_sentence() -> None:
    with pytest.raises(ValueError, match="label must be from 0 to 0, got 1"):
        select(TWO_THINGS, 1, decision=HALF)
    with pytest.raises(ValueError, match="from left to right and top to bottom"):
        select(TWO_THINGS, 0, box_xyxy=(5.0, 0.0, 5.0, 1.0), decision=HALF)


# --- any picture ------------------------------------------------------------------------------


@st.composite
def anything(draw: st.DrawFn) -> tuple[Scores, dict[str, Any], Decision]:
    seed = draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    count, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    maps = random.random((count, height, width), dtype=np.float32)
    if draw(st.booleans()):
        maps = np.round(maps * 3) / 3  # many ties
    size_hw = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    scores = Scores(
        labels=tuple(map(str, range(count))),
        maps=maps - draw(st.sampled_from([0, 1])),
        strength=maps.max(axis=(1, 2)),
        presence=random.random(count, dtype=np.float32),
        size_hw=size_hw,
    )
    points = st.lists(st.tuples(st.floats(-5, 45), st.floats(-5, 45)), max_size=4)
    box = draw(
        st.none()
        | st.tuples(
            *[st.floats(-5, 20)] * 2, *[st.floats(20.5, 45)] * 2
        )  # left, top, right, bottom
    )
    decision = Decision(
        background=draw(st.sampled_from(["none", "threshold", "quadratic"])),
        overlap=draw(st.booleans()),
        largest_hole=draw(st.sampled_from([0.0, 1.0])),
    )
    return scores, {"positive": draw(points), "negative": draw(points), "box_xyxy": box}, decision


def pixel_of(point: tuple[float, float], size_hw: tuple[int, int]) -> tuple[int, int]:
    return (
        int(np.clip(point[1], 0, size_hw[0] - 1)),
        int(np.clip(point[0], 0, size_hw[1] - 1)),
    )


@pytest.mark.parametrize("longest", [1024, 9])
@settings(deadline=None, max_examples=150)
@given(case=anything())
def test_positive_pixels_are_in_negative_ones_out_and_nothing_leaves_the_box(
    longest: int, case: tuple[Scores, dict[str, Any], Decision]
) -> None:
    scores, clicks, decision = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selecting, "LONGEST_SIDE", longest)
        mask = select(scores, 0, decision=decision, **clicks)
        again = select(scores, 0, decision=decision, **clicks)
        alone = select(scores, 0, decision=decision, **{**clicks, "negative": []})

    np.testing.assert_array_equal(mask, again)
    assert mask.shape == scores.size_hw
    refused = {pixel_of(point, scores.size_hw) for point in clicks["negative"]}
    assert not any(mask[pixel] for pixel in refused)
    box = clicks["box_xyxy"]
    if box is None:
        for point in clicks["positive"]:
            pixel = pixel_of(point, scores.size_hw)
            assert mask[pixel] or pixel in refused
    else:
        rows, columns = np.nonzero(mask)
        left, top = pixel_of((box[0], box[1]), scores.size_hw)[::-1]
        assert (rows >= top).all()
        assert (columns >= left).all()
        assert (rows <= max(box[3], top)).all()
        assert (columns <= max(box[2], left)).all()
    if longest == 1024:
        assert not (mask & ~alone).any()  # a negative point only takes away


def test_large_pictures_are_selected_on_a_bounded_grid() -> None:
    large = replace(TWO_THINGS, size_hw=(3000, 4000))
    many = scores_of(*[("90", "09")] * 150, size_hw=(3000, 4000))

    assert selection_grid(large) == (768, 1024)
    assert np.prod(selection_grid(many)) * 150 <= 1.01 * selecting.MOST_VALUES
    assert selection_grid(replace(TWO_THINGS, size_hw=(1, 60_000))) == (1, 1024)
    assert selection_grid(TWO_THINGS) == (2, 10)


def test_a_coarser_grid_gives_nearly_the_same_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    maps = ndimage.zoom(random.random((2, 5, 6)), (1, 5, 5), order=1).astype(np.float32)
    scores = Scores(
        labels=("a", "b"),
        maps=maps,
        strength=np.ones(2, np.float32),
        presence=np.ones(2, np.float32),
        size_hw=(300, 360),
    )
    exact = select(scores, 0, decision=HALF)

    monkeypatch.setattr(selecting, "LONGEST_SIDE", 90)
    coarse = select(scores, 0, decision=HALF)

    assert iou(coarse, exact) > 0.97


# --- the demo weights on drawn scenes ---------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """One thing of a scene, and what the model makes of its picture."""

    scores: Scores
    decision: Decision
    label: int
    mask: NDArray[np.bool_]
    others: NDArray[np.bool_]  # of the same label, touching this one nowhere

    @property
    def innermost(self) -> tuple[float, float]:
        depth = ndimage.distance_transform_edt(np.pad(self.mask, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        return at(int(column), int(row))


@pytest.fixture(scope="module")
def things() -> list[Drawn]:
    model = cliper_model.load("demo", device="cpu")
    random = np.random.default_rng(2024)
    found = []
    for _ in range(8):
        scene = make_scene(random)
        names = sorted(scene.masks())
        scores = model.score(model.observe(scene.image), model.read(names))
        for number, item in enumerate(scene.items, 1):
            mask = scene.instances == number
            if item.label not in THINGS or mask.sum() < 60 or ndimage.label(mask)[1] != 1:
                continue
            same = scene.masks()[item.label] & ~mask
            found.append(
                Drawn(
                    scores=scores,
                    decision=model.decision("objects"),
                    label=names.index(item.label),
                    mask=mask,
                    others=same & (ndimage.distance_transform_edt(~mask) > 8),
                )
            )
    return found


def iou(one: Any, other: Any) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def test_one_click_into_a_thing_selects_it(things: list[Drawn]) -> None:
    found = [
        iou(
            select(one.scores, one.label, positive=[one.innermost], decision=one.decision), one.mask
        )
        for one in things
    ]

    assert len(found) > 15
    assert np.mean(found) > 0.8
    assert np.median(found) > 0.85


def test_one_click_selects_also_what_the_model_would_not_have_shown(things: list[Drawn]) -> None:
    nothing = Decision(background_threshold=1.0)

    found = [
        iou(select(one.scores, one.label, positive=[one.innermost], decision=nothing), one.mask)
        for one in things
    ]

    assert np.mean(found) > 0.75


def test_a_box_around_a_thing_selects_it(things: list[Drawn]) -> None:
    found = []
    for one in things:
        rows, columns = np.nonzero(one.mask)
        box = tuple(map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))
        mask = select(one.scores, one.label, box_xyxy=box, decision=one.decision)  # type: ignore[arg-type]
        found.append(iou(mask, one.mask))

    assert np.mean(found) > 0.8


def test_one_click_leaves_another_thing_of_the_same_label_alone(things: list[Drawn]) -> None:
    pairs = [one for one in things if one.others.sum() >= 60]
    taken = []
    for one in pairs:
        mask = select(one.scores, one.label, positive=[one.innermost], decision=one.decision)
        taken.append((mask & one.others).sum() / one.others.sum())

    assert len(pairs) >= 4
    assert np.max(taken) < 0.1
