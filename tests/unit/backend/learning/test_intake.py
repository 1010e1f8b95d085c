"""Events: what they mean, that nobody waits for anything, and that none is lost."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from backend.jobs.base import Job
from backend.jobs.book import BookRules, JobBook
from backend.learning.intake import (
    EVERYTHING,
    MOST_NUMBERS,
    MOST_UNREAD,
    PROJECT,
    Intake,
    read_event,
)
from backend.learning.records import Changed, Gone, Records
from backend.learning.works import LEARN
from backend.prelabel.works import LabelStudio
from backend.storage.base import Scope
from backend.storage.memory import MemoryStorage

from ....doubles.away_storage import AwayStorage
from ....doubles.waiting import Clock, until

STUDIO = LabelStudio(url="http://ls.example", token="t")


def tasks(*numbers: int) -> Changed:
    return Changed(tasks=frozenset(numbers))


def body(action: str, project: int = 12, **more: Any) -> dict[str, Any]:
    return {"action": action, "project": {"id": project, "label_config": "<View/>"}, **more}


def created(task: int, project: int = 12) -> bytes:
    annotation = {"id": 1, "task": task, "result": [{"value": {"rle": [0] * 10}}]}
    return json.dumps(body("ANNOTATION_CREATED", project, annotation=annotation)).encode()


@pytest.mark.parametrize(
    ("event", "meaning"),
    [
        (body("ANNOTATION_CREATED", annotation={"id": 3, "task": 5}, task={"id": 5}), tasks(5)),
        (body("ANNOTATION_UPDATED", annotation={"id": 3, "task": 5}), tasks(5)),
        (body("ANNOTATION_CREATED", annotation={"id": 3}, task={"id": 5}), tasks(5)),
        (
            body(
                "ANNOTATIONS_CREATED",
                annotation=[{"id": 3, "task": 5}, {"id": 4, "task": 6}],
                task=[{"id": 5}, {"id": 6}],
            ),
            tasks(5, 6),
        ),
        (
            body("ANNOTATIONS_DELETED", annotations=[{"id": 3}, {"id": 4}]),
            Changed(annotations=frozenset({3, 4})),
        ),
        (
            body("ANNOTATION_DELETED", annotation={"id": 3, "task": 5}),
            Changed(annotations=frozenset({3}), tasks=frozenset({5})),
        ),
        (body("TASKS_DELETED", tasks=[{"id": 5}, {"id": 6}]), tasks(5, 6)),
        (body("PROJECT_UPDATED"), PROJECT),
        (body("START_TRAINING"), EVERYTHING),
        (body("ANNOTATION_CREATED", annotation=None), PROJECT),
        (body("ANNOTATION_CREATED", annotation={"task": "x"}, task=[{}, 5, None, True]), tasks(5)),
    ],
)
def test_what_an_event_means(event: dict[str, Any], meaning: Changed):
    assert read_event(event) == (12, meaning)


@pytest.mark.parametrize(
    "event",
    [
        None, [], "x", {}, {"action": "START_TRAINING"}, {"project": {"id": 12}},
        {"action": ["START_TRAINING"], "project": {"id": 12}},
        {"action": "START_TRAINING", "project": {"id": "x"}},
        {"action": "START_TRAINING", "project": {"id": "9" * 40}},
        {"action": "TASKS_CREATED", "project": {"id": 12}},
        {"action": "LABEL_LINK_CREATED", "project": {"id": 12}},
    ],
)  # fmt: skip
def test_what_is_not_about_annotations_means_nothing(event: Any):
    assert read_event(event) is None


def test_a_project_may_be_named_by_its_number_and_birth():
    assert read_event({"action": "START_TRAINING", "project": "12.1795190531"}) == (12, EVERYTHING)


class Office:
    """An intake over a store that can be away, and the jobs it places."""

    def __init__(self) -> None:
        self.memory = MemoryStorage(max_blob_bytes=0)
        self.store = AwayStorage(self.memory)
        self.book = JobBook(self.memory, rules=BookRules(most_open=5))
        self.clock = Clock(0.0)
        self.woken: list[Job] = []
        self.intakes: list[Intake] = []

    def intake(self, store: Any = None) -> Intake:
        made = Intake(
            store or self.store,
            self.book,
            STUDIO,
            wake=self.woken.append,
            look=0.002,
            clock=self.clock,
        )
        self.intakes.append(made)
        return made

    def records(self, project: int = 12) -> Records:
        return Records(self.memory, STUDIO.scope(project))

    def jobs(self, project: int = 12) -> list[Job]:
        return self.book.all(scope=STUDIO.scope(project))

    def end(self, job: Job, *, failing: bool = False) -> None:
        lease = self.book.claim("me", token="t", kinds=[LEARN], only=job.id)
        assert lease is not None
        if failing:
            self.book.fail(lease, "it cannot be", hopeless=True)
        else:
            self.book.finish(lease, None)


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office()
    yield made
    made.store.away = False
    for intake in made.intakes:
        intake.close()


def test_an_event_is_written_down_and_a_job_is_placed(office: Office):
    intake = office.intake()
    intake.start()
    intake(created(5))
    until(lambda: bool(office.woken))

    (job,) = office.jobs()
    assert office.woken == [job]
    assert job.params == {"project": 12, "reread": False, "now": False}
    assert office.records().unsettled()[0] == tasks(5)
    assert intake.facts() == {
        "pending": 0,
        "spooled": 0,
        "unsettled": [12],
        "trouble": None,
    }


def test_a_store_that_never_answers_keeps_nobody_waiting(office: Office):
    asked, answers = threading.Event(), threading.Event()

    class Silent(AwayStorage):
        def _reach(self) -> None:
            asked.set()
            assert answers.wait(60)

    intake = office.intake(Silent(office.memory))
    intake.start()
    assert asked.wait(60)

    for task in range(1, 2 * MOST_UNREAD):
        intake(created(task))
    assert intake.facts()["pending"] > 0
    assert not office.woken
    answers.set()
    until(lambda: office.records().unsettled()[0] == tasks(*range(1, 2 * MOST_UNREAD)))


def test_while_the_store_is_away_events_wait_and_that_is_said(office: Office):
    office.store.away = True
    intake = office.intake()
    intake.start()
    intake(created(5))
    until(lambda: intake.facts()["trouble"] is not None)
    intake(created(6))
    until(lambda: intake.facts()["pending"] == 2)
    assert intake.facts()["trouble"] == "the store cannot be reached"

    office.store.away = False
    until(lambda: bool(office.woken))
    assert office.records().unsettled()[0] == tasks(5, 6)
    until(lambda: intake.facts()["trouble"] is None)


def test_an_event_that_comes_while_a_job_is_ending_gets_a_job_of_its_own(office: Office):
    intake = office.intake()
    intake.start()
    intake(created(5))
    until(lambda: len(office.woken) == 1)
    _, upto = office.records().unsettled()
    intake(created(6))  # the job has looked for more by now, and found nothing
    until(lambda: office.records().unsettled()[1] > upto)
    office.records().settled(upto)
    office.end(office.woken[0])

    until(lambda: len(office.woken) == 2)
    assert office.records().unsettled()[0] == tasks(6)
    office.records().settled(upto + 1)
    until(lambda: intake.facts()["unsettled"] == [])


def test_a_job_that_settles_nothing_is_placed_again_ever_more_slowly(office: Office):
    intake = office.intake()
    intake.start()
    intake(created(5))
    until(lambda: len(office.woken) == 1)
    office.end(office.woken[0], failing=True)
    asked = office.store.calls
    until(lambda: office.store.calls > asked + 50)
    assert len(office.woken) == 1

    for count in (2, 3, 4):
        office.clock.move(0.002 * 2 ** (count - 2))
        until(lambda n=count: len(office.woken) == n)  # type: ignore[misc]
        office.end(office.woken[-1], failing=True)
    intake(created(6))  # news
    until(lambda: len(office.woken) == 5)


def test_a_cancelled_job_stays_cancelled_until_there_is_news(office: Office):
    intake = office.intake()
    intake.start()
    intake(created(5))
    until(lambda: len(office.woken) == 1)
    office.book.cancel(office.woken[0].id)
    office.clock.move(3600)
    asked = office.store.calls
    until(lambda: office.store.calls > asked + 50)
    assert len(office.woken) == 1

    intake(created(6))
    until(lambda: len(office.woken) == 2)


def test_what_an_earlier_process_left_is_found_at_the_start(office: Office):
    office.records().note(tasks(5))
    Records(office.memory, Scope("http://other.example:80", "12")).note(tasks(5))
    intake = office.intake()
    intake.start()
    until(lambda: bool(office.woken))

    assert [job.scope for job in office.book.all()] == [STUDIO.scope(12)]
    assert office.records().unsettled()[0] == tasks(5)


def test_projects_that_are_known_are_read_anew_at_the_start(office: Office):
    for project in (12, 13):
        office.records(project).note(tasks(5))
        office.records(project).settled(1)
    known = office.records(12)
    known.settle(Gone(task=5, when=0.0), known.look(5))
    intake = office.intake()
    intake.start()
    until(lambda: bool(office.woken))

    assert known.unsettled()[0] == EVERYTHING
    assert office.records(13).oldest_unsettled() == 0


def test_too_many_tasks_become_the_whole_project(office: Office):
    office.store.away = True
    intake = office.intake()
    many = [{"id": number} for number in range(1, MOST_NUMBERS + 2)]
    intake(json.dumps(body("TASKS_DELETED", tasks=many)).encode())
    intake.start()
    until(lambda: intake.facts()["pending"] == 1)
    office.store.away = False
    until(lambda: bool(office.woken))

    assert office.records().unsettled()[0] == EVERYTHING


def test_what_is_no_event_does_no_harm(office: Office):
    intake = office.intake()
    intake.start()
    for given in (b"", b"{", b"\xff", b"[" * 100_000, b"null", b'{"action": 1}'):
        intake(given)
    intake(created(6, 13).decode().encode("utf-16"))
    intake(created(6, 13)[:-1] + b', "more": Infinity}')
    intake(created(5))
    until(lambda: bool(office.woken))

    assert office.records().unsettled()[0] == tasks(5)
    assert office.records(13).unsettled()[0] == PROJECT


def test_events_of_two_projects_are_kept_apart(office: Office):
    intake = office.intake()
    intake.start()
    intake(created(5, project=12))
    intake(created(6, project=13))
    until(lambda: len(office.woken) == 2)

    assert office.records(12).unsettled()[0] == tasks(5)
    assert office.records(13).unsettled()[0] == tasks(6)


def test_projects_that_nobody_has_do_not_fill_the_book(office: Office):
    intake = office.intake()
    intake.start()
    for project in range(1, 40):
        intake(created(5, project))
    until(lambda: intake.facts()["pending"] == 0)
    until(lambda: len(office.woken) == 4)
    asked = office.store.calls
    until(lambda: office.store.calls > asked + 200)

    assert len(office.book.all()) == 4


def test_what_waits_is_written_down_at_the_end(office: Office):
    intake = office.intake()
    gate, leave = threading.Event(), threading.Event()
    inner = office.store.meanwhile

    def hold() -> None:
        gate.set()
        assert leave.wait(60)

    office.store.held_at, office.store.meanwhile = 1, hold
    intake.start()
    assert gate.wait(60)
    intake(created(5))
    closing = threading.Thread(target=intake.close)
    closing.start()
    leave.set()
    closing.join()
    office.store.meanwhile = inner

    assert office.records().unsettled()[0] == tasks(5)
