"""Counting: tallies, presence, and the threshold that presence is read with."""

import numpy as np
import pytest

from cliper_model.demo.evaluation import (
    Measured,
    Strengths,
    absent_figures,
    choose_threshold,
    presence_figures,
    together,
)
from cliper_model.demo.scenes import LABELS
from cliper_model.demo.tally import Tally, largest_loss, sum_of

EVERYWHERE = np.ones((2, 2), bool)


def tally(predicted, truth):
    counted = Tally()
    counted.add(np.array(predicted), np.array(truth, np.uint8), EVERYWHERE)
    return counted


def test_tallies_of_parts_add_up_to_the_tally_of_all():
    first, second = (
        tally([[1, 1], [2, 2]], [[1, 1], [2, 1]]),
        tally([[2, 2], [2, 2]], [[2] * 2] * 2),
    )

    both = sum_of([first, second])

    assert both.whole.sum() == 8
    assert both.figures()["accuracy"] == pytest.approx(100 * 7 / 8)


def test_the_largest_loss_is_that_of_the_unluckiest_label():
    before = tally([[1, 1], [2, 2]], [[1, 1], [2, 2]])
    after = tally([[1, 1], [1, 2]], [[1, 1], [2, 2]])

    assert largest_loss(before, after) == pytest.approx(50)
    assert largest_loss(after, before) == 0


def strengths(values, present):
    return Strengths(np.array(values, np.float32), np.array(present, bool))


def test_presence_counts_claims_above_the_threshold():
    found = strengths([[0.9, 0.7, 0.1], [0.2, 0.8, 0.1]], [[1, 0, 0], [1, 1, 0]])

    figures = presence_figures(found, 0.5)

    assert figures["precision"] == pytest.approx(100 * 2 / 3)
    assert figures["recall"] == pytest.approx(100 * 2 / 3)
    assert figures["false labels per image"] == 0.5


def test_what_was_not_asked_for_claims_nothing():
    figures = absent_figures(strengths([[np.nan, 0.9], [0.1, np.nan]], [[0, 0], [0, 0]]), 0.5)

    assert figures == {"empty": 50, "false labels per image": 0.5}


def test_the_threshold_chosen_is_careful_and_finds_most():
    found = strengths([[0.9, 0.6, 0.5], [0.8, 0.3, 0.55]], [[1, 1, 0], [1, 0, 0]])

    threshold = choose_threshold(found, precision=90, false_labels=0.4)

    assert 0.55 <= threshold < 0.6
    assert presence_figures(found, threshold)["recall"] == 100


def test_fewer_may_be_found_when_claims_must_be_right():
    found = strengths([[0.9, 0.2], [0.3, 0.6]], [[1, 0], [1, 0]])

    assert choose_threshold(found, precision=100, false_labels=0) >= 0.6
    assert choose_threshold(found, precision=50, false_labels=1) < 0.3


def test_no_careful_threshold_is_an_error():
    with pytest.raises(ValueError, match="no threshold reaches precision 90"):
        choose_threshold(strengths([[0.9, 0.2]], [[0, 1]]))


def test_parts_are_put_together_in_their_order():
    first = strengths([[0.1] * len(LABELS)], [[1] * len(LABELS)])
    second = strengths([[0.2] * len(LABELS)], [[0] * len(LABELS)])
    pixels = tally([[1, 1], [1, 1]], [[1, 1], [1, 2]])
    parts = [
        Measured({"given": pixels}, first, first, first),
        Measured({"given": pixels, "all": pixels}, second, second, second),
    ]

    whole = together(parts)

    assert whole.tallies["given"].whole.sum() == 8
    assert whole.tallies["all"].whole.sum() == 4
    assert whole.asked_all.values[:, 0].tolist() == pytest.approx([0.1, 0.2])
    assert whole.named.present[:, 0].tolist() == [True, False]
