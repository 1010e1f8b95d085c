"""Everything of one store into another."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backend.errors import StorageError
from backend.storage.base import Entry, Key, Scope, Storage
from backend.storage.copy import KEEP, REPLACE, Copied, copy
from backend.storage.memory import MemoryStorage
from backend.storage.open import open_storage

from ....doubles.redis_server import RedisServer

A, B = Key(Scope("http://a:80", "1")), Key(Scope("http://b:80", "1"))
LINES = 450  # more than two pages


@pytest.fixture
def source() -> Storage:
    return filled(MemoryStorage(max_blob_bytes=1000))


def filled(store: Storage) -> Storage:
    for number in range(250):
        store.swap(A / f"{number:03}", {"n": number}, expected=0)
    store.swap(B, "b", expected=0)
    for number in range(LINES):
        store.append(A / "log", number, once=f"w{number}")
    store.trim(A / "log", upto=10)
    store.append(B / "trimmed", "gone")
    store.trim(B / "trimmed", upto=1)
    for word in ("old", "middle", "new"):
        store.put_blob(A / word, word.encode() * 10)
    store.get_blob(A / "old")
    return store


@pytest.fixture(params=["memory", "sqlite", "redis"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> Iterator[Storage]:
    addresses = {
        "memory": "memory:", "sqlite": f"sqlite:{tmp_path}/a.sqlite", "redis": redis_server.url,
    }  # fmt: skip
    with closing(open_storage(addresses[request.param], max_blob_bytes=1000)) as store:
        yield store


def same(first: Storage, second: Storage) -> None:
    records = [
        [(key, record.value) for key, record in store.scan(None)] for store in (first, second)
    ]
    assert records[0] == records[1]
    assert list(first.logs()) == list(second.logs())
    for log, _ in first.logs():
        assert list(first.entries(log, limit=10_000)) == list(second.entries(log, limit=10_000))
        assert sorted(first.words(log)) == sorted(second.words(log))
    assert list(first.blobs()) == list(second.blobs())
    for key in first.blobs():
        assert first.get_blob(key) == second.get_blob(key)
    assert first.counts() == second.counts()


def test_a_copy_has_everything_and_numbers_go_on(source: Storage, target: Storage):
    told: list[Copied] = []

    done = copy(source, target, tell=told.append)

    assert done == Copied(records=251, logs=2, lines=LINES - 10, words=LINES, blobs=3)
    assert told[-1] == done
    same(source, target)
    assert target.append(A / "log", "again", once="w3") == 4
    assert target.append(A / "log", "new") == LINES + 1
    assert target.append(B / "trimmed", "new") == 2


def test_a_copy_and_back_is_what_it_was(source: Storage, target: Storage):
    copy(source, target)
    again = MemoryStorage(max_blob_bytes=1000)
    copy(target, again)

    same(source, again)


def test_an_empty_store_is_copied_too(target: Storage):
    assert copy(MemoryStorage(max_blob_bytes=0), target) == Copied()


def test_a_store_that_holds_something_is_not_written_by_mistake(source: Storage, target: Storage):
    target.append(A / "log", "mine")
    before = target.counts()

    with pytest.raises(StorageError, match=r"is not empty \(0 records, 1 logs, 0 blobs\).*--merge"):
        copy(source, target)

    assert target.counts() == before


def both(target: Storage) -> None:
    target.swap(A / "000", "mine", expected=0)
    target.swap(A / "mine", "mine", expected=0)
    target.append(A / "log", "mine", once="w3")
    target.append(A / "my log", "mine")
    target.put_blob(A / "old", b"mine")


def test_merging_may_keep_what_is_there(source: Storage, target: Storage):
    both(target)

    done = copy(source, target, merge=KEEP)

    assert (done.records, done.logs, done.kept, done.passed) == (250, 1, 2, 1)
    assert target.get(A / "000").value == "mine"  # type: ignore[union-attr]
    assert target.get(A / "001").value == {"n": 1}  # type: ignore[union-attr]
    assert list(target.entries(A / "log")) == [Entry(1, "mine")]
    assert target.get_blob(A / "old") == b"mine"
    assert target.get_blob(A / "new") == b"new" * 10


def test_merging_may_replace_what_is_there(source: Storage, target: Storage):
    both(target)

    copy(source, target, merge=REPLACE)
    copy(source, target, merge=REPLACE)  # once more changes nothing

    assert target.get(A / "000").value == {"n": 0}  # type: ignore[union-attr]
    assert target.get(A / "mine").value == "mine"  # type: ignore[union-attr]
    assert target.entries(A / "log", limit=1) == [Entry(11, 10)]
    assert target.append(A / "log", "again", once="w3") == 4
    assert [line.value for line in target.entries(A / "my log")] == ["mine"]
    assert target.get_blob(A / "old") == b"old" * 10


@pytest.mark.parametrize("merge", [KEEP, REPLACE])
def test_one_store_under_two_names_is_not_copied_into_itself(
    tmp_path: Path, redis_server: RedisServer, merge: str
):
    (tmp_path / "link").symlink_to(tmp_path / "a.sqlite")
    pairs = [
        (f"sqlite:{tmp_path}/a.sqlite", f"sqlite:{tmp_path}/link"),
        (redis_server.url, redis_server.url.replace("127.0.0.1", "localhost")),
    ]
    for addresses in pairs:
        one, other = (open_storage(address, max_blob_bytes=1000) for address in addresses)
        with closing(one), closing(other):
            before = filled(one).counts()

            with pytest.raises(StorageError, match=r" and .* are one store; name two$"):
                copy(one, other, merge=merge)

            assert one.counts() == before


def test_blobs_that_do_not_fit_are_left_out_the_oldest_first(source: Storage):
    target = MemoryStorage(max_blob_bytes=60)
    source.put_blob(A / "large", b"x" * 61)

    done = copy(source, target)

    assert (done.blobs, done.passed) == (3, 1)
    assert list(target.blobs()) == [A / "new", A / "old"]


def test_a_source_that_is_written_meanwhile_is_noticed(source: Storage, target: Storage):
    def write(done: Copied) -> None:
        if done.records == 251 and done.logs == 0:
            source.swap(A / "late", 1, expected=0)

    with pytest.raises(StorageError, match="has 251 records after the copy, not 252; stop what"):
        copy(source, target, tell=write)
