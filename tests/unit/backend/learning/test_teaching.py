"""What predictions are told of what was learnt."""

import numpy as np
import pytest

from backend.learning.records import Active, Records
from backend.learning.teaching import MOST_PROJECTS, StoredTeaching
from backend.lessons import Learned, Lesson
from backend.storage.base import Scope
from backend.storage.memory import MemoryStorage

from ....doubles.away_storage import AwayStorage
from ....doubles.waiting import Clock

HERE = Scope("http://ls.example:80", "12.1795190531")


def learned(number: float = 1.0) -> Learned:
    lesson = Lesson(model="m", bias=np.array([number, 0], np.float16))
    return Learned(lessons={"seg": lesson})


@pytest.fixture
def store() -> AwayStorage:
    return AwayStorage(MemoryStorage(max_blob_bytes=0))


def switch_on(store: AwayStorage, what: Learned | None, scope: Scope = HERE) -> None:
    records = Records(store, scope)
    if what is not None:
        records.keep(what)
    active = Active(digest=None if what is None else what.digest, tasks=5)
    assert records.activate(active, expected=records.active()[1])


def test_a_project_is_known_by_its_number_whatever_its_birth(store: AwayStorage):
    switch_on(store, learned(), Scope(HERE.origin, "12"))
    teaching = StoredTeaching(store)

    for project in ("12", "12.1795190531"):
        found = teaching.of(Scope(HERE.origin, project))
        assert found is not None
        assert found.digest == learned().digest
    assert teaching.of(Scope(HERE.origin, "1")) is None
    assert teaching.of(Scope("http://other.example:80", "12")) is None


def test_what_another_process_switches_on_or_off_is_in_force_at_once(store: AwayStorage):
    teaching = StoredTeaching(store)
    told = []
    for what in (None, learned(1), learned(2), learned(1), None):
        switch_on(store, what)
        found = teaching.of(HERE)
        told.append(None if found is None else found.digest)

    one, two = learned(1).digest, learned(2).digest
    assert told == [None, one, two, one, None]


def test_a_version_that_is_known_costs_one_question(store: AwayStorage):
    switch_on(store, learned())
    teaching = StoredTeaching(store)
    first = teaching.of(HERE)
    before = store.calls

    assert teaching.of(HERE) is first
    assert store.calls == before + 1


def test_a_store_that_is_away_takes_nothing_back(store: AwayStorage):
    switch_on(store, learned())
    teaching = StoredTeaching(store)
    first = teaching.of(HERE)
    store.away = True

    assert teaching.of(HERE) is first
    assert teaching.of(Scope(HERE.origin, "13")) is None
    assert teaching.facts() == {
        "active": {"12": {"version": learned().digest, "tasks": 5, "pinned": False}},
        "trouble": "the store cannot be reached",
    }
    store.away = False
    switch_on(store, None)
    assert teaching.of(HERE) is None
    assert teaching.facts()["trouble"] is None


def test_a_store_that_fails_slowly_is_left_alone_for_a_while(store: AwayStorage):
    clock = Clock()
    teaching = StoredTeaching(store, clock=clock)
    store.away, store.held_at = True, store.calls + 1
    store.meanwhile = lambda: clock.move(5)
    teaching.of(HERE)
    asked = store.calls

    teaching.of(HERE)
    assert store.calls == asked
    clock.move(15)
    teaching.of(HERE)
    assert store.calls == asked + 1


def test_a_version_that_is_not_there_is_said_and_changes_nothing(store: AwayStorage):
    switch_on(store, learned())
    teaching = StoredTeaching(store)
    first = teaching.of(HERE)
    records = Records(store, HERE)
    records.activate(Active(digest="0123456789ab"), expected=records.active()[1])

    assert teaching.of(HERE) is first
    assert teaching.facts()["trouble"] == "version 0123456789ab of project 12 is not there"


def test_projects_in_memory_are_bounded(store: AwayStorage):
    teaching = StoredTeaching(store)
    for number in range(MOST_PROJECTS + 5):
        teaching.of(Scope(HERE.origin, str(number)))

    assert len(teaching.facts()["active"]) == MOST_PROJECTS
