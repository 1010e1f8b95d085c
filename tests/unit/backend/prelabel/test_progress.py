"""Counts of a run, its rate, and what is said of failures."""

import json
import threading

import pytest

from backend.prelabel.progress import EXAMPLES, MOST_REASONS, WINDOW, Progress

from ....doubles.moments import Moments


@pytest.fixture
def moments() -> Moments:
    return Moments()


@pytest.fixture
def progress(moments: Moments) -> Progress:
    return Progress(clock=moments)


def test_nothing_is_known_before_anything_was_written(progress: Progress):
    progress.set(total=10)

    assert progress.per_second == 0.0
    assert progress.eta is None
    assert progress.to_json()["eta_seconds"] is None


def test_the_rate_is_that_of_the_last_minute(progress: Progress, moments: Moments):
    progress.set(total=1000)
    moments.now += 1000  # counting took long
    for _ in range(20):
        moments.now += 10
        progress.add("written", 20)

    assert progress.per_second == pytest.approx(2.0)
    assert progress.eta == pytest.approx(600 / 2.0)


def test_old_moments_are_forgotten(progress: Progress, moments: Moments):
    for _ in range(10_000):
        moments.now += 1
        progress.add("written")

    assert len(progress._moments) <= WINDOW + 2


def test_a_first_batch_makes_a_rate(progress: Progress, moments: Moments):
    progress.set(total=100)
    moments.now += 10
    progress.add("written", 50)

    assert progress.per_second == pytest.approx(5.0)
    assert progress.eta == pytest.approx(10.0)


def test_what_is_left_counts_down_to_nothing_and_not_below(progress: Progress):
    progress.set(total=10)
    for name in ("already", "annotated", "drafted", "gone", "written"):
        progress.add(name)
    progress.fail(1, "refused", "no")
    assert progress.left == 4

    progress.add("written", 100)
    assert progress.left == 0


def test_failures_are_told_by_kind_with_a_few_tasks_each(progress: Progress):
    progress.fail(1, "ImageMissing", "nothing there")
    for task in range(100):
        progress.fail(task, "Unreachable", f"{task} does not answer")

    assert list(progress.failures) == ["Unreachable", "ImageMissing"], "the most frequent first"
    assert progress.to_json()["failures"]["Unreachable"] == {
        "count": 100,
        "reason": "0 does not answer",
        "tasks": list(range(EXAMPLES)),
    }


def test_reasons_are_bounded_and_none_is_lost(progress: Progress):
    for task in range(10 * MOST_REASONS):
        progress.fail(task, f"kind {task}", "a sentence")

    assert progress.failed == 10 * MOST_REASONS
    assert len(progress.failures) == MOST_REASONS + 1
    assert progress.failures["other"].count == 9 * MOST_REASONS


def test_it_is_plain_json(progress: Progress, moments: Moments):
    progress.set(total=2)
    moments.now += 1
    progress.add("written")
    progress.spend("model", 1.0)
    progress.spend("model", 0.5)

    told = json.loads(json.dumps(progress.to_json()))

    assert told["left"] == 1
    assert told["spent"] == {"model": 1.5}


def test_many_threads_count_and_read_at_once(progress: Progress):
    """A dictionary that grows while it is summed raises."""
    stop, errors = threading.Event(), []

    def read() -> None:
        try:
            while not stop.is_set():
                json.dumps(progress.to_json())
        except RuntimeError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for task in range(3000):
        progress.fail(task, f"kind {task % 60}", "a sentence")
        progress.spend(f"step {task}", 1.0)
    stop.set()
    reader.join()

    assert errors == []
    assert progress.failed == 3000
