"""A store in memory: for tests, and for whoever wants nothing kept. Gone with the process."""

import bisect
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from .base import ABSENT, Counts, Entry, Json, Key, Record, from_text, span, to_text

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
        self._once: dict[str, dict[str, int]] = {}  # log -> word -> number
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

    def scan(self, prefix: Key | None, *, after: Key | None = None) -> Iterator[tuple[Key, Record]]:
        start, end = span(prefix)
        cut = bisect.bisect_left  # the first page may begin at `start` itself
        if after is not None and str(after) >= start:
            start, cut = str(after), bisect.bisect_right
        while True:
            with self._lock:
                first = cut(self._order, start)
                names = self._order[first : min(first + PAGE, bisect.bisect_left(self._order, end))]
                page = [(name, *self._records[name]) for name in names]
            for name, text, revision in page:
                yield Key.parse(name), Record(from_text(text), revision)
            if len(page) < PAGE:
                return
            start, cut = page[-1][0], bisect.bisect_right

    def append(self, log: Key, entry: Json, *, once: str | None = None) -> int:
        text, name = to_text(entry), str(log)
        (once or "").encode()  # UnicodeEncodeError is a ValueError
        with self._lock:
            said = self._once.setdefault(name, {})
            if once is not None and once in said:
                return said[once]
            number = self._numbers[name] = self._numbers.get(name, 0) + 1
            self._logs.setdefault(name, []).append((number, text))
            if once is not None:
                said[once] = number
            return number

    def entries(self, log: Key, *, after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        with self._lock:
            lines = self._logs.get(str(log), [])
            first = bisect.bisect_right(lines, after, key=lambda line: line[0])
            page = lines[first : first + max(limit, 0)]
        return [Entry(number, from_text(text)) for number, text in page]

    def trim(self, log: Key, *, upto: int) -> None:
        with self._lock:
            lines = self._logs.get(str(log), [])
            del lines[: bisect.bisect_right(lines, upto, key=lambda line: line[0])]

    def logs(self) -> Iterator[tuple[Key, int]]:
        with self._lock:
            known = sorted(self._numbers.items())
        return ((Key.parse(name), last) for name, last in known)

    def words(self, log: Key) -> Iterator[tuple[str, int]]:
        with self._lock:
            return iter(list(self._once.get(str(log), {}).items()))

    def restore(
        self, log: Key, lines: Sequence[Entry], words: Sequence[tuple[str, int]], *, last: int
    ) -> None:
        name = str(log)
        with self._lock:
            there = dict(self._logs.get(name, []))
            there = {line.number: to_text(line.value) for line in lines} | there
            self._logs[name] = sorted(there.items())
            self._once[name] = dict(words) | self._once.get(name, {})
            self._numbers[name] = max(last, self._numbers.get(name, 0), *there)

    def drop_log(self, log: Key) -> None:
        with self._lock:
            for table in (self._logs, self._once, self._numbers):
                table.pop(str(log), None)

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

    def blobs(self) -> Iterator[Key]:
        with self._lock:
            names = list(self._blobs)
        return map(Key.parse, names)

    def counts(self) -> Counts:
        with self._lock:
            return Counts(
                records=len(self._records),
                logs=len(self._numbers),
                lines=sum(map(len, self._logs.values())),
                words=sum(map(len, self._once.values())),
                blobs=len(self._blobs),
                blob_bytes=self._blob_bytes,
            )

    def close(self) -> None:
        """Nothing to let go of."""
