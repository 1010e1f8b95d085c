"""A store that can go away, before or after it did what it was asked."""

from collections.abc import Iterator, Sequence

from backend.errors import StorageAway
from backend.storage.base import Entry, Json, Key, Record, Storage


class Killed(BaseException):
    """The process ends here."""


class AwayStorage:
    """Wraps a store. `away`: every call fails. `fail_swaps`: so many swaps happen, and then fail.

    `calls` counts what was asked; the one with the number `killed_at` never happens.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.away = False
        self.fail_swaps = 0
        self.calls = 0
        self.killed_at: int | None = None

    @property
    def name(self) -> str:
        return self._storage.name

    def get(self, key: Key) -> Record | None:
        self._reach()
        return self._storage.get(key)

    def swap(self, key: Key, value: Json, *, expected: int) -> int | None:
        self._reach()
        done = self._storage.swap(key, value, expected=expected)
        if self.fail_swaps > 0:
            self.fail_swaps -= 1
            raise StorageAway("the store went away in the middle")
        return done

    def scan(self, prefix: Key, *, after: Key | None = None) -> Iterator[tuple[Key, Record]]:
        for found in self._storage.scan(prefix, after=after):
            self._reach()
            yield found
        self._reach()

    def append(self, log: Key, entry: Json, *, once: str | None = None) -> int:
        self._reach()
        return self._storage.append(log, entry, once=once)

    def entries(self, log: Key, *, after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        self._reach()
        return self._storage.entries(log, after=after, limit=limit)

    def trim(self, log: Key, *, upto: int) -> None:
        self._reach()
        self._storage.trim(log, upto=upto)

    def put_blob(self, key: Key, data: bytes) -> bool:
        self._reach()
        return self._storage.put_blob(key, data)

    def get_blob(self, key: Key) -> bytes | None:
        self._reach()
        return self._storage.get_blob(key)

    def drop_blob(self, key: Key) -> None:
        self._reach()
        self._storage.drop_blob(key)

    def blob_bytes(self) -> int:
        self._reach()
        return self._storage.blob_bytes()

    def close(self) -> None:
        self._storage.close()

    def _reach(self) -> None:
        self.calls += 1
        if self.calls == self.killed_at:
            raise Killed
        if self.away:
            raise StorageAway("the store cannot be reached")
