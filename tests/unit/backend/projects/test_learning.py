"""What a page is told of learning: bounded, and label by label where that matters."""

import pytest

from backend.learning.records import LeftOut, Records, Version
from backend.lessons import BEHIND, Learned, Lesson
from backend.projects.learning import MOST_LABELS, MOST_LEFT_OUT, MOST_WORDS, learning_of
from backend.storage.base import Scope
from backend.storage.memory import MemoryStorage


@pytest.fixture
def records() -> Records:
    return Records(MemoryStorage(max_blob_bytes=0), Scope("http://ls.example:80", "7"))


def remember(records: Records, number: int, lesson: Lesson | None = None, **verdict: object) -> str:
    learned = Learned(lessons={"seg": lesson or Lesson(model=f"{number}", labels=("cat",))})
    records.keep(learned)
    said = {"better": False, "reason": "that may be chance", "tasks": 5, **verdict}
    made = Version(
        digest=learned.digest, used=False, made_from=f"{number}", chosen=(1,), when=float(number),
        verdicts={"seg": said},
    )  # fmt: skip
    records.remember(made)
    return learned.digest


def test_of_many_tasks_that_teach_nothing_a_few_are_named(records: Records):
    for task in range(MOST_LEFT_OUT + 5):
        records.settle(LeftOut(task=task, reason="gone"), records.look(task))

    state, versions = learning_of(records)

    assert state["left_out"]["count"] == MOST_LEFT_OUT + 5
    assert [one["task"] for one in state["left_out"]["shown"]] == list(range(MOST_LEFT_OUT))
    assert versions == []


def test_labels_are_told_of_the_newest_version_and_of_the_one_in_use(records: Records):
    first, second, third = (remember(records, number) for number in (1, 2, 3))
    active, revision = records.active()
    assert records.activate(type(active)(digest=first), expected=revision)

    _, versions = learning_of(records)

    told = {one["digest"]: one["controls"][0]["labels"] is not None for one in versions}
    assert told == {third: True, second: False, first: True}


def test_of_many_labels_those_that_gained_least_are_told(records: Records):
    judged = {f"{n:03}": [0.0, float(n)] for n in range(MOST_LABELS + 10)}
    remember(records, 1, per_label=judged)

    (version,) = learning_of(records)[1]
    labels = version["controls"][0]["labels"]

    assert [one["label"] for one in labels] == [f"{n:03}" for n in range(MOST_LABELS)]


def test_words_of_the_background_are_no_label_and_words_are_bounded(records: Records):
    words = {BEHIND: {"wall": 1.0}, "cat": {f"{n:02}": 1.0 for n in range(MOST_WORDS + 1)}}
    remember(records, 1, Lesson(model="m", words=words))

    (version,) = learning_of(records)[1]
    (label,) = version["controls"][0]["labels"]

    assert label["label"] == "cat"
    assert len(label["words"]) == MOST_WORDS


def test_a_version_whose_lessons_are_gone_still_says_why(records: Records):
    made = Version(
        digest="gone", used=False, made_from="1", chosen=(), when=1.0,
        verdicts={"seg": {"better": False, "reason": "because", "tasks": 5}},
    )  # fmt: skip
    records.remember(made)

    (version,) = learning_of(records)[1]

    assert version["controls"][0]["reason"] == "because"
    assert version["controls"][0]["labels"] == []
