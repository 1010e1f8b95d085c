"""Finished work, kept in memory up to a number of bytes; least recently used goes first."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A value that knows how much memory it takes."""

    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=Sized)


class ResultCache(Generic[Value]):
    """A bounded dictionary, safe to use from many threads. Values must be immutable."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: Value) -> None:
        """Remember a value; one larger than the whole cache is not kept."""
        with self._lock:
            before = self._values.pop(key, None)
            self._bytes -= before.nbytes if before is not None else 0
            if value.nbytes > self._max_bytes:
                return
            self._values[key] = value
            self._bytes += value.nbytes
            while self._bytes > self._max_bytes:
                _, oldest = self._values.popitem(last=False)
                self._bytes -= oldest.nbytes

    def __len__(self) -> int:
        return len(self._values)
