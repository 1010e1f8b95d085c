"""Which tasks say most."""

import numpy as np
import pytest

from backend.learning.choosing import choose

NOTHING = np.zeros(2)


def test_a_label_nobody_saw_comes_before_more_of_one_that_was_seen() -> None:
    doubt = np.array([[0.10, 0.0], [0.09, 0.0], [0.0, 0.05]])

    assert choose(doubt, seen=NOTHING, count=3) == [0, 2, 1]


def test_what_corrected_tasks_showed_counts_as_seen() -> None:
    doubt = np.array([[0.10, 0.0], [0.0, 0.05]])

    assert choose(doubt, seen=np.array([1.0, 0.0]), count=1) == [1]


def test_a_task_without_doubt_comes_last() -> None:
    doubt = np.array([[0.0, 0.0], [0.01, 0.0], [0.0, 0.02]])

    assert choose(doubt, seen=NOTHING, count=3)[-1] == 0


def test_equal_tasks_come_in_their_order() -> None:
    assert choose(np.full((4, 2), 0.1), seen=NOTHING, count=4) == [0, 1, 2, 3]


@pytest.mark.parametrize(("tasks", "count", "found"), [(0, 5, 0), (3, 5, 3), (3, 0, 0)])
def test_there_are_never_more_than_there_are_or_were_asked_for(
    tasks: int, count: int, found: int
) -> None:
    assert len(choose(np.full((tasks, 2), 0.1), seen=NOTHING, count=count)) == found


def test_without_any_label_tasks_come_in_their_order() -> None:
    assert choose(np.zeros((2, 0)), seen=np.zeros(0), count=2) == [0, 1]
