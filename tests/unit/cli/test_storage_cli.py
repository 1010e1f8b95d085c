"""`cliper storage`: what is kept, and moving it."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.storage.base import Key, Scope
from backend.storage.open import open_storage

from ...doubles.redis_server import RedisServer

AT = Key(Scope("http://a:80", "1"), ("learned",))

Address = Callable[[str], str]


@pytest.fixture
def address(tmp_path: Path) -> Address:
    return lambda name: f"sqlite:{tmp_path}/{name}.sqlite"


def fill(address: str) -> None:
    with closing(open_storage(address, max_blob_bytes=5_000_000)) as store:
        store.swap(AT, {"a": 1}, expected=0)
        store.append(AT, "one", once="w")
        store.append(AT, "two")
        store.put_blob(AT / "older", b"x" * 600_000)
        store.put_blob(AT, b"x" * 600_000)


def test_info_counts_what_is_there(
    address: Address, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fill(address("a"))
    monkeypatch.setenv("STORAGE", address("a"))

    assert main(["storage", "info"]) == 0

    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("store    SQLite at /")
    assert told[1:] == ["records  1", "logs     1 with 2 lines", "blobs    2 with 1.2 MB"]


def test_info_makes_no_store(address: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["storage", "info", address("none")]) == 2

    assert "there is no store at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_store_moves_from_a_file_to_redis_and_back(
    address: Address, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
):
    fill(address("a"))

    assert main(["storage", "copy", address("a"), redis_server.url]) == 0
    assert main(["storage", "copy", redis_server.url, address("b")]) == 0

    told = capsys.readouterr().out.splitlines()
    assert told[0] == (
        f"1 records, 1 logs with 2 lines, 2 blobs copied to Redis at {redis_server.url}"
    )
    with closing(open_storage(address("b"), max_blob_bytes=5_000_000)) as store:
        assert store.get(AT).value == {"a": 1}  # type: ignore[union-attr]
        assert store.append(AT, "again", once="w") == 1
        assert store.get_blob(AT) == b"x" * 600_000


def test_the_bound_of_blobs_is_that_of_the_settings(
    address: Address, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fill(address("a"))
    monkeypatch.setenv("STORAGE_BLOBS_MB", "0.5")

    assert main(["storage", "copy", address("a"), address("b")]) == 0

    assert "2 blobs left out" in capsys.readouterr().out
    assert main(["storage", "info", address("a")]) == 0
    assert "blobs    2" in capsys.readouterr().out, "the store read loses nothing"


def test_a_second_copy_needs_a_word_about_what_both_have(
    address: Address, capsys: pytest.CaptureFixture[str]
):
    fill(address("a"))
    copying = ["storage", "copy", address("a"), address("b")]
    assert main(copying) == 0

    assert main(copying) == 2
    assert "is not empty (1 records, 1 logs, 2 blobs)" in capsys.readouterr().err
    assert main([*copying, "--merge", "keep"]) == 0
    assert "2 records and logs that were there have been kept" in capsys.readouterr().out
    assert main([*copying, "--merge", "replace"]) == 0


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("sqlite:{0}/a.sqlite", "memory:", "cannot be copied"),
        ("memory:", "sqlite:{0}/b.sqlite", "cannot be copied"),
        ("sqlite:{0}/a.sqlite", "sqlite:///{0}/../{1}/a.sqlite", "into itself"),
        ("sqlite:{0}/none.sqlite", "sqlite:{0}/b.sqlite", "there is no store at"),
        ("sqlite:{0}/a.sqlite", "ftp://b", "a store is named as sqlite:PATH"),
    ],
)
def test_what_cannot_be_copied_is_one_sentence(
    tmp_path: Path,
    address: Address,
    source: str,
    target: str,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
):
    fill(address("a"))
    places = (text.format(tmp_path, tmp_path.name) for text in (source, target))

    assert main(["storage", "copy", *places]) == 2

    told = capsys.readouterr()
    assert sentence in told.err
    assert "Traceback" not in told.err
    assert [file.name for file in tmp_path.iterdir()] == ["a.sqlite"]
