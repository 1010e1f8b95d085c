"""All stores against plain dictionaries, in whatever order things are done."""

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from backend.storage.base import ABSENT, Counts, Entry, Key, Scope, Storage
from backend.storage.open import open_storage

from ..doubles.redis_server import RedisServer

BOUND = 20  # bytes of all blobs
WORDS = ["a", "b", "a/b", ""]
KEYS = [Key(Scope(origin, ""), (word,)) for origin in ("", "o") for word in WORDS]

keys = some.sampled_from(KEYS)
values = some.one_of(
    some.none(), some.integers(0, 3), some.lists(some.text(max_size=2), max_size=1)
)
steps = some.one_of(
    some.tuples(some.just("swap"), keys, values, some.booleans()),
    some.tuples(some.just("append"), keys, values, some.sampled_from([None, "x", "y", ""])),
    some.tuples(some.just("trim"), keys, some.integers(0, 4)),
    some.tuples(some.just("drop_log"), keys),
    some.tuples(
        some.just("restore"), keys, some.dictionaries(some.integers(1, 6), values, max_size=3),
        some.dictionaries(some.sampled_from(["x", "z"]), some.integers(1, 6), max_size=2),
        some.integers(0, 7),
    ),
    some.tuples(some.just("put"), keys, some.binary(max_size=BOUND + 2)),
    some.tuples(some.just("use"), keys),
    some.tuples(some.just("drop"), keys),
)  # fmt: skip


class Model:
    """What a store should hold, said as plainly as can be."""

    def __init__(self) -> None:
        self.records: dict[Key, object] = {}
        self.revisions: dict[Key, int] = {}
        self.given: set[int] = {ABSENT}
        self.logs: dict[Key, dict[int, object]] = {}
        self.last: dict[Key, int] = {}
        self.words: dict[Key, dict[str, int]] = {}
        self.blobs: dict[Key, bytes] = {}  # the longest unused first

    def swap(self, store: Storage, key: Key, value: object, right: bool) -> None:
        known = self.revisions.get(key, ABSENT)
        revision = store.swap(key, value, expected=known if right else known + 1)
        if not right:
            assert revision is None
        elif value is None:
            assert revision == ABSENT
            self.records.pop(key, None)
            self.revisions.pop(key, None)
        else:
            assert revision is not None
            assert revision not in self.given
            self.given.add(revision)
            self.records[key], self.revisions[key] = value, revision

    def append(self, store: Storage, log: Key, value: object, once: str | None) -> None:
        number = store.append(log, value, once=once)
        said = self.words.setdefault(log, {})
        if once in said:
            assert number == said[once]
            return
        assert number == self.last.get(log, 0) + 1
        self.last[log] = number
        self.logs.setdefault(log, {})[number] = value
        if once is not None:
            said[once] = number

    def trim(self, store: Storage, log: Key, upto: int) -> None:
        store.trim(log, upto=upto)
        lines = self.logs.get(log, {})
        for number in [number for number in lines if number <= upto]:
            del lines[number]

    def drop_log(self, store: Storage, log: Key) -> None:
        store.drop_log(log)
        for table in (self.logs, self.last, self.words):
            table.pop(log, None)

    def restore(
        self, store: Storage, log: Key, lines: dict[int, object], words: dict[str, int], last: int
    ) -> None:
        store.restore(log, [Entry(*line) for line in lines.items()], [*words.items()], last=last)
        self.logs[log] = lines | self.logs.get(log, {})
        self.words[log] = words | self.words.get(log, {})
        self.last[log] = max(last, self.last.get(log, 0), *lines, 0)

    def put(self, store: Storage, key: Key, data: bytes) -> None:
        assert store.put_blob(key, data) == (len(data) <= BOUND)
        self.blobs.pop(key, None)
        if len(data) <= BOUND:
            self.blobs[key] = data
        while sum(map(len, self.blobs.values())) > BOUND:
            del self.blobs[next(iter(self.blobs))]

    def use(self, store: Storage, key: Key) -> None:
        assert store.get_blob(key) == self.blobs.get(key)
        if key in self.blobs:
            self.blobs[key] = self.blobs.pop(key)

    def drop(self, store: Storage, key: Key) -> None:
        store.drop_blob(key)
        self.blobs.pop(key, None)

    def check(self, store: Storage) -> None:
        assert [(key, record.value) for key, record in store.scan(None)] == sorted(
            self.records.items(), key=lambda item: str(item[0])
        )
        assert list(store.logs()) == sorted(self.last.items(), key=lambda item: str(item[0]))
        for log in KEYS:
            assert [tuple(line) for line in store.entries(log)] == sorted(
                self.logs.get(log, {}).items()
            )
            assert dict(store.words(log)) == self.words.get(log, {})
        assert list(store.blobs()) == list(self.blobs)
        assert store.blob_bytes() == sum(map(len, self.blobs.values()))
        assert store.counts() == Counts(
            records=len(self.records),
            logs=len(self.last),
            lines=sum(map(len, self.logs.values())),
            words=sum(map(len, self.words.values())),
            blobs=len(self.blobs),
            blob_bytes=store.blob_bytes(),
        )


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
@settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=some.lists(steps, max_size=40))
def test_a_store_holds_what_plain_dictionaries_would(
    kind: str, steps: list, tmp_path: Path, redis_server: RedisServer
):
    if kind == "redis":
        redis_server.empty()
    path = tmp_path / "store.sqlite"
    for file in tmp_path.glob("store.sqlite*"):
        file.unlink()
    address = {"memory": "memory:", "sqlite": f"sqlite:{path}", "redis": redis_server.url}[kind]
    model = Model()
    with closing(open_storage(address, max_blob_bytes=BOUND)) as store:
        for name, *told in steps:
            getattr(model, name)(store, *told)
        model.check(store)
