"""Which tasks of a project a preview looks at."""

from array import array

import pytest

from backend.prelabel.sample import candidates, evenly
from backend.prelabel.wanted import Wanted

from ....doubles.studio_project import Kept, ReadOnlyProject


def numbers(count: int) -> "array[int]":
    return array("q", range(1, count + 1))


def test_one_task_comes_from_each_equal_part():
    chosen = evenly(numbers(100_000), 24)

    assert len(chosen) == 24
    parts = [(one - 1) * 24 // 100_000 for one in chosen]
    assert parts == list(range(24))


def test_the_same_seed_chooses_the_same_and_another_one_others():
    assert evenly(numbers(1000), 10) == evenly(numbers(1000), 10)
    assert evenly(numbers(1000), 10) != evenly(numbers(1000), 10, seed=2)


@pytest.mark.parametrize("count", [0, 1, 2, 24])
def test_of_few_tasks_all_are_looked_at(count: int):
    assert evenly(numbers(count), 24) == list(range(1, count + 1))


def test_parts_that_are_not_whole_give_no_task_twice():
    chosen = evenly(numbers(7), 5)

    assert len(set(chosen)) == 5
    assert chosen == sorted(chosen)


def project() -> ReadOnlyProject:
    tasks = [
        Kept(1, {}),
        Kept(2, {}, annotations=1),
        Kept(3, {}, draft=True),
        Kept(4, {}, versions=("ours",)),
        Kept(5, {}, versions=("older",)),
    ]
    return ReadOnlyProject("", tasks, views={9: [5, 4, 2, 1]})


def test_what_a_run_would_leave_alone_is_left_alone():
    found = candidates(project(), Wanted(project=7), "ours")

    assert list(found.all) == [1, 2, 3, 4, 5]
    assert list(found.to_do) == [1, 5]


def test_a_view_keeps_its_order_and_filters_hold_too():
    found = candidates(project(), Wanted(project=7, view=9, filters=("id>=2",)), "ours")

    assert list(found.all) == [5, 4, 2]
    assert list(found.to_do) == [5]


def test_where_everything_is_done_everything_may_be_looked_at():
    found = candidates(project(), Wanted(project=7, filters=("id=4",)), "ours")

    assert list(found.to_do) == []
    assert list(found.worth_looking_at) == [4]


def test_redoing_and_annotated_tasks_are_taken_where_they_are_wanted():
    wanted = Wanted(project=7, redo=True, include_annotated=True, limit=3)

    assert list(candidates(project(), wanted, "ours").to_do) == [1, 2, 3]
