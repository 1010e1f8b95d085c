"""Which annotation counts, and what it says."""

from typing import Any

import pytest

from backend.learning.annotation import AT_A_GLANCE, counting

MASK = {"format": "rle", "rle": [0, 0], "brushlabels": ["cat"]}


def region(**changes: Any) -> dict[str, Any]:
    values = {
        "id": "r1", "type": "brushlabels", "from_name": "seg", "to_name": "image",
        "original_width": 4, "original_height": 3, "value": MASK, "origin": "manual",
    }  # fmt: skip
    return {**values, **changes}


def annotation(number: int, **changes: Any) -> dict[str, Any]:
    values = {
        "id": number, "was_cancelled": False, "ground_truth": False, "lead_time": 30.0,
        "parent_prediction": None, "result": [region()],
        "created_at": "2026-01-01T10:00:00Z", "updated_at": f"2026-01-01T10:0{number}:00Z",
    }  # fmt: skip
    return {**values, **changes}


def test_without_annotations_none_counts() -> None:
    assert counting([]) is None


def test_skipped_ones_never_count() -> None:
    assert counting([annotation(1, was_cancelled=True)]) is None
    found = counting([annotation(1), annotation(2, was_cancelled=True)])

    assert found is not None
    assert found.number == 1


def test_what_is_no_annotation_at_all_does_not_count() -> None:
    assert counting([annotation(1, result=None)]) is None


def test_of_several_the_ground_truth_counts() -> None:
    found = counting([annotation(1), annotation(2, ground_truth=True), annotation(3)])

    assert found is not None
    assert found.number == 2


def test_without_ground_truth_the_one_changed_last_counts() -> None:
    early = annotation(3, updated_at="2026-01-01T09:00:00Z")
    found = counting([annotation(1), annotation(2), early])

    assert found is not None
    assert found.number == 2


def test_of_two_changed_at_once_the_newer_counts() -> None:
    same = "2026-01-01T10:00:00Z"
    found = counting([annotation(1, updated_at=same), annotation(2, updated_at=same)])

    assert found is not None
    assert found.number == 2


def test_a_fraction_of_a_second_later_is_later() -> None:
    whole = annotation(2, updated_at="2026-01-01T10:00:00Z")
    later = annotation(1, updated_at="2026-01-01T10:00:00.250000Z")
    found = counting([whole, later])

    assert found is not None
    assert found.number == 1


def test_time_zones_are_minded() -> None:
    early = annotation(2, updated_at="2026-01-01T11:00:00+02:00")
    found = counting([early, annotation(1, updated_at="2026-01-01T10:00:00Z")])

    assert found is not None
    assert found.number == 1


def test_without_a_date_of_change_the_one_made_last_counts() -> None:
    made = [annotation(number, updated_at=None) for number in (1, 2)]
    made[0]["created_at"] = "2026-01-01T12:00:00Z"
    found = counting(made)

    assert found is not None
    assert found.number == 1


def test_drafts_do_not_count() -> None:
    draft = {
        "id": 9, "result": [region()], "lead_time": 3.0, "was_postponed": False, "user": "ann",
        "created_at": "2026-02-01T10:00:00Z", "updated_at": "2026-02-01T10:00:00Z",
    }  # fmt: skip

    assert counting([draft]) is None
    found = counting([draft, annotation(1)])
    assert found is not None
    assert found.number == 1


def test_the_order_in_which_they_are_listed_does_not_matter() -> None:
    listed = [
        annotation(1), annotation(2, ground_truth=True), annotation(3, was_cancelled=True),
        annotation(4, ground_truth=True), annotation(5),
    ]  # fmt: skip

    for first in range(len(listed)):
        found = counting([*listed[first:], *listed[:first]])
        assert found is not None
        assert found.number == 4


def test_a_submitted_empty_annotation_counts() -> None:
    found = counting([annotation(1, result=[])])

    assert found is not None
    assert found.is_empty


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        ({}, AT_A_GLANCE),
        ({"lead_time": 2.1}, 1.0),
        ({"lead_time": None}, 1.0),
        ({"lead_time": 2.0}, AT_A_GLANCE),
        ({"result": [region()]}, 1.0),
        ({"result": [region(origin="prediction-changed")]}, 1.0),
        ({"result": [region(origin="prediction"), region(origin="manual")]}, 1.0),
        ({"result": []}, AT_A_GLANCE),
        ({"result": [], "parent_prediction": None}, 1.0),
    ],
)
def test_a_prediction_accepted_untouched_at_a_glance_counts_for_little(
    changes: dict[str, Any], weight: float
) -> None:
    glance = {"lead_time": 1.9, "parent_prediction": 7, "result": [region(origin="prediction")]}

    found = counting([annotation(1, **{**glance, **changes})])

    assert found is not None
    assert found.weight == weight


def test_deleting_the_prediction_it_came_from_changes_nothing() -> None:
    """Label Studio sets `parent_prediction` to null then."""
    glance = annotation(1, lead_time=1.0, parent_prediction=7, result=[region(origin="prediction")])
    before, after = counting([glance]), counting([{**glance, "parent_prediction": None}])

    assert before is not None
    assert before == after
    assert before.weight == AT_A_GLANCE


def test_equal_annotations_have_equal_stamps_and_others_others() -> None:
    def stamp(**changes: Any) -> str:
        found = counting([annotation(1, **changes)])
        assert found is not None
        return found.stamp

    assert stamp() == stamp(updated_at="2027-01-01T10:00:00Z", completed_by=3)
    assert stamp() == stamp(result=[region(score=0.3, origin="manual")])
    assert stamp() != stamp(result=[region(value={**MASK, "rle": [1, 0]})])
    assert stamp() != stamp(result=[region(item_index=1)])
    assert stamp() != stamp(id=2)
    assert stamp() != stamp(result=[])


def test_regions_are_told_apart_by_control_picture_and_number() -> None:
    found = counting(
        [annotation(1, result=[region(), region(from_name="other"), region(item_index=1)])]
    )

    assert found is not None
    assert len(found.drawn("seg", "image", None)) == 2
    assert len(found.drawn("seg", "image", 0)) == 1
    assert len(found.drawn("seg", "image", 1)) == 1
    assert found.drawn("seg", "elsewhere", None) == []


def test_a_mask_whose_label_is_another_region_gets_it() -> None:
    plain = region(type="brush", from_name="brush", value={"format": "rle", "rle": [0, 0]})
    label = region(type="labels", from_name="names", value={"labels": ["cat"]})
    found = counting([annotation(1, result=[plain, label])])

    assert found is not None
    (one,) = found.drawn("brush", "image", None)
    assert one.names == ("cat",)


def test_strokes_without_a_label_are_drawn_all_the_same() -> None:
    bare = region(value={"format": "rle", "rle": [0, 0]})
    plain = region(type="brush", value={"format": "rle", "rle": [0, 0]})
    found = counting([annotation(1, result=[bare, plain, {"type": "choices", "value": {}}])])

    assert found is not None
    assert [one.names for one in found.drawn("seg", "image", None)] == [(), ()]
