"""Learning in another process: the same answer from everywhere, and an end when nobody waits."""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.errors import FitFailed
from backend.labelstudio.tasks import Task
from backend.learning import fit
from backend.learning.apart import LEFT_ALONE, FitApart, _ask
from backend.learning.evidence import Evidence
from backend.learning.records import Changed, Records
from backend.lessons import Lesson
from backend.storage.sqlite import SqliteStorage
from backend.studying import Course

from ....doubles.classroom import SCOPE, Classroom, StubExaminer, latest, run
from ....doubles.turned_tasks import course, task

WIDE = 96  # features
MANY = tuple(f"label {number}" for number in range(30))


def turned(number: int, **changes: Any) -> Evidence:
    return task(number, looks=(4, 5, 6), noise=0.5, **changes)


def wide() -> list[Evidence]:
    """So many places and labels that several threads would share out every sum."""
    return [
        task(number, labels=MANY, looks=range(1, 1 + len(MANY)), noise=0.5, side=20, embed=WIDE)
        for number in range(12)
    ]


def digests(known: fit.Taught) -> tuple[str, str]:
    return known.lesson.digest, known.candidate.digest


def test_the_answer_is_the_same_as_here() -> None:
    told = [turned(number) for number in range(8)]

    apart, here = FitApart()(told, course()), fit.learn(told, course())

    assert digests(apart) == digests(here)
    assert apart.verdict == here.verdict
    assert apart.lesson.labels


def test_words_background_and_a_mean_row_go_along() -> None:
    about = course(words=2, behind=2)
    about = replace(about, vocabulary=replace(about.vocabulary, mean_row=torch.full((8,), 0.1)))
    gains = torch.cat([about.gains, 5 * torch.full((8, 1), 0.1)], dim=1)
    about = replace(about, gains=gains)
    told = [turned(number) for number in range(12)]

    assert digests(FitApart()(told, about)) == digests(fit.learn(told, about))


def test_threads_and_order_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    told = wide()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    two = FitApart()(told, course(MANY, embed=WIDE))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    one = FitApart()(told[::-1], course(MANY, embed=WIDE))

    assert digests(one) == digests(two)


def test_an_end_without_an_answer_is_told_and_its_reason_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    about = course()
    told = [turned(number) for number in range(8)]

    with pytest.raises(FitFailed) as caught:
        FitApart()(told, replace(about, gains=about.gains[:4]))

    assert str(caught.value) == (
        "the process that learns ended without an answer, with status 1; see the log"
    )
    assert "RuntimeError: " in caplog.text


def test_it_takes_our_code_wherever_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "__init__.py").write_text("raise SystemExit(9)")
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)

    assert FitApart()([turned(number) for number in range(8)], course()).lesson.labels


def test_it_ends_with_whoever_asked() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "backend.learning.apart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        _ask(process.stdin, wide() * 10, course(MANY, embed=WIDE))
        process.stdin.close()

        assert process.wait(timeout=60) == LEFT_ALONE
        assert process.stdout is not None
        assert process.stdout.read() == b""


class Turned(StubExaminer):
    """Tasks of real features, each noisy in the way its annotation says."""

    @property
    def courses(self) -> Sequence[Course]:
        return [course()]

    def examine(self, task: Task, annotations: Sequence[Any]) -> Evidence | None:
        found = latest(annotations)
        if found is None:
            return None
        number = int(task.id or 0)
        return replace(
            turned(found["says"]),
            task=number,
            annotation=found["id"],
            stamp=self.stamp(annotations) or "",
        )


def lesson_in(path: Path, room: Classroom, batches: Sequence[Sequence[int]]) -> Lesson:
    """What is active at the end, in a file opened anew for every batch of events."""
    for batch in batches:
        with contextlib.closing(SqliteStorage(path, max_blob_bytes=0)) as storage:
            Records(storage, SCOPE).note(Changed(tasks=frozenset(batch)))
            run(storage, room, Turned(), learn=FitApart())
    with contextlib.closing(SqliteStorage(path, max_blob_bytes=0)) as storage:
        records = Records(storage, SCOPE)
        digest = records.active()[0].digest
        assert digest is not None
        learned = records.learned(digest)
        assert learned is not None
        return learned.lessons["label"]


def test_restarts_and_the_order_of_events_leave_no_trace(tmp_path: Path) -> None:
    room = Classroom()
    for number in range(1, 11):
        room.annotate(number, number)

    together = lesson_in(tmp_path / "one.sqlite", room, [range(1, 11)])
    one_by_one = lesson_in(tmp_path / "two.sqlite", room, [[10, 9, 8], [7], [3, 2, 1], [6, 5, 4]])

    assert one_by_one.digest == together.digest
    assert len(together.bias) == 4
