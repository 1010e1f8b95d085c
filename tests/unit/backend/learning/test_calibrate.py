"""Thresholds and expected quality from held-out tasks."""

from typing import Any

import numpy as np
import pytest

from backend.learning.calibrate import (
    FEWEST_JUDGED,
    FEWEST_RAISED,
    Judged,
    as_presence,
    quality,
    thresholds,
)
from backend.lessons import expected_quality


def judged(count: int) -> list[Judged]:
    """Quality follows the margin."""
    margins = np.linspace(0, 1, count)
    return [
        Judged(signals=(margin, 0.5, 0.5, 1.0), quality=0.2 + 0.6 * margin) for margin in margins
    ]


def test_expected_quality_follows_what_held_out_tasks_showed() -> None:
    weights = quality(judged(60))

    for one in judged(7):
        assert expected_quality(one.signals, weights) == pytest.approx(one.quality, abs=0.12)


def test_a_few_tasks_say_nothing_about_quality() -> None:
    assert quality(judged(FEWEST_JUDGED - 1)) == ()
    assert quality([]) == ()


def test_equal_tasks_expect_the_same_of_every_picture() -> None:
    weights = quality([Judged(signals=(0.5, 0.5, 0.5, 1.0), quality=1.0)] * 20)

    assert np.isfinite(weights).all()
    assert expected_quality((0.5, 0.5, 0.5, 1.0), weights) > 0.95


def raised(presence: Any, painted: Any, *, needed: float = 0.5, tasks: int = FEWEST_RAISED) -> Any:
    """Thresholds of one label; in further tasks it is neither seen nor painted."""
    more = tasks - len(presence)
    presence, painted = (np.pad(one, ((0, more), (0, 0))) for one in (presence, painted))
    return thresholds(presence, painted, [needed], ["cloud"])


def test_few_tasks_raise_no_threshold() -> None:
    presence = np.array([[0.62], [0.58], [0.64], [0.61], [0.92], [0.95]])
    painted = np.array([[False]] * 4 + [[True]] * 2)

    assert raised(presence, painted, tasks=FEWEST_RAISED - 1) == {}


def test_a_label_often_seen_where_nobody_painted_it_needs_more_presence() -> None:
    presence = np.array([[0.62], [0.58], [0.64], [0.61], [0.92], [0.95]])
    painted = np.array([[False]] * 4 + [[True]] * 2)

    assert raised(presence, painted) == {"cloud": 0.65}


def test_what_shows_in_one_half_of_the_tasks_only_may_be_chance() -> None:
    presence = np.array([[0.6], [0.95]] * 6)
    painted = np.array([[False], [True]] * 6)

    assert raised(presence, painted) == {}


@pytest.mark.parametrize("false", [0, 3])
def test_a_few_false_labels_are_no_reason(false: int) -> None:
    presence = np.array([[0.6]] * false + [[0.9]] * 4)
    painted = np.array([[False]] * false + [[True]] * 4)

    assert raised(presence, painted) == {}


def test_right_labels_are_not_given_up_for_false_ones() -> None:
    presence = np.array([[0.6]] * 4 + [[0.6]] * 3 + [[0.9]])
    painted = np.array([[False]] * 4 + [[True]] * 4)

    assert raised(presence, painted) == {}


def test_a_threshold_somebody_wrote_is_where_counting_begins() -> None:
    presence = np.array([[0.6], [0.6], [0.6], [0.9]])
    painted = np.array([[False], [False], [False], [True]])

    assert raised(presence, painted, needed=0.7) == {}


def test_presence_of_places_is_read_off_what_the_whole_model_said() -> None:
    places = np.linspace(0, 1, 200)

    told = as_presence(np.array([0.0, 0.25, 0.5, 1.0]), places=places, presence=places**2)

    np.testing.assert_allclose(told, [0.0, 0.0625, 0.25, 1.0], atol=0.05)


def test_presence_never_falls_with_what_places_say() -> None:
    chance = np.random.default_rng(0)
    places, presence = chance.random((2, 300))

    told = as_presence(np.linspace(0, 1, 50), places=places, presence=presence)

    assert (np.diff(told) >= 0).all()
