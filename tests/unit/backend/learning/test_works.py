"""Learning as a job: whatever happens on the way, what is active follows from the annotations."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from backend.jobs.base import Hopeless
from backend.learning.curriculum import Grain
from backend.learning.evidence import Evidence
from backend.learning.records import Active, Changed, Gone, Kept, LeftOut, Records
from backend.lessons import Lesson
from backend.storage.base import Key, Storage
from backend.storage.memory import MemoryStorage
from backend.storage.sqlite import SqliteStorage

from ....doubles.away_storage import AwayStorage, Killed
from ....doubles.classroom import (
    MEANS_NOTHING,
    NO_PICTURE,
    NOTHING,
    SCOPE,
    STUMBLES,
    Classroom,
    StubExaminer,
    evidence,
    learn,
    run,
)

Op = tuple[str, int, int]


def picture_of(storage: Storage) -> Any:
    """Everything that has to be the same: evidence to the byte, what is active, what was learnt."""
    records = Records(storage, SCOPE)
    below = Key(SCOPE, ("learning", "evidence"))
    raw = {
        key.path[-1]: found.value for key, found in storage.scan(below) if "gone" not in found.value
    }
    active = records.active()[0]
    learned = None if active.digest is None else records.learned(active.digest)
    return raw, active, None if learned is None else learned.to_json()


def fresh(room: Classroom) -> Any:
    """What a new store knows of the project as it is now."""
    storage = MemoryStorage(max_blob_bytes=0)
    run(storage, Classroom(tasks=room.tasks, last=room.last), reread=True)
    return picture_of(storage)


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage(max_blob_bytes=0)


@pytest.fixture
def room() -> Classroom:
    return Classroom()


def submit(
    room: Classroom, storage: Storage, tasks: Sequence[int], says: int | None = None
) -> None:
    """Annotate tasks, with an event for each."""
    for task in tasks:
        room.annotate(task, task if says is None else says)
        Records(storage, SCOPE).note(Changed(tasks=frozenset({task})))


def better(told: Sequence[Evidence], about: Any) -> Any:
    """A fit whose outcome is always used."""
    found = learn(told, about)
    return replace(found, lesson=found.candidate)


# -- everything at once ----------------------------------------------------------------------


class Story:
    """A project, a store, events on their way, and workers that die and meet each other."""

    def __init__(self, storage: Storage) -> None:
        self.room = Classroom()
        self.store = AwayStorage(storage)
        self.late: list[Changed] = []  # events that have not arrived yet

    def happens(self, op: Op) -> None:
        kind, first, second = op
        getattr(self, kind)(first, second)

    def submits(self, task: int, says: int) -> None:
        self.room.annotate(1 + task % 12, says)
        self.late.append(Changed(tasks=frozenset({1 + task % 12})))

    def updates(self, which: int, says: int) -> None:
        if known := self._annotations():
            annotation = known[which % len(known)]
            task = self.room.task_of(annotation)
            assert task is not None
            self.room.tasks[task][annotation] = says
            self.late.append(Changed(tasks=frozenset({task})))

    def deletes(self, which: int, _: int) -> None:
        if known := self._annotations():
            annotation = known[which % len(known)]
            task = self.room.task_of(annotation)
            assert task is not None
            del self.room.tasks[task][annotation]
            self.late.append(Changed(annotations=frozenset({annotation})))

    def deletes_a_task(self, which: int, _: int) -> None:
        if self.room.tasks:
            task = sorted(self.room.tasks)[which % len(self.room.tasks)]
            del self.room.tasks[task]
            self.late.append(Changed(tasks=frozenset({task})))

    def arrives(self, which: int, twice: int) -> None:
        if self.late:
            event = self.late[which % len(self.late)]
            if twice % 3:
                self.late.remove(event)
            self._records().note(event)

    def works(self, _: int, __: int) -> None:
        run(self.store, self.room)

    def dies(self, after: int, _: int) -> None:
        """A worker whose process ends at one of its questions to the store."""
        self.store.killed_at = self.store.calls + 1 + after
        with contextlib.suppress(Killed):
            run(self.store, self.room)
        self.store.killed_at = None

    def meets(self, when: int, op: int) -> None:
        """A worker that is overtaken by another at one of its questions to the store, after
        something else happened."""
        self.store.held_at = self.store.calls + 1 + when
        self.store.meanwhile = lambda: self._overtaken(op)
        run(self.store, self.room)
        self.store.held_at = None

    def stalls(self, when: int, op: int) -> None:
        """The same, at one of its questions to Label Studio."""
        self.room.held_at = self.room.asked + 1 + when
        self.room.meanwhile = lambda: self._overtaken(op)
        run(self.store, self.room)
        self.room.held_at = None

    def _overtaken(self, op: int) -> None:
        self.store.held_at = self.room.held_at = None
        change = (self.submits, self.updates, self.deletes, self.deletes_a_task)[op % 4]
        change(op, 1 + op % 5)
        if op % 3 and self.late:
            self._records().note(self.late.pop())
        run(self.store, self.room)

    def _annotations(self) -> list[int]:
        return sorted(number for known in self.room.tasks.values() for number in known)

    def _records(self) -> Records:
        return Records(self.store, SCOPE)

    def ends(self) -> None:
        for event in self.late:
            self._records().note(event)
        run(self.store, self.room)


NUMBER = some.integers(0, 60)
SAYS = some.sampled_from([1, 2, 3, 4, 5, 6, 7, NOTHING, NO_PICTURE, MEANS_NOTHING])
OPS = some.lists(
    some.one_of(
        some.tuples(some.just("submits"), NUMBER, SAYS),
        some.tuples(some.just("submits"), NUMBER, SAYS),
        some.tuples(some.sampled_from(["updates"]), NUMBER, SAYS),
        some.tuples(
            some.sampled_from(
                ["deletes", "deletes_a_task", "arrives", "works", "dies", "meets", "stalls"]
            ),
            NUMBER,
            NUMBER,
        ),
    ),
    max_size=40,
)


def check(storage: Storage, before: int, ops: Sequence[Op]) -> None:
    """`before`: tasks that are corrected at the beginning."""
    story = Story(storage)
    for task in range(before):
        story.submits(task, 1 + task)
    for op in ops:
        story.happens(op)
    story.ends()

    assert picture_of(storage) == fresh(story.room)
    assert Records(storage, SCOPE).oldest_unsettled() == 0


@settings(max_examples=200, deadline=None)
@given(before=some.integers(0, 9), ops=OPS)
def test_whatever_happens_in_whatever_order_it_ends_like_a_fresh_fit(before: int, ops: list[Op]):
    check(MemoryStorage(max_blob_bytes=0), before, ops)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=some.integers(0, 9), ops=OPS)
def test_in_a_file_it_ends_like_a_fresh_fit_too(
    before: int, ops: list[Op], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("store")
    with contextlib.closing(SqliteStorage(folder / "store.sqlite", max_blob_bytes=0)) as storage:
        check(storage, before, ops)


def every_moment(
    prepare: Callable[[], tuple[Storage, Classroom]], disturb: Callable[[AwayStorage, int], None]
) -> Iterator[tuple[Storage, Classroom]]:
    """A run that is disturbed at its first question to the store, at its second, and so on."""
    moment = 0
    while True:
        storage, room = prepare()
        store = AwayStorage(storage)
        moment += 1
        disturb(store, moment)
        with contextlib.suppress(Killed):
            run(store, room)
        yield storage, room
        if store.calls < moment:
            return


def five_tasks() -> tuple[Storage, Classroom]:
    storage, room = MemoryStorage(max_blob_bytes=0), Classroom()
    submit(room, storage, range(1, 6))
    return storage, room


def test_a_process_may_end_at_any_moment_and_the_next_one_goes_on():
    def kill(store: AwayStorage, moment: int) -> None:
        store.killed_at = moment

    for storage, room in every_moment(five_tasks, kill):
        run(storage, room)
        assert picture_of(storage) == fresh(room)


@dataclass
class Overtaken:
    """Task 3 is changed and settled by another worker, at any moment of a first one."""

    before: Callable[[Classroom, Storage], None]
    change: Callable[[Classroom], None]
    room: Classroom = field(default_factory=Classroom)

    def prepare(self) -> tuple[Storage, Classroom]:
        self.room = Classroom()
        storage = MemoryStorage(max_blob_bytes=0)
        self.before(self.room, storage)
        return storage, self.room

    def disturb(self, store: AwayStorage, moment: int) -> None:
        def meanwhile() -> None:
            store.held_at = None
            self.change(self.room)
            change = Changed(tasks=frozenset({3}), annotations=frozenset({103}))
            Records(store, SCOPE).note(change)
            run(store, self.room)

        store.held_at, store.meanwhile = moment, meanwhile

    def ends(self) -> Iterator[tuple[Storage, Classroom]]:
        return every_moment(self.prepare, self.disturb)


def test_what_was_read_before_an_annotation_was_deleted_never_stays():
    def before(room: Classroom, storage: Storage) -> None:
        submit(room, storage, range(1, 7))

    for storage, room in Overtaken(before, lambda room: room.tasks[3].clear()).ends():
        assert picture_of(storage) == fresh(room)


def test_what_was_read_before_an_annotation_was_changed_back_never_stays():
    def before(room: Classroom, storage: Storage) -> None:
        submit(room, storage, range(1, 7))
        run(storage, room)
        room.tasks[3][103] = 9
        Records(storage, SCOPE).note(Changed(tasks=frozenset({3})))

    def back(room: Classroom) -> None:
        room.tasks[3][103] = 3

    for storage, room in Overtaken(before, back).ends():
        assert picture_of(storage) == fresh(room)


def test_no_version_is_made_of_evidence_from_two_moments():
    """It would be taken for the one it is not, once what it should be of is there again."""

    def before(room: Classroom, storage: Storage) -> None:
        submit(room, storage, range(1, 6))

    def change(room: Classroom) -> None:
        room.tasks[3][103] = 9

    for storage, room in Overtaken(before, change).ends():
        room.tasks[3][103] = 3
        Records(storage, SCOPE).note(Changed(tasks=frozenset({3})))
        run(storage, room)
        assert picture_of(storage) == fresh(room)


# -- one by one --------------------------------------------------------------------------------


def test_four_corrections_teach_nothing_and_five_do(storage: MemoryStorage, room: Classroom):
    submit(room, storage, range(1, 5))
    few = run(storage, room, learn=better)
    submit(room, storage, [5])
    enough = run(storage, room, learn=better)

    assert (few["version"], few["kept"], few["learnt_from"]) == (None, 4, 0)
    assert (enough["kept"], enough["learnt_from"]) == (5, 5)
    (version,) = Records(storage, SCOPE).versions()
    assert (version.digest, version.used, version.chosen) == (
        enough["version"],
        True,
        (1, 2, 3, 4, 5),
    )


def test_between_two_milestones_nothing_is_fitted_unless_somebody_asks(
    storage: MemoryStorage, room: Classroom
):
    fits = []

    def counted(told: Sequence[Evidence], about: Any) -> Any:
        fits.append([one.task for one in told])
        return learn(told, about)

    submit(room, storage, range(1, 8))
    run(storage, room, learn=counted, most_whole=100)
    submit(room, storage, [9])
    run(storage, room, learn=counted, most_whole=100)
    run(storage, room, learn=counted, most_whole=100, now=True)
    submit(room, storage, [8])
    last = run(storage, room, learn=counted, most_whole=100)

    assert fits == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7, 9]]
    assert (last["kept"], last["learnt_from"]) == (9, 8)


def test_deleting_a_correction_brings_the_earlier_version_back_without_a_fit(
    storage: MemoryStorage, room: Classroom
):
    submit(room, storage, range(1, 10))
    before = run(storage, room, most_whole=100, learn=better)["version"]
    five = picture_of(storage)
    submit(room, storage, [10])
    run(storage, room, most_whole=100, learn=better)
    assert picture_of(storage) != five

    room.tasks[10].clear()
    Records(storage, SCOPE).note(Changed(annotations=frozenset({110})))

    def never(told: object, about: object) -> Any:
        raise AssertionError("there is nothing new to learn")

    again = run(storage, room, most_whole=100, learn=never)

    assert before is not None
    assert again["version"] == before
    assert picture_of(storage) == five


def test_what_says_the_same_is_not_examined_again(storage: MemoryStorage, room: Classroom):
    submit(room, storage, [1, 2, 3])
    run(storage, room)
    examiner = StubExaminer()
    room.tasks[2][102] = 9
    run(storage, room, examiner, reread=True)

    assert examiner.examined == [2]


def test_a_picture_that_is_gone_leaves_its_task_out_with_the_reason(
    storage: MemoryStorage, room: Classroom
):
    submit(room, storage, [1, 2, 3, 4])
    submit(room, storage, [5], says=NO_PICTURE)
    submit(room, storage, [6], says=MEANS_NOTHING)
    submit(room, storage, [7], says=NOTHING)
    told = run(storage, room)
    states = {one.task: one for one in Records(storage, SCOPE).states()}

    assert (told["kept"], told["left_out"]) == (4, 2)
    assert isinstance(states[5], LeftOut)
    assert "a picture that is gone" in states[5].reason
    assert states[6] == LeftOut(task=6, reason="it means nothing", annotations=(106,))
    assert isinstance(states[7], Gone)


def test_a_server_that_is_away_for_a_while_costs_no_record(storage: MemoryStorage, room: Classroom):
    submit(room, storage, [1, 2, 3, 4, 5])
    run(storage, room)
    before = {one.task: one for one in Records(storage, SCOPE).states()}

    told = run(storage, room, StubExaminer(model="another", away=True))  # all are looked at anew

    assert told["kept"] == 5
    assert {one.task for one in Records(storage, SCOPE).states()} == set(before)

    submit(room, storage, [6])
    told = run(storage, room, StubExaminer(away=True))
    assert (told["kept"], told["left_out"]) == (5, 1)  # of a new task nothing was known


def test_a_task_nobody_foresaw_loses_only_itself(storage: MemoryStorage, room: Classroom):
    submit(room, storage, [1, 2])
    submit(room, storage, [3], says=STUMBLES)

    told = run(storage, room)

    assert (told["kept"], told["left_out"]) == (2, 1)
    (left,) = (one for one in Records(storage, SCOPE).states() if isinstance(one, LeftOut))
    assert left.reason == "it could not be looked at (ZeroDivisionError)"


def test_what_was_left_out_is_looked_at_again_when_any_of_its_annotations_goes(
    storage: MemoryStorage, room: Classroom
):
    room.annotate(1, 5)
    submit(room, storage, [1], says=MEANS_NOTHING)
    run(storage, room)
    del room.tasks[1][102]
    Records(storage, SCOPE).note(Changed(annotations=frozenset({102})))
    run(storage, room)

    assert Records(storage, SCOPE).kept()[1].annotation == 101


def test_old_evidence_is_thinned_and_made_whole_again_when_it_is_needed(
    storage: MemoryStorage, room: Classroom
):
    submit(room, storage, range(1, 10))
    run(storage, room)
    kept = Records(storage, SCOPE).kept()
    thin = {task for task, one in kept.items() if one.grain == Grain.THIN}
    room.tasks[9].clear()
    Records(storage, SCOPE).note(Changed(annotations=frozenset({109})))
    examiner = StubExaminer()
    run(storage, room, examiner)
    fewer = {
        task for task, one in Records(storage, SCOPE).kept().items() if one.grain == Grain.THIN
    }

    assert (thin, fewer) == ({1, 2, 3}, {1, 2})
    assert examiner.examined == [3]
    assert picture_of(storage) == fresh(room)


def test_another_model_has_every_task_examined_anew(storage: MemoryStorage, room: Classroom):
    submit(room, storage, range(1, 6))
    before = run(storage, room, learn=better)
    examiner = StubExaminer(model="another")
    after = run(storage, room, examiner, learn=better)

    assert examiner.examined == [1, 2, 3, 4, 5]
    assert after["learnt_from"] == 5
    assert before["version"] != after["version"]
    assert {one.models["seg"] for one in Records(storage, SCOPE).kept().values()} == {"another"}


def test_another_label_in_the_config_has_a_new_version_made_of_what_is_kept(
    storage: MemoryStorage, room: Classroom
):
    submit(room, storage, range(1, 6))
    run(storage, room)
    examiner = StubExaminer(names=("cat", "dog"))
    run(storage, room, examiner)

    assert examiner.examined == []
    assert [one.tasks for one in Records(storage, SCOPE).versions()] == [5, 5]


def test_evidence_that_cannot_be_read_is_made_anew(storage: MemoryStorage, room: Classroom):
    submit(room, storage, range(1, 6))
    run(storage, room)
    good = picture_of(storage)
    key = Key(SCOPE, ("learning", "evidence", "3"))
    found = storage.get(key)
    assert found is not None
    storage.swap(key, {**found.value, "data": "AAAA", "digest": "0"}, expected=found.revision)
    run(storage, room)

    assert picture_of(storage) == good


def test_what_is_not_better_stays_a_candidate_that_somebody_may_switch_on(
    storage: MemoryStorage, room: Classroom
):
    def worse(told: Sequence[Evidence], about: Any) -> Any:
        found = learn(told, about)
        verdict = replace(found.verdict, better=False, reason="not better")
        return replace(found, lesson=Lesson(model=about.model), verdict=verdict)

    submit(room, storage, range(1, 6))
    told = run(storage, room, learn=worse)
    records = Records(storage, SCOPE)
    (version,) = records.versions()
    records.wish(lambda wishes: replace(wishes, pinned=version.digest))
    run(storage, room, learn=worse)

    assert told["version"] is None
    assert (version.state, version.used, version.verdicts["seg"]["reason"]) == (
        "candidate",
        False,
        "not better",
    )
    assert records.active()[0].digest == version.digest
    assert records.learned(version.digest) is not None
    assert [one.state for one in records.versions()] == ["active"]


def test_a_version_that_somebody_asked_for_stays_whatever_is_learnt(
    storage: MemoryStorage, room: Classroom
):
    records = Records(storage, SCOPE)
    submit(room, storage, range(1, 6))
    run(storage, room, most_whole=100, learn=better)
    first = records.active()[0].digest
    records.wish(lambda wishes: replace(wishes, pinned=first or ""))
    submit(room, storage, range(6, 11))
    run(storage, room, most_whole=100, learn=better)
    pinned = records.active()[0]
    records.wish(lambda wishes: replace(wishes, pinned=""))
    run(storage, room, most_whole=100, learn=better)
    nothing = records.active()[0]
    records.wish(lambda wishes: replace(wishes, pinned=None))
    run(storage, room, most_whole=100, learn=better)

    assert (pinned.digest, pinned.pinned) == (first, True)
    assert nothing == Active(digest=None, tasks=0, pinned=True)
    assert records.active()[0].tasks == 10
    assert picture_of(storage) == _fresh_of(room, most_whole=100)


def _fresh_of(room: Classroom, *, most_whole: int) -> Any:
    storage = MemoryStorage(max_blob_bytes=0)
    run(storage, room, reread=True, most_whole=most_whole, learn=better)
    return picture_of(storage)


def test_a_project_that_is_gone_leaves_nothing_to_settle(storage: MemoryStorage, room: Classroom):
    submit(room, storage, [1])
    room.there = False

    assert run(storage, room) == {"phase": "the project is not there"}
    assert Records(storage, SCOPE).oldest_unsettled() == 0


def test_without_a_label_config_events_wait(storage: MemoryStorage, room: Classroom):
    submit(room, storage, [1])
    room.config = " "

    with pytest.raises(Hopeless, match="project 7 has no label config yet"):
        run(storage, room)
    assert Records(storage, SCOPE).oldest_unsettled() == 1


def test_gravestones_go_after_a_day(storage: MemoryStorage, room: Classroom):
    submit(room, storage, [1])
    room.tasks[1].clear()
    run(storage, room, clock=lambda: 1000.0)
    young = list(Records(storage, SCOPE).states())
    run(storage, room, clock=lambda: 1000.0 + 25 * 3600)

    assert young == [Gone(task=1, when=1000.0)]
    assert not list(Records(storage, SCOPE).states())


def test_a_record_tells_of_its_evidence(storage: MemoryStorage):
    records = Records(storage, SCOPE)
    one = evidence(1, 11, 5)
    assert records.settle(one, records.look(1))
    seen = records.look(1)

    assert isinstance(seen.state, Kept)
    assert (seen.state.annotation, seen.state.stamp) == (11, "11: 5")
    assert seen.evidence is not None
    assert seen.evidence.to_bytes() == one.to_bytes()
    assert not records.settle(one, records.look(2).__class__(1, None))


def test_versions_and_what_they_learnt_are_bounded(
    storage: MemoryStorage, room: Classroom, tmp_path: Path
):
    submit(room, storage, range(1, 6))
    for says in range(10, 80):
        room.tasks[1][101] = says
        Records(storage, SCOPE).note(Changed(tasks=frozenset({1})))
        run(storage, room)
    versions = Records(storage, SCOPE).versions()
    learned = list(storage.scan(Key(SCOPE, ("learning", "learned"))))

    assert len(versions) == 50
    assert {key.path[-1] for key, _ in learned} == {one.digest for one in versions}
    states = [one.state for one in versions]
    assert states.count("active") == int(versions[0].used)
    assert [state != "candidate" for state in states] == [one.used for one in versions]
