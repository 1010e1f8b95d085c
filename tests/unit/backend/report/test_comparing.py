"""How far apart masks are, in pixels and in words."""

import numpy as np
import pytest

from backend.errors import BadMask
from backend.report.comparing import (
    REDONE,
    TOUCHED,
    UNTOUCHED,
    Name,
    Place,
    compare,
    compare_masks,
)

from ....doubles.corrections import HIGH, columns, painted

IMAGE = Place("image", None)
RED = Name("seg", "red")


def test_pixels_to_add_and_to_remove_are_counted_apart():
    found = compare_masks(columns(5, 15), columns(0, 10))

    assert (found.add, found.remove, found.both) == (50, 50, 50)
    assert found.iou == pytest.approx(1 / 3)


def test_equal_masks_need_no_work():
    found = compare_masks(columns(0, 10), columns(0, 10))

    assert (found.iou, found.add, found.remove, found.boundary_f) == (1.0, 0, 0, 100.0)


def test_a_label_nobody_painted_has_no_outline_to_meet():
    assert compare_masks(columns(0, 0), columns(0, 5)).boundary_f is None


@pytest.mark.parametrize(
    ("right", "given", "kind"),
    [((0, 10), (0, 10), UNTOUCHED), ((0, 10), (0, 9), TOUCHED), ((0, 10), (0, 5), REDONE)],
)
def test_a_picture_is_taken_touched_up_or_redone(right, given, kind):
    truth, guess = painted("red", columns(*right)), painted("red", columns(*given))

    assert compare(1, truth, guess).kind == kind


def test_one_false_label_is_enough_to_be_touched():
    right = [*painted("red", columns(0, 10)), *painted("blue", columns(10, 20))]
    false = [*right, *painted("sky", columns(0, 1))]

    found = compare(1, right, false)

    assert found.quality == pytest.approx(2 / 3)
    assert found.kind == REDONE


def test_quality_is_the_mean_over_labels_painted_or_predicted():
    truth = [*painted("red", columns(0, 10)), *painted("blue", columns(10, 20))]

    found = compare(1, truth, painted("red", columns(0, 10)))

    assert found.quality == 0.5
    assert found.places[IMAGE][Name("seg", "blue")].predicted == 0


def test_nothing_painted_where_nothing_was_predicted_is_right():
    found = compare(1, [], [])

    assert (found.quality, found.kind) == (1.0, UNTOUCHED)


def test_regions_of_a_label_are_joined():
    truth = painted("red", columns(0, 10))
    halves = [*painted("red", columns(0, 4)), *painted("red", columns(4, 10))]

    assert compare(1, truth, halves).kind == UNTOUCHED


def test_pictures_of_a_list_are_held_apart():
    truth = [*painted("red", columns(0, 10), index=0), *painted("red", columns(0, 5), index=1)]
    guess = [*painted("red", columns(0, 10), index=0), *painted("red", columns(5, 10), index=1)]

    found = compare(1, truth, guess)

    assert found.quality_at(Place("image", 0)) == 1.0
    assert found.quality_at(Place("image", 1)) == 0.0
    assert found.quality == 0.5


def test_the_highest_score_of_a_label_counts():
    guess = [
        *painted("red", columns(0, 4), score=0.2),
        *painted("red", columns(4, 8), score=0.7),
        *painted("red", columns(8, 9)),
    ]

    assert compare(1, [], guess).places[IMAGE][RED].score == 0.7


def test_masks_of_different_pictures_are_not_compared():
    small = painted("red", columns(0, 5, (HIGH, 10)))

    with pytest.raises(BadMask, match="20 x 10 and 10 x 10 pixels"):
        compare(1, painted("red", columns(0, 5)), small)


def test_a_mask_that_cannot_be_read_says_so():
    broken = painted("red", columns(0, 5))
    broken[0]["value"]["rle"] = [1, 2, 3]

    with pytest.raises(BadMask):
        compare(1, broken, [])


def test_boxes_and_answers_are_passed_over():
    box = {
        "type": "rectanglelabels",
        "value": {"x": 0, "y": 0, "width": 5, "height": 5, "rectanglelabels": ["red"]},
    }
    choice = {"type": "choices", "value": {"choices": ["red"]}}

    assert compare(1, [box, choice], []).places == {}


def test_an_empty_mask_is_none():
    truth = painted("red", columns(0, 1))
    truth[0]["value"]["rle"] = painted("red", np.eye(HIGH, 20, dtype=bool))[0]["value"]["rle"]

    assert compare(1, truth, []).places[IMAGE][RED].truth == HIGH
