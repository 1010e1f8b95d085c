"""Addresses of stores, the table of stores, and passwords that are not repeated."""

import sys
from contextlib import closing
from pathlib import Path

import pytest

from backend.errors import StorageError
from backend.storage.address import SCHEMES, redacted, scheme_of, sqlite_path
from backend.storage.open import OPENERS, open_storage


def test_every_scheme_has_an_opener():
    assert set(OPENERS) == SCHEMES


@pytest.mark.parametrize(
    ("address", "scheme"),
    [
        ("memory:", "memory"),
        ("sqlite:a.sqlite", "sqlite"),
        ("sqlite:///data/a.sqlite", "sqlite"),
        ("SQLite:/data/a", "sqlite"),
        ("redis://host", "redis"),
        ("rediss://:pw@host:6380/3", "rediss"),
        ("unix:///run/redis.sock?db=1", "unix"),
    ],
)
def test_known_forms_are_taken(address: str, scheme: str):
    assert scheme_of(address) == scheme


@pytest.mark.parametrize(
    "address",
    ["", "memory", "memory:x", "sqlite", "sqlite:", "sqlite://host/a", "redis:host", "redis://",
     "/data/a.sqlite", "postgres://host/db", "http://host"],
)  # fmt: skip
def test_other_forms_are_one_sentence(address: str):
    with pytest.raises(StorageError, match=r"^a store is named as sqlite:PATH, .* got ") as caught:
        scheme_of(address)

    assert repr(address) in str(caught.value)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite:a/b.sqlite", "a/b.sqlite"),
        ("sqlite:/a/b.sqlite", "/a/b.sqlite"),
        ("sqlite:///a/b.sqlite", "/a/b.sqlite"),
        ("sqlite:////a/b.sqlite", "/a/b.sqlite"),
        ("sqlite:~/a b%20?#.sqlite", "~/a b%20?#.sqlite"),
    ],
)
def test_a_path_is_taken_as_it_is(address: str, path: str):
    assert sqlite_path(address) == path


@pytest.mark.parametrize("name", ["plain.sqlite", "a b%20?mode=memory#c.sqlite", "ü:@.sqlite"])
def test_the_file_has_the_name_it_was_given(tmp_path: Path, name: str):
    with closing(open_storage(f"sqlite:{tmp_path}/{name}", max_blob_bytes=1)) as store:
        assert store.name == f"SQLite at {tmp_path}/{name}"
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://me:pw@host/0", "redis://me:***@host/0"),
        ("rediss://me:p@w/:?#@host/0", "rediss://me:***@host/0"),
        ("redis://me@host", "redis://me@host"),
        ("unix://:pw@/run/redis.sock?db=1", "unix://:***@/run/redis.sock?db=1"),
        ("redis://host/0?password=pw&db=2", "redis://host/0?password=***&db=2"),
        ("unix:///s?db=1&PASSWORD=pw", "unix:///s?db=1&PASSWORD=***"),
        ("postgres://me:pw@host/0", "postgres://me:***@host/0"),
        ("redis:/:pw@host:6379/0", "***@host:6379/0"),
        ("redis:me:p@w@host", "***@host"),
        ("redis//:pw@host?password=pw", "***@host?password=***"),
        ("me:pw@host:6379", "***@host:6379"),
        ("sqlite:/home/a:b@c/x", "sqlite:/home/a:b@c/x"),
        ("sqlite:///home/a:b@c/x", "sqlite:///home/a:b@c/x"),
    ],
)
def test_a_password_is_not_shown(address: str, shown: str):
    assert redacted(address) == shown


def test_without_the_client_of_redis_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "backend.storage.redis", raising=False)

    with pytest.raises(StorageError, match=r"install cliper-label-studio\[redis\]") as caught:
        open_storage("redis://:secret@host/0", max_blob_bytes=1)

    assert "secret" not in str(caught.value)
