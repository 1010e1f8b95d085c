"""Redis: whose keys these are, and what is said when it cannot be used."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backend.errors import StorageAway, StorageError, StorageUnfit
from backend.storage.base import SCHEMA, Key, Scope, change
from backend.storage.redis import RedisStorage

from ....doubles.redis_server import RedisServer

AT = Key(Scope(), ("a",))


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStorage]:
    with closing(RedisStorage(redis_server.url, max_blob_bytes=1000)) as store:
        yield store


def test_all_keys_are_ours_by_their_beginning(redis_server: RedisServer, store: RedisStorage):
    store.swap(AT, 1, expected=0)
    store.append(AT, 1, once="w")
    store.put_blob(AT, b"x")

    with closing(redis_server.client) as client:
        names = client.keys("*")
    assert names
    assert all(name.startswith(b"cliper:") for name in names)


def test_a_newer_format_is_refused_and_left_as_it_is(redis_server: RedisServer):
    with closing(redis_server.client) as client:
        client.set("cliper:schema", SCHEMA + 1)

        with pytest.raises(StorageUnfit, match=f"newer version .*format {SCHEMA + 1}"):
            RedisStorage(redis_server.url, max_blob_bytes=1)

        assert client.keys("*") == [b"cliper:schema"]


@pytest.mark.parametrize("content", ["theirs", "0", ""])
def test_keys_of_another_program_are_refused(redis_server: RedisServer, content: str):
    with closing(redis_server.client) as client:
        client.set("cliper:schema", content)

    with pytest.raises(StorageUnfit, match="of another program; use another database"):
        RedisStorage(redis_server.url, max_blob_bytes=1)


def test_a_key_of_another_kind_is_another_programs(redis_server: RedisServer, store: RedisStorage):
    with closing(redis_server.client) as client:
        client.set("cliper:records", "text")

    with pytest.raises(StorageUnfit, match="of another program"):
        store.get(AT)


def test_two_database_numbers_share_nothing(redis_server: RedisServer, store: RedisStorage):
    store.swap(AT, 1, expected=0)

    with closing(RedisStorage(redis_server.url[:-1] + "1", max_blob_bytes=1)) as other:
        assert other.get(AT) is None


def test_a_redis_that_may_forget_keys_is_refused(tmp_path: Path):
    options = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    with (
        RedisServer(tmp_path / "redis", *options) as server,
        pytest.raises(StorageUnfit, match=r"forgets keys .*allkeys-lru.*noeviction"),
    ):
        RedisStorage(server.url, max_blob_bytes=1)


def test_a_full_redis_is_read_but_not_written_and_no_count_is_wrong(tmp_path: Path):
    with (
        RedisServer(tmp_path / "redis") as server,
        closing(RedisStorage(server.url, max_blob_bytes=1000)) as store,
        closing(server.client) as client,
    ):
        store.swap(AT, "kept", expected=0)
        store.append(AT, "line", once="word")
        store.put_blob(AT, b"bytes")
        counts = store.counts()
        client.config_set("maxmemory", "1")

        for write in (
            lambda: store.swap(AT, 2, expected=1),
            lambda: store.append(AT, "more"),
            lambda: store.put_blob(AT, b"other"),
            lambda: store.drop_blob(AT),
            lambda: store.trim(AT, upto=9),
            lambda: store.drop_log(AT),
        ):
            with pytest.raises(StorageAway, match="is full and takes nothing more"):
                write()

        assert store.get(AT) == ("kept", 1)
        assert store.get_blob(AT) == b"bytes"
        assert store.append(AT, "again", once="word") == 1
        assert [line.value for line in store.entries(AT)] == ["line"]
        assert store.counts() == counts
        client.config_set("maxmemory", "0")
        assert change(store, AT, lambda old: "new") == "new"


def test_a_redis_that_forgot_its_scripts_gets_them_again(
    redis_server: RedisServer, store: RedisStorage
):
    with closing(redis_server.client) as client:
        client.script_flush()

    assert store.append(AT, "line") == 1


def test_a_broken_connection_is_made_anew(redis_server: RedisServer, store: RedisStorage):
    with closing(redis_server.client) as client:
        client.client_kill_filter(_type="normal", skipme=True)

    assert store.append(AT, "line") == 1


def test_a_redis_that_takes_no_writes_says_so(redis_server: RedisServer, store: RedisStorage):
    with closing(redis_server.client) as client:
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(StorageAway, match="replica that takes no writes"):
                store.swap(AT, 1, expected=0)
            assert store.get(AT) is None
        finally:
            client.replicaof("NO", "ONE")


def test_something_that_is_no_redis_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        other = threading.Thread(target=answer)
        other.start()
        with pytest.raises(StorageAway, match="does not speak as a Redis does; see that the addr"):
            RedisStorage(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", max_blob_bytes=1)
        other.join()


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:port/0",
        "redis://host:6379/0?socket_timeout=long",
        "redis://host:6379/0?colour=red",
    ],
)
def test_an_address_redis_does_not_take_is_one_sentence(url: str):
    with pytest.raises(StorageError, match="is no address of a Redis; one looks like redis://"):
        RedisStorage(url, max_blob_bytes=1)
