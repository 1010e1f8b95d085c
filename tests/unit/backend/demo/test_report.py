"""Figures that fit in the head: two pictures of 2 x 2 pixels."""

import json

import numpy as np
import pytest

from backend.demo.projects import Picture
from backend.demo.report import Accuracy, Answer, Line, share_empty, table, to_json, verdict

TOP = np.array([[True, True], [False, False]])
LEFT = np.array([[True, False], [True, False]])
ALL = np.ones((2, 2), bool)
LABELS = ("sky", "cat", "bus")


def picture(**truth: np.ndarray) -> Picture:
    return Picture(name="p.png", image=np.zeros((2, 2, 3), np.uint8), truth=truth)


def answer(**masks: np.ndarray) -> Answer:
    return Answer(masks=masks, regions=tuple(masks), model_version="v")


def test_the_truth_itself_scores_full_marks():
    accuracy = Accuracy.of(
        LABELS, [picture(sky=TOP), picture(cat=LEFT)], [answer(sky=TOP), answer(cat=LEFT)]
    )

    assert accuracy.mean_iou == accuracy.precision == accuracy.recall == 100
    assert accuracy.false_regions == 0
    assert accuracy.regions == 1


def test_iou_of_a_label_sums_over_pictures_before_it_divides():
    pictures = [picture(sky=TOP), picture(sky=ALL)]
    answers = [answer(sky=LEFT), answer(sky=ALL)]

    accuracy = Accuracy.of(LABELS, pictures, answers)

    # 1 of 3 pixels, then 4 of 4: 5 of 7
    assert accuracy.label_iou == {"sky": pytest.approx(100 * 5 / 7)}


def test_a_label_in_no_picture_does_not_count_for_the_mean_but_as_a_false_region():
    accuracy = Accuracy.of(LABELS, [picture(sky=TOP)], [answer(sky=TOP, bus=LEFT)])

    assert accuracy.mean_iou == 100
    assert accuracy.label_iou.keys() == {"sky"}
    assert accuracy.precision == 50
    assert accuracy.recall == 100
    assert accuracy.false_regions == 1


def test_a_label_that_was_missed_costs_recall_and_iou_but_no_precision():
    accuracy = Accuracy.of(LABELS, [picture(sky=TOP, cat=~TOP)], [answer(sky=TOP)])

    assert accuracy.recall == 50
    assert accuracy.precision == 100
    assert accuracy.mean_iou == 50


def test_false_regions_are_counted_per_picture_and_each_piece_counts():
    pieces = Answer(masks={"bus": TOP}, regions=("bus", "bus"), model_version="v")

    accuracy = Accuracy.of(LABELS, [picture(sky=TOP)] * 2, [pieces, answer(sky=TOP)])

    assert accuracy.false_regions == 1.0
    assert accuracy.regions == 1.5


def test_no_pictures_at_all_are_never_good_enough():
    accuracy = Accuracy.of(LABELS, [], [])
    empty = share_empty(LABELS, [], [])

    lines = verdict(accuracy, one_label=accuracy, one_label_empty=empty, nothing_there=empty)

    assert accuracy.label_iou == {}
    assert not any(line.passed for line in lines)
    assert all("nothing to judge" in str(line) for line in lines)
    assert {line.to_json()["value"] for line in lines} == {None}
    assert json.dumps(to_json(accuracy), allow_nan=False)


def test_a_lone_label_that_is_never_found_is_not_good_enough():
    single = Accuracy.of(("sky",), [picture(sky=TOP), picture()], [answer(), answer()])
    good = Accuracy.of(LABELS, [picture(sky=TOP)], [answer(sky=TOP)])

    lines = verdict(good, one_label=single, one_label_empty=100, nothing_there=100)

    assert [line.what for line in lines if not line.passed] == ["one label, in the picture: found"]


def test_only_pictures_without_any_of_the_labels_count_as_empty_or_not():
    pictures = [picture(sky=TOP), picture(sky=TOP), picture(cat=TOP)]
    answers = [answer(), answer(cat=LEFT), answer(cat=TOP)]

    assert share_empty(("cat",), pictures, answers) == 50


def test_a_figure_at_its_limit_is_good_enough_and_one_beyond_is_not():
    assert Line(what="IoU", value=45, wanted=45).passed
    assert not Line(what="IoU", value=44.9, wanted=45).passed
    assert Line(what="false", value=0.7, wanted=0.7, at_most=True).passed
    assert not Line(what="false", value=0.71, wanted=0.7, at_most=True).passed


def test_the_failing_line_says_what_failed_and_what_was_wanted():
    accuracy = Accuracy.of(LABELS, [picture(sky=TOP)], [answer(sky=TOP)])

    lines = verdict(accuracy, one_label=accuracy, one_label_empty=100, nothing_there=80)

    (failed,) = (line for line in lines if not line.passed)
    assert str(failed).startswith("labels in no picture: nothing painted")
    assert "80.00 %" in str(failed)
    assert str(failed).endswith("(at least 90)  FAILED")


def test_the_table_has_one_row_per_label_that_is_there_best_first():
    accuracy = Accuracy.of(LABELS, [picture(sky=TOP, cat=~TOP)], [answer(sky=TOP, cat=ALL)])

    rows = table(accuracy).splitlines()

    assert [row.split() for row in rows[1:]] == [
        ["sky", "100.0", "1", "1"],
        ["cat", "50.0", "1", "1"],
    ]
