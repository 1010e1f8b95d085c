"""Quality in the order of corrections."""

import pytest

from backend.report.curve import MOST_POINTS, by_order

from .test_saving import line


def lines(count: int, *, backwards: bool = False):
    numbers = list(range(count))
    found = [
        line("untouched" if number >= count / 2 else "redone")._replace(
            task=number,
            created=float(number),
            quality=number / count,
            version="old" if number < count / 2 else "new",
        )
        for number in numbers
    ]
    return found[::-1] if backwards else found


def test_points_follow_the_time_of_annotation_whatever_the_order_of_tasks():
    found = by_order(lines(20, backwards=True))

    assert [(one.first, one.last) for one in found] == [(1, 5), (6, 10), (11, 15), (16, 20)]
    assert [one.quality for one in found] == pytest.approx([0.1, 0.35, 0.6, 0.85])
    assert [one.version for one in found] == ["old", "old", "new", "new"]
    assert [one.untouched for one in found] == [0, 0, 1, 1]


@pytest.mark.parametrize(("count", "points"), [(0, 0), (1, 1), (2, 1), (9, 1), (10, 2), (999, 12)])
def test_points_are_few_and_hold_every_correction_once(count, points):
    found = by_order(lines(count))

    assert len(found) == points <= MOST_POINTS
    assert sum(one.count for one in found) == count


def test_corrections_of_unknown_time_are_left_out():
    assert by_order([line("redone")]) == []
