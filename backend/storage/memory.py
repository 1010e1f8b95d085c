"""A store in memory: for tests, and for whoever wants nothing kept. Gone with the process."""

import bisect
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from .base import ABSENT, Entry, Json, Key, Record, from_text, to_text

PAGE = 200  # records read under one lock


class MemoryStorage:
    """One process only; threads may share it. Values are kept as text, so nobody shares them."""

    def __init__(self, *, max_blob_bytes: int) -> None:
        self._max_blob_bytes = max_blob_bytes
        self._lock = threading.Lock()
        self._revision = 0
        self._records: dict[str, tuple[str, int]] = {}
        self._order: list[str] = []  # keys of records, sorted
        self._logs: dict[str, list[tuple[int, str]]] = {}
        self._numbers: dict[str, int] = {}
        self._once: dict[tuple[str, str], int] = {}
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._blob_bytes = 0

    @property
    def name(self) -> str:
        return "memory"

    def get(self, key: Key) -> Record | None:
        with self._lock:
            found = self._records.get(str(key))
        return None if found is None else Record(from_text(found[0]), found[1])

    def swap(self, key: Key, value: Json, *, expected: int) -> int | None:
        text, name = to_text(value), str(key)
        with self._lock:
            before = self._records.get(name)
            if (before[1] if before is not None else ABSENT) != expected:
                return None
            if value is None:
                if before is not None:
                    del self._records[name]
                    del self._order[bisect.bisect_left(self._order, name)]
                return ABSENT
            if before is None:
                bisect.insort(self._order, name)
            self._revision += 1
            self._records[name] = (text, self._revision)
            return self._revision

    def scan(self, prefix: Key, *, after: Key | None = None) -> Iterator[tuple[Key, Record]]:
        beginning = f"{prefix}/"
        last = max(beginning, str(after)) if after is not None else beginning
        while True:
            with self._lock:
                first = bisect.bisect_right(self._order, last)
                page = [
                    (name, *self._records[name])
                    for name in self._order[first : first + PAGE]
                    if name.startswith(beginning)
                ]
            for last, text, revision in page:
                yield Key.parse(last), Record(from_text(text), revision)
            if len(page) < PAGE:
                return

    def append(self, log: Key, entry: Json, *, once: str | None = None) -> int:
        text, name = to_text(entry), str(log)
        with self._lock:
            if once is not None and (name, once) in self._once:
                return self._once[name, once]
            number = self._numbers[name] = self._numbers.get(name, 0) + 1
            self._logs.setdefault(name, []).append((number, text))
            if once is not None:
                self._once[name, once] = number
            return number

    def entries(self, log: Key, *, after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        with self._lock:
            lines = self._logs.get(str(log), [])
            first = bisect.bisect_right(lines, after, key=lambda line: line[0])
            page = lines[first : first + limit]
        return [Entry(number, from_text(text)) for number, text in page]

    def trim(self, log: Key, *, upto: int) -> None:
        with self._lock:
            lines = self._logs.get(str(log), [])
            del lines[: bisect.bisect_right(lines, upto, key=lambda line: line[0])]

    def put_blob(self, key: Key, data: bytes) -> bool:
        name = str(key)
        with self._lock:
            self._blob_bytes -= len(self._blobs.pop(name, b""))
            if len(data) > self._max_blob_bytes:
                return False
            self._blobs[name] = data
            self._blob_bytes += len(data)
            while self._blob_bytes > self._max_blob_bytes:
                _, oldest = self._blobs.popitem(last=False)
                self._blob_bytes -= len(oldest)
            return True

    def get_blob(self, key: Key) -> bytes | None:
        with self._lock:
            data = self._blobs.get(str(key))
            if data is not None:
                self._blobs.move_to_end(str(key))
            return data

    def drop_blob(self, key: Key) -> None:
        with self._lock:
            self._blob_bytes -= len(self._blobs.pop(str(key), b""))

    def blob_bytes(self) -> int:
        return self._blob_bytes

    def close(self) -> None:
        """Nothing to let go of."""
