"""Which values of a deep picture are shown black, and which white."""

import numpy as np
import pytest

from backend.images.window import SAMPLES, Window, to_8_bits, window_of


def test_half_a_percent_at_either_end_decides_nothing():
    values = np.arange(1001)

    assert window_of([values[:300], values[300:]], total=1001) == Window(5.0, 995.0)


def test_nearly_one_value_leaves_the_window_to_the_few_others():
    values = np.array([7.0] * 1000 + [3.0, 9.0])

    assert window_of([values], total=values.size) == Window(3.0, 9.0)


@pytest.mark.parametrize("blocks", [[], [np.zeros(0)], [np.full(3, np.nan), np.array([np.inf])]])
def test_without_a_single_number_the_window_is_nothing(blocks: list[np.ndarray]):
    assert window_of(blocks, total=0) == Window(0.0, 0.0)


def test_large_pictures_are_measured_on_a_sample():
    blocks = (np.arange(1000, dtype=np.uint16) for _ in range(4 * SAMPLES // 1000))

    window = window_of(blocks, total=4 * SAMPLES)

    assert (window.low, window.high) == pytest.approx((5, 994), abs=4)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([-5, 10, 20, 30, 99], np.int16), [0, 0, 128, 255, 255]),
        (np.array([np.nan, np.inf, -np.inf, 15.0]), [0, 255, 0, 64]),
    ],
)
def test_the_window_is_stretched_over_8_bits(values: np.ndarray, shown: list[int]):
    assert to_8_bits(values, Window(10.0, 30.0)).tolist() == shown


def test_one_value_is_grey_and_what_is_no_number_black():
    assert to_8_bits(np.array([4.0, np.nan]), Window(4.0, 4.0)).tolist() == [128, 0]


def test_the_widest_window_there_is_does_not_overflow():
    most = float(np.finfo(np.float64).max)

    assert to_8_bits(np.array([-most, 0.0, most]), Window(-most, most)).tolist() == [0, 128, 255]
