"""A store that waits while the one behind it is away: for whoever works in the background.

Requests do not wait: they answer that the store is away. After a swap that met an absent store
nobody knows whether it happened; it is tried again, and says that somebody else was faster where
that somebody was itself. Whoever swaps through here must know its own writes again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from ..errors import StorageAway
from .base import Counts, Entry, Json, Key, Record, Storage

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST, LONGEST = 0.2, 5.0  # seconds between two tries; doubled from one to the other
BOUND = 600.0  # seconds waited in all for one call


class Wait:
    """What is waited for now, for `/health`; logs once when waiting begins and once when it ends.

    Threads may share one: it waits while one of them does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, str] = {}  # by thread

    def __call__(self, sentence: str | None) -> None:
        """This thread waits, and why; None: no longer."""
        me = threading.get_ident()
        with self._lock:
            before = bool(self._waiting)
            if sentence is None:
                self._waiting.pop(me, None)
            else:
                self._waiting[me] = sentence
            now = bool(self._waiting)
        if now and not before:
            logger.warning("waiting for the store: %s", sentence)
        elif before and not now:
            logger.info("no longer waiting for the store")

    @property
    def sentence(self) -> str | None:
        """Why somebody waits, None if nobody does."""
        with self._lock:
            return next(iter(self._waiting.values()), None)


def patiently(
    storage: Storage,
    *,
    tell: Callable[[str | None], None],
    for_seconds: float = BOUND,
    sleep: Callable[[float], object] = time.sleep,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> "PatientStorage":
    """`storage`, asked again while it is away, up to `for_seconds` per call, answers that do not
    come among them.

    `tell` hears a sentence when waiting begins, and None when it ends. `stop` ends it early.
    Appending without `once` may add a line twice.
    """
    return PatientStorage(storage, tell, for_seconds, sleep, stop, clock)


class PatientStorage:
    """Every method raises StorageAway where waiting was in vain."""

    def __init__(
        self,
        storage: Storage,
        tell: Callable[[str | None], None],
        for_seconds: float,
        sleep: Callable[[float], object],
        stop: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._storage, self._tell, self._for_seconds = storage, tell, for_seconds
        self._sleep, self._stop, self._clock = sleep, stop, clock

    @property
    def name(self) -> str:
        return self._storage.name

    def get(self, key: Key) -> Record | None:
        return self._wait(lambda: self._storage.get(key))

    def swap(self, key: Key, value: Json, *, expected: int) -> int | None:
        return self._wait(lambda: self._storage.swap(key, value, expected=expected))

    def scan(self, prefix: Key | None, *, after: Key | None = None) -> Iterator[tuple[Key, Record]]:
        records = self._storage.scan(prefix, after=after)
        while True:
            try:
                found = next(records, None)
            except StorageAway:
                records, found = self._wait(partial(self._go_on, prefix, after))
            if found is None:
                return
            after = found[0]
            yield found

    def append(self, log: Key, entry: Json, *, once: str | None = None) -> int:
        return self._wait(lambda: self._storage.append(log, entry, once=once))

    def entries(self, log: Key, *, after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        return self._wait(lambda: self._storage.entries(log, after=after, limit=limit))

    def trim(self, log: Key, *, upto: int) -> None:
        self._wait(lambda: self._storage.trim(log, upto=upto))

    def logs(self) -> Iterator[tuple[Key, int]]:
        """Not waited for once begun; for copies and for people."""
        return self._storage.logs()

    def words(self, log: Key) -> Iterator[tuple[str, int]]:
        """Not waited for once begun; for copies and for people."""
        return self._storage.words(log)

    def restore(
        self, log: Key, lines: Sequence[Entry], words: Sequence[tuple[str, int]], *, last: int
    ) -> None:
        self._wait(lambda: self._storage.restore(log, lines, words, last=last))

    def drop_log(self, log: Key) -> None:
        self._wait(lambda: self._storage.drop_log(log))

    def put_blob(self, key: Key, data: bytes) -> bool:
        return self._wait(lambda: self._storage.put_blob(key, data))

    def get_blob(self, key: Key) -> bytes | None:
        return self._wait(lambda: self._storage.get_blob(key))

    def drop_blob(self, key: Key) -> None:
        self._wait(lambda: self._storage.drop_blob(key))

    def blob_bytes(self) -> int:
        return self._wait(self._storage.blob_bytes)

    def blobs(self) -> Iterator[Key]:
        """Not waited for once begun; for copies and for people."""
        return self._storage.blobs()

    def counts(self) -> Counts:
        return self._wait(self._storage.counts)

    def close(self) -> None:
        self._storage.close()

    def _go_on(
        self, prefix: Key | None, after: Key | None
    ) -> tuple[Iterator[tuple[Key, Record]], tuple[Key, Record] | None]:
        """A reading that goes on behind `after`, and its first record."""
        records = self._storage.scan(prefix, after=after)
        return records, next(records, None)

    def _wait(self, ask: Callable[[], T]) -> T:
        waited, pause = 0.0, FIRST
        told = False
        try:
            while True:
                begun = self._clock()
                try:
                    return ask()
                except StorageAway as away:
                    waited += self._clock() - begun
                    if self._stop() or waited >= self._for_seconds:
                        raise
                    self._tell(str(away))
                    told = True
                    self._sleep(pause)
                    waited, pause = waited + pause, min(2 * pause, LONGEST)
        finally:
            if told:
                self._tell(None)
