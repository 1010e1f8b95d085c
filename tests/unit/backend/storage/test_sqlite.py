"""The SQLite file: whose it is, who may read it, and what is said when it cannot be used."""

import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backend.errors import StorageAway, StorageError, StorageUnfit
from backend.storage.base import SCHEMA, Key, Scope
from backend.storage.sqlite import SqliteStorage

AT = Key(Scope(), ("a",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def opened(path: Path, **options: object) -> "closing[SqliteStorage]":
    return closing(SqliteStorage(path, **{"max_blob_bytes": 1000, **options}))  # type: ignore[arg-type]


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_and_file_are_made_for_their_owner_alone(tmp_path: Path):
    path = tmp_path / "data" / "cliper" / "store.sqlite"

    with opened(path) as store:
        store.swap(AT, 1, expected=0)

        assert mode(path.parent) == 0o700
        assert {file.name: mode(file) for file in path.parent.iterdir()} == {
            "store.sqlite": 0o600, "store.sqlite-wal": 0o600, "store.sqlite-shm": 0o600,
        }  # fmt: skip


def test_a_folder_that_was_there_stays_as_open_as_it_was(tmp_path: Path):
    tmp_path.chmod(0o755)

    with opened(tmp_path / "store.sqlite"):
        assert mode(tmp_path) == 0o755


def test_a_store_that_must_be_there_is_not_made(path: Path):
    with pytest.raises(StorageError, match=r"there is no store at .*check the address"):
        SqliteStorage(path, max_blob_bytes=1, create=False)

    assert not path.exists()


def test_the_file_is_marked_as_ours_and_keeps_a_write_ahead_log(path: Path):
    with opened(path):
        pass

    with raw(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x434C4950,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(path: Path):
    with opened(path) as store:
        store.swap(AT, "kept", expected=0)
    with raw(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")

    with pytest.raises(StorageUnfit, match=f"newer version .*format {SCHEMA + 1}.*reads {SCHEMA}"):
        SqliteStorage(path, max_blob_bytes=1)

    with raw(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    with opened(path) as store:
        assert store.get(AT) is not None


@pytest.mark.parametrize("mark", [0, 77])
def test_a_file_of_another_program_is_refused_and_left_as_it_is(path: Path, mark: int):
    with raw(path) as connection:
        connection.execute("CREATE TABLE records (theirs)")
        connection.execute(f"PRAGMA application_id = {mark}")
    before = path.read_bytes()

    with pytest.raises(StorageUnfit, match="another program's; name another path"):
        SqliteStorage(path, max_blob_bytes=1)

    assert path.read_bytes() == before


def test_a_file_that_is_no_sqlite_file_is_refused_and_left_as_it_is(path: Path):
    path.write_text("a shopping list\n" * 100)

    with pytest.raises(StorageUnfit, match="no SQLite file, or its beginning is damaged; move it"):
        SqliteStorage(path, max_blob_bytes=1)

    assert path.read_text() == "a shopping list\n" * 100


def test_a_file_with_missing_tables_is_damaged(path: Path):
    with opened(path):
        pass
    with raw(path) as connection:
        connection.execute("DROP TABLE records")

    with pytest.raises(StorageUnfit, match="is damaged; move it away"):
        SqliteStorage(path, max_blob_bytes=1)


def test_damage_in_the_middle_is_named_when_it_is_met(path: Path):
    with opened(path, max_blob_bytes=10**7) as store:
        for number in range(300):
            store.swap(AT / str(number), "x" * 1000, expected=0)
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = b"\xff" * (len(content) - 4096 * 3)
    path.write_bytes(content)

    with pytest.raises(StorageUnfit, match="is damaged; move it away"), opened(path) as store:
        list(store.scan(None))


def test_an_empty_file_is_a_new_store(path: Path):
    path.touch()

    with opened(path) as store:
        assert store.swap(AT, 1, expected=0) == 1


def test_a_path_that_cannot_be_is_named(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(StorageAway, match=r"file/store.sqlite cannot be written .*another path"):
        SqliteStorage(tmp_path / "file" / "store.sqlite", max_blob_bytes=1)
    with pytest.raises(StorageAway, match="cannot be read or written"):
        SqliteStorage(tmp_path, max_blob_bytes=1)


def test_a_file_that_others_lock_is_away_and_then_back(path: Path):
    with opened(path, timeout=0.05) as store, raw(path) as other:
        store.put_blob(AT, b"bytes")
        store.put_blob(AT / "newer", b"bytes")
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StorageAway, match=r"locked by another program for 0.05 seconds"):
            store.swap(AT, 1, expected=0)
        assert store.get(AT) is None, "reading waits for nobody"
        assert store.get_blob(AT) == b"bytes", "a use that cannot be noted is no error"

        other.execute("COMMIT")
        assert store.swap(AT, 1, expected=0) == 1


def test_a_full_disk_is_named_and_nothing_is_half_written(path: Path, monkeypatch):
    connect = SqliteStorage._connect

    def small(self: SqliteStorage) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA max_page_count = 30")  # the file may not grow
        return connection

    monkeypatch.setattr(SqliteStorage, "_connect", small)
    with opened(path, max_blob_bytes=10**6) as store:
        store.put_blob(AT, b"old")
        counts = store.counts()

        with pytest.raises(StorageAway, match="the disk is full; make room"):
            store.put_blob(AT, b"x" * 500_000)
        with pytest.raises(StorageAway, match="the disk is full"):
            store.swap(AT, "x" * 500_000, expected=0)

        assert store.get_blob(AT) == b"old"
        assert store.counts() == counts
        assert store.swap(AT, "small", expected=0) == 1


def test_a_file_taken_away_under_the_service_is_not_written_into_the_void(
    path: Path, tmp_path: Path
):
    away, other = tmp_path / "away.sqlite", tmp_path / "other.sqlite"
    with opened(other):
        pass
    with opened(path) as store:
        store.swap(AT, 1, expected=0)

        path.rename(away)
        with pytest.raises(StorageAway, match="is gone; put the file back or start again"):
            store.get(AT)
        other.rename(path)
        with pytest.raises(StorageAway, match="was replaced by another file; start again"):
            store.swap(AT, 2, expected=1)
        away.replace(path)

        assert store.get(AT) == (1, 1)


def test_stores_that_begin_at_the_same_time_agree(path: Path):
    gate = threading.Barrier(6)
    given: list[int | None] = []

    def begin() -> None:
        gate.wait()
        with opened(path) as store:
            given.append(store.swap(AT / str(threading.get_ident()), 1, expected=0))

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(given, key=str) == [1, 2, 3, 4, 5, 6]


def test_the_file_shrinks_when_blobs_are_gone(path: Path):
    with opened(path, max_blob_bytes=40_000_000) as store:
        for number in range(40):
            store.put_blob(AT / str(number), b"x" * 1_000_000)
        with raw(path) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        grown = path.stat().st_size
        for number in range(40):
            store.drop_blob(AT / str(number))

    assert grown > 40_000_000
    assert path.stat().st_size < 10_000_000


def test_putting_blobs_again_and_again_does_not_make_the_file_grow(path: Path):
    with opened(path, max_blob_bytes=3_000_000) as store:
        for number in range(60):
            store.put_blob(AT / str(number), b"x" * 500_000)

    assert path.stat().st_size < 12_000_000


def test_reading_the_newest_blob_writes_nothing(path: Path):
    with opened(path) as store:
        store.put_blob(AT / "a", b"a")
        store.put_blob(AT / "b", b"b")
        wal = path.with_name("store.sqlite-wal")
        before = wal.read_bytes()

        store.get_blob(AT / "b")
        assert wal.read_bytes() == before
        store.get_blob(AT / "a")
        assert wal.read_bytes() != before


def test_connections_are_few_however_many_threads_there_are(path: Path):
    with opened(path) as store:
        threads = [
            threading.Thread(target=lambda: [store.get(AT) for _ in range(20)]) for _ in range(30)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 1 <= len(store._idle) <= 8
