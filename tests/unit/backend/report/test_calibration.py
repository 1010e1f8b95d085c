"""Score against quality."""

import pytest

from backend.report.calibration import calibration


def test_the_error_is_the_mean_distance_weighted_by_pictures():
    found = calibration([0.95] * 3 + [0.15], [0.75] * 3 + [0.15])

    assert found.error == pytest.approx(0.75 * 0.2)
    assert [(one.low, one.count) for one in found.bins] == [(0.1, 1), (0.9, 3)]


def test_within_a_bin_too_high_and_too_low_even_out():
    assert calibration([0.55, 0.55], [0.45, 0.65]).error == pytest.approx(0)


def test_a_score_of_one_has_a_bin():
    (only,) = calibration([1.0], [1.0]).bins

    assert (only.low, only.high) == (0.9, 1.0)


def test_nothing_scored_has_no_error():
    found = calibration([], [])

    assert (found.bins, found.error) == ((), None)
    assert found.to_json()["expected_calibration_error"] is None
