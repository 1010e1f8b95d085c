"""A store that can go away, before or after it did what it was asked."""

from collections.abc import Callable, Iterator
from typing import Any

from backend.errors import StorageAway
from backend.storage.base import Json, Key, Record, Storage


class Killed(BaseException):
    """The process ends here."""


class AwayStorage:
    """Wraps a store. `away`: every call fails. `fail_swaps`: so many swaps happen, and then fail.

    `calls` counts what was asked; the one with the number `killed_at` never happens, and before the
    one with the number `held_at`, `meanwhile` happens.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.away = False
        self.fail_swaps = 0
        self.calls = 0
        self.killed_at: int | None = None
        self.held_at: int | None = None
        self.meanwhile: Callable[[], object] = lambda: None

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

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Every other method."""
        method = getattr(self._storage, name)

        def ask(*args: Any, **named: Any) -> Any:
            self._reach()
            return method(*args, **named)

        return ask

    def close(self) -> None:
        self._storage.close()

    def _reach(self) -> None:
        self.calls += 1
        if self.calls == self.killed_at:
            raise Killed
        if self.calls == self.held_at:
            self.meanwhile()
        if self.away:
            raise StorageAway("the store cannot be reached")
