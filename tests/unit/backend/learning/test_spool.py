"""Events on disk: kept before they are acknowledged, found again by the next process."""

import contextlib
import json
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from backend.jobs.book import JobBook
from backend.learning.intake import MOST_PROJECTS, MOST_UNREAD, Intake
from backend.learning.records import Changed, Records
from backend.learning.spool import EVENT, NUMBERS, Spool
from backend.prelabel.works import LabelStudio
from backend.storage.base import Json, Key
from backend.storage.memory import MemoryStorage

from ....doubles.away_storage import AwayStorage
from ....doubles.waiting import until

STUDIO = LabelStudio(url="http://ls.example", token="t")
SECRET = "what somebody wrote"


def event(task: int, project: int = 12) -> bytes:
    annotation = {"id": 1, "task": task, "result": [{"value": {"text": SECRET}}]}
    told = {"action": "ANNOTATION_CREATED", "project": {"id": project}, "annotation": annotation}
    return json.dumps(told).encode()


def files(folder: Path) -> list[bytes]:
    """What is in each of them, in the order of their names; a running life may take them away."""
    found = []
    for one in sorted(folder.glob("*")) if folder.exists() else ():
        with contextlib.suppress(FileNotFoundError):
            found.append(one.read_bytes())
    return found


class Disk(Spool):
    """One that may be full."""

    full = False
    refused = 0

    def keep(self, told: bytes, *, ends: str = EVENT, replaces: Collection[str] = ()) -> str | None:
        if self.full:
            self.refused += 1
            self._say("the disk is full")
            return None
        return super().keep(told, ends=ends, replaces=replaces)


class Site:
    """A store that may be away, a spool, and one life of the service after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memory = MemoryStorage(max_blob_bytes=0)
        self.store = AwayStorage(self.memory)
        self.lives: list[Intake] = []

    def life(self, *, start: bool = True, spool: Spool | None = None) -> Intake:
        made = Intake(
            self.store,
            JobBook(self.memory),
            STUDIO,
            wake=lambda job: None,
            spool=Spool(self.folder) if spool is None else spool,
            look=0.002,
        )
        self.lives.append(made)
        if start:
            made.start()
        return made

    def unsettled(self, project: int = 12) -> set[int]:
        return set(Records(self.memory, STUDIO.scope(project)).unsettled()[0].tasks)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "events")
    yield made
    made.store.away = False
    for life in made.lives:
        life.close()


def test_an_event_is_on_disk_before_it_is_acknowledged_and_gone_when_the_store_has_it(site: Site):
    first = site.life(start=False)  # nothing of it runs: as if it were killed right after
    first(event(5))
    assert files(site.folder) == [event(5)]

    site.life()

    until(lambda: site.unsettled() == {5})
    until(lambda: files(site.folder) == [])


def test_what_waited_for_a_store_that_was_away_is_noted_by_the_next_process(site: Site):
    site.store.away = True
    first = site.life()
    for task in range(1, 50):
        first(event(task))
    until(lambda: len(files(site.folder)) == 1, "one file of numbers")
    first.close()
    assert SECRET.encode() not in files(site.folder)[0]
    assert site.unsettled() == set()

    site.store.away = False
    site.life()

    until(lambda: site.unsettled() == set(range(1, 50)))
    until(lambda: files(site.folder) == [])


def test_deletions_and_whole_projects_wait_as_they_are(site: Site):
    gone = {"action": "ANNOTATIONS_DELETED", "project": {"id": 12}, "annotations": [{"id": 3}]}
    site.store.away = True
    first = site.life()
    first(json.dumps(gone).encode())
    first.changed(13, Changed(everything=True))
    until(lambda: first.facts()["trouble"] is not None)
    first.close()

    site.store.away = False
    site.life()

    until(lambda: files(site.folder) == [] and site.folder.exists())
    assert Records(site.memory, STUDIO.scope(12)).unsettled()[0].annotations == {3}
    assert Records(site.memory, STUDIO.scope(13)).unsettled()[0].everything


def test_more_events_than_are_read_at_once_are_on_disk_too(site: Site):
    first = site.life(start=False)
    for task in range(1, MOST_UNREAD + 20):
        first(event(task))

    site.life()

    until(lambda: site.unsettled() == set(range(1, MOST_UNREAD + 20)))


def test_of_too_many_projects_none_is_lost(site: Site):
    site.store.away = True
    first = site.life()
    for project in range(1, MOST_PROJECTS + 20):
        first(event(7, project))
    until(lambda: first.facts()["trouble"] is not None)

    site.store.away = False

    until(lambda: all(site.unsettled(project) == {7} for project in range(1, MOST_PROJECTS + 20)))


def test_half_written_and_foreign_files_do_no_harm(site: Site):
    site.folder.mkdir()
    (site.folder / "1.event").write_bytes(event(5)[:40])
    (site.folder / "2.event").write_bytes(b"")
    (site.folder / "3.event").write_bytes(b'{"waits": 5, "project": "x"}')
    (site.folder / "4.event").write_bytes(event(6))
    (site.folder / "notes.txt").write_bytes(b"mine")
    old, young = site.folder / "5.part", site.folder / "6.part"
    for part in (old, young):
        part.write_bytes(event(7)[:40])
    os.utime(old, (1.0, 1.0))

    site.life()

    until(lambda: site.unsettled() == {6})
    until(lambda: {one.name for one in site.folder.iterdir()} == {"notes.txt", "6.part"})


def test_nobody_outside_can_pass_for_us(site: Site):
    first = site.life(start=False)
    told = json.loads(event(6, 7)) | {"waits": [{"tasks": [1, "a"]}]}
    first(b'{"project": 7, "waits": [{"tasks": [1, "a"]}]}')
    first(b'{"project": Infinity, "waits": []}')
    first(b'{"project": 8, "waits": [{"all": true}]}')
    first(json.dumps(told).encode())
    first(event(5))

    site.life()

    until(lambda: site.unsettled() == {5})
    until(lambda: files(site.folder) == [])
    assert site.unsettled(7) == {6}
    assert not Records(site.memory, STUDIO.scope(8)).unsettled()[0].everything


def test_a_file_of_ours_that_is_damaged_is_left_out_alone(
    site: Site, caplog: pytest.LogCaptureFixture
):
    site.folder.mkdir()
    damaged = [b"", b"\xff", b"5", b'{"project": 7}', b'{"project": 7, "waits": [5]}',
        b'{"project": "x", "waits": []}', b'{"project": Infinity, "waits": []}']  # fmt: skip
    for n, told in enumerate(damaged):
        (site.folder / f"{n}{NUMBERS}").write_bytes(told)
    told = b'{"project": 12, "waits": [{"tasks": [5, "a", true, {}, null]}, {"all": 0}]}'
    (site.folder / f"9{NUMBERS}").write_bytes(told)

    site.life()

    until(lambda: site.unsettled() == {5})
    until(lambda: files(site.folder) == [])
    assert not Records(site.memory, STUDIO.scope(12)).unsettled()[0].everything
    said = [one.getMessage() for one in caplog.records if "is left out" in one.getMessage()]
    assert [one.split(" ")[0] for one in said] == [f"{n}{NUMBERS}" for n in range(len(damaged))]


@pytest.mark.parametrize("away", [True, False])
def test_whatever_is_wrong_with_the_spool_events_go_on(site: Site, away: bool):
    class Mistaken(Spool):
        mistakes = 0

        def try_again(self) -> None:
            self.mistakes += 1
            if self.mistakes < 4:
                raise RuntimeError("nobody thought of that")

    site.store.away = away
    spool = Mistaken(site.folder)
    life = site.life(spool=spool)
    life(event(5))
    until(lambda: spool.mistakes > 5)
    site.store.away = False

    until(lambda: site.unsettled() == {5})
    until(lambda: life.facts()["trouble"] is None)


def test_a_disk_that_takes_nothing_is_said_and_the_event_goes_on_in_memory(site: Site):
    site.folder.write_bytes(b"a file where the folder should be")
    life = site.life()
    life(event(5))

    until(lambda: site.unsettled() == {5})
    assert "cannot be kept" in str(life.facts()["trouble"])
    assert "SPOOL_DIR" in str(life.facts()["trouble"])

    site.folder.unlink()
    until(lambda: life.facts()["trouble"] is None)


def test_what_only_memory_had_is_on_disk_as_soon_as_it_can_be(site: Site):
    site.folder.write_bytes(b"a file where the folder should be")
    site.store.away = True
    life = site.life()
    life(event(5))
    until(lambda: "cannot be reached" in str(life.facts()["trouble"]))
    site.folder.unlink()

    until(lambda: len(files(site.folder)) == 1)
    life.close()
    site.store.away = False
    site.life()

    until(lambda: site.unsettled() == {5})


@pytest.fixture
def bare(site: Site) -> tuple[Intake, Disk]:
    """A life with one event on disk and one that there was no room for."""
    site.store.away = True
    disk = Disk(site.folder)
    life = site.life(spool=disk)
    life(event(5))
    until(lambda: [one.suffix for one in site.folder.glob("*")] == [NUMBERS])
    disk.full = True
    life(event(6))
    until(lambda: disk.refused >= 2, "as it came, and its numbers")
    return life, disk


def test_what_came_while_the_disk_was_full_is_on_disk_when_there_is_room(
    site: Site, bare: tuple[Intake, Disk]
):
    life, disk = bare
    disk.full = False

    until(lambda: [json.loads(one)["waits"] for one in files(site.folder)] == [[{"tasks": [5, 6]}]])
    life.close()
    site.store.away = False
    site.life()

    until(lambda: site.unsettled() == {5, 6})


def test_what_is_in_memory_only_is_not_said_to_wait_on_disk(
    bare: tuple[Intake, Disk], caplog: pytest.LogCaptureFixture
):
    bare[0].close()

    said = [one.getMessage() for one in caplog.records]
    assert any(one.startswith("1 events could not be written down") for one in said)
    assert not any("wait on disk" in one for one in said)


def test_a_full_spool_gets_smaller_and_has_room_again(site: Site):
    site.store.away = True
    life = site.life(start=False, spool=Spool(site.folder, most_files=3))
    for task in (1, 2, 3):
        life(event(task))
    life.changed(11, Changed(tasks=frozenset({4})))  # no room, and first in the row
    assert "is full" in str(life.facts()["trouble"])
    life.start()

    until(lambda: len(files(site.folder)) == 2)
    life.close()
    waiting = {told["project"]: told["waits"] for told in map(json.loads, files(site.folder))}
    assert waiting == {12: [{"tasks": [1, 2, 3]}], 11: [{"tasks": [4]}]}


def test_what_cannot_be_read_now_is_said_and_read_later(site: Site):
    site.folder.mkdir()
    stubborn = site.folder / "1.event"
    stubborn.symlink_to(stubborn)
    (site.folder / "2.event").write_bytes(event(5))
    life = site.life()
    until(lambda: site.unsettled() == {5})
    life(event(6))
    until(lambda: site.unsettled() == {5, 6})
    assert f"{stubborn} cannot be read" in str(life.facts()["trouble"])

    (site.folder / "7.part").write_bytes(event(7))
    (site.folder / "7.part").replace(stubborn)

    until(lambda: site.unsettled() == {5, 6, 7})
    until(lambda: life.facts()["trouble"] is None)


def test_a_folder_that_cannot_be_read_now_is_read_later(site: Site):
    site.folder.write_bytes(b"a file where the folder should be")
    life = site.life()
    until(lambda: "cannot be read" in str(life.facts()["trouble"]))
    there = site.folder.with_name("there")
    there.mkdir()
    (there / "1.event").write_bytes(event(5))
    (link := there.with_name("link")).symlink_to(there)
    link.replace(site.folder)

    until(lambda: site.unsettled() == {5})
    until(lambda: life.facts()["trouble"] is None)


def test_what_was_left_gets_its_turn_however_many_events_come(site: Site):
    site.life(start=False)(event(5))
    over = threading.Event()
    life = site.life(start=False)

    class Busy(MemoryStorage):
        def append(self, key: Key, value: Json) -> int:
            if key.scope == STUDIO.scope(13) and not over.is_set():
                life.changed(13, Changed(tasks=frozenset({7})))
            return super().append(key, value)

    site.memory = Busy(max_blob_bytes=0)
    site.store = life._storage = AwayStorage(site.memory)
    life.changed(13, Changed())
    life.start()
    try:
        until(lambda: site.unsettled() == {5})
    finally:
        over.set()


def test_no_more_of_what_was_left_is_read_than_there_is_room_for(site: Site):
    before = Spool(site.folder)
    for project in range(1, MOST_PROJECTS + 20):
        before.keep(event(7, project))
    site.store.away = True
    life = site.life()
    until(lambda: len(list(site.folder.glob(f"*{EVENT}"))) == 19, "the others are numbers")
    unread = [json.loads(one.read_bytes()) for one in site.folder.glob(f"*{EVENT}")]
    assert min(one["project"]["id"] for one in unread) == MOST_PROJECTS + 1, "nothing came and went"
    assert life.facts()["pending"] == MOST_PROJECTS

    site.store.away = False

    until(lambda: all(site.unsettled(project) == {7} for project in range(1, MOST_PROJECTS + 20)))


def test_a_spool_is_bounded_and_says_so(tmp_path: Path):
    spool = Spool(tmp_path, most_bytes=10, most_files=2)
    assert spool.keep(b"x" * 11) is None
    one, two = spool.keep(b"1"), spool.keep(b"2")
    assert None not in (one, two)
    assert spool.keep(b"3") is None
    assert "is full" in str(spool.trouble)

    spool.drop([str(one)])

    assert spool.keep(b"3") is not None
    assert (spool.trouble, len(spool)) == (None, 2)
    assert sorted(files(tmp_path)) == [b"2", b"3"]
    assert spool.keep(b"4" * 20, replaces=[str(two)]) is not None


def test_files_are_for_nobody_elses_eyes(tmp_path: Path):
    spool = Spool(tmp_path / "a")
    spool.keep(b"1")
    (file,) = (tmp_path / "a").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
