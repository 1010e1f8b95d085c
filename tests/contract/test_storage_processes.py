"""Stores that several processes share: nothing is lost, whoever is killed, whoever is away."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backend.errors import StorageAway
from backend.storage.base import Key, Storage, change
from backend.storage.open import open_storage

from ..doubles.redis_server import RedisServer
from ..doubles.storage_hammer import BLOBS, BOUND, COUNTER, LOG

ROOT = Path(__file__).parents[2]
TURNS = 60


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_server").url)
    return f"sqlite:{tmp_path}/store.sqlite"


@pytest.fixture
def store(address: str) -> Iterator[Storage]:
    with closing(open_storage(address, max_blob_bytes=BOUND)) as store:
        yield store


@contextmanager
def hammer(address: str, name: str, turns: int) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doubles.storage_hammer", address, name, str(turns)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def lines(store: Storage) -> list[list[object]]:
    return [line.value for line in store.entries(LOG, limit=1_000_000)]


def check_blobs(store: Storage) -> None:
    sizes = []
    for key in store.blobs():
        data = store.get_blob(key)
        assert data is not None
        name = key.path[-1].split()[0]
        assert data == name.encode() * 10_000
        sizes.append(len(data))
    assert sum(sizes) == store.blob_bytes() <= BOUND


def test_two_processes_that_begin_together_lose_nothing(address: str):
    with hammer(address, "left", TURNS) as left, hammer(address, "right", TURNS) as right:
        assert [process.wait(timeout=300) for process in (left, right)] == [0, 0]

    with closing(open_storage(address, max_blob_bytes=BOUND)) as store:
        assert store.get(COUNTER).value == {"left": TURNS, "right": TURNS}  # type: ignore[union-attr]
        found = lines(store)
        for name in ("left", "right"):
            assert [turn for who, turn in found if who == name] == list(range(TURNS))
        assert sorted(turn for who, turn in found if who == "shared") == list(range(TURNS))
        assert dict(store.words(LOG)).keys() == {f"shared {turn}" for turn in range(TURNS)}
        check_blobs(store)


def test_a_process_that_is_killed_leaves_a_store_that_works(address: str, store: Storage):
    with hammer(address, "victim", 0) as victim:
        while (found := store.get(COUNTER)) is None or found.value["victim"] < 25:
            assert victim.poll() is None
        victim.send_signal(signal.SIGKILL)
        victim.wait()

    counted = store.get(COUNTER).value["victim"]  # type: ignore[union-attr]
    own = [turn for who, turn in lines(store) if who == "victim"]
    assert own == list(range(len(own)))
    assert len(own) in (counted, counted - 1)
    check_blobs(store)
    with hammer(address, "heir", TURNS) as heir:
        assert heir.wait(timeout=300) == 0
    assert store.get(COUNTER).value == {"victim": counted, "heir": TURNS}  # type: ignore[union-attr]


def test_a_redis_that_is_away_says_so_and_works_again_when_it_is_back(tmp_path: Path):
    server = RedisServer(tmp_path / "redis", "--requirepass", "secret")
    with server, closing(open_storage(server.url, max_blob_bytes=BOUND)) as store:
        change(store, COUNTER, lambda old: "kept")

        server.kill()
        for call in calls(store):
            with pytest.raises(StorageAway, match="cannot be reached") as caught:
                call()
            assert f"127.0.0.1:{server.port}" in str(caught.value)
            assert "secret" not in str(caught.value) + store.name
        server.start()

        assert store.get(COUNTER).value == "kept"  # type: ignore[union-attr]
        assert store.append(LOG, "line") == 1


def test_a_wrong_password_is_told_at_once_and_not_repeated(tmp_path: Path):
    with RedisServer(tmp_path / "redis", "--requirepass", "secret") as server:
        for wrong in ("//", "//:other@"):
            address = server.url.replace("//:secret@", wrong)
            with pytest.raises(StorageAway, match="refuses user or password") as caught:
                open_storage(address, max_blob_bytes=BOUND)
            assert "other" not in str(caught.value)


def calls(store: Storage):
    key: Key = COUNTER
    return (
        lambda: store.get(key),
        lambda: store.swap(key, 1, expected=0),
        lambda: list(store.scan(None)),
        lambda: store.append(key, 1),
        lambda: store.entries(key),
        lambda: store.trim(key, upto=1),
        lambda: list(store.logs()),
        lambda: list(store.words(key)),
        lambda: store.restore(key, [], [], last=1),
        lambda: store.drop_log(key),
        lambda: store.put_blob(key, b""),
        lambda: store.get_blob(key),
        lambda: store.drop_blob(key),
        store.blob_bytes,
        lambda: list(store.blobs()),
        store.counts,
    )


def test_a_redis_that_comes_later_than_the_service_is_used_when_it_is_there(tmp_path: Path):
    server = RedisServer(tmp_path / "redis")
    with closing(open_storage(server.url, max_blob_bytes=BOUND)) as store:
        with pytest.raises(StorageAway, match="cannot be reached"):
            store.get(BLOBS)
        with server:
            assert store.get(BLOBS) is None
