"""Which tasks teach, and how finely they are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from backend.learning.curriculum import Curriculum, Grain, curriculum, milestone


@pytest.mark.parametrize(
    ("tasks", "reached"),
    [(0, 0), (4, 0), (5, 5), (9, 5), (10, 10), (19, 10), (20, 20), (49, 20), (50, 50), (99, 50),
     (100, 100), (199, 100), (200, 200), (499, 200), (500, 500), (599, 500), (600, 600),
     (1234, 1200)],
)  # fmt: skip
def test_versions_come_at_round_numbers_and_more_often_once_tasks_are_thinned(
    tasks: int, reached: int
):
    assert milestone(tasks, most_whole=500) == reached


def test_the_tasks_corrected_first_teach_in_the_order_of_their_numbers():
    annotations = {9: 1, 3: 2, 7: 3, 1: 4, 5: 5, 2: 6, 4: 7}
    assert curriculum(annotations, most_whole=500).chosen == (1, 3, 5, 7, 9)


def test_somebody_may_ask_for_more_now_as_long_as_they_are_there():
    seven = {task: task for task in range(1, 8)}

    def taught(asked: int) -> int:
        return len(curriculum(seven, asked=asked, most_whole=500).chosen)

    assert [taught(asked) for asked in (3, 5, 6, 7, 8)] == [5, 5, 6, 7, 5]
    assert curriculum({1: 1}, asked=1, most_whole=500).chosen == ()


def test_no_tasks_and_two_tasks_teach_nothing():
    assert curriculum({}, most_whole=5) == Curriculum(chosen=(), grains={})
    assert curriculum({1: 1, 2: 2}, most_whole=5).chosen == ()


def test_the_oldest_are_thinned_and_the_oldest_of_these_let_go():
    found = curriculum({task: task for task in range(1, 61)}, most_whole=5)
    of = {grain: [t for t, g in found.grains.items() if g == grain] for grain in Grain}

    assert of[Grain.NAME] == [1, 2, 3, 4, 5]
    assert of[Grain.THIN] == list(range(6, 56))
    assert of[Grain.WHOLE] == list(range(56, 61))
    assert found.chosen == tuple(range(6, 61))


@given(
    annotations=some.dictionaries(some.integers(1, 500), some.integers(1, 10_000), max_size=80),
    new=some.integers(501, 600),
)
def test_a_new_correction_displaces_no_earlier_one(annotations: dict[int, int], new: int):
    before = curriculum(annotations, most_whole=20)
    after = curriculum({**annotations, new: 10_001}, most_whole=20)

    assert set(before.chosen) <= set(after.chosen)
    waiting = [t for t, g in after.grains.items() if g == Grain.WHOLE]
    assert len(waiting) <= 20 + 20 // 5 or len(annotations) < 25


def test_too_few_kept_whole_are_refused():
    with pytest.raises(ValueError, match="most_whole must be at least 5, got 4"):
        curriculum({}, most_whole=4)
