"""Figures as people say them."""

import pytest

from backend.prelabel.figures import buckets, duration, percent, plural, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than 1 s"),
        (45.4, "45 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (1234, "20 min"),
        (3599, "1 h"),
        (7500, "2 h 5 min"),
        (86_400, "1 day"),
        (3 * 86_400 + 4 * 3600, "3 days 4 h"),
        (40 * 86_400, "40 days"),
    ],
)
def test_times(seconds: float, words: str):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (850_000, "850 kB"), (999_900, "1.0 MB"), (1.23e9, "1.2 GB"), (45e9, "45 GB")],
)
def test_sizes(count: float, words: str):
    assert size(count) == words


def test_small_shares_keep_a_digit():
    assert [percent(one) for one in (0, 0.004, 0.12, 1)] == ["0 %", "0.4 %", "12 %", "100 %"]


def test_one_of_a_thing_is_no_plural():
    assert [plural(one, "task") for one in (0, 1, 40_000)] == ["0 tasks", "1 task", "40,000 tasks"]


def test_counts_fall_into_ranges_up_to_the_last_with_any():
    assert buckets([0, 2, 4, 5]) == [("0", 1), ("1", 0), ("2", 1), ("3–5", 2)]
    assert buckets([]) == []
    assert buckets([1000])[-1] == ("51 or more", 1)
