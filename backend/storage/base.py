"""The contract of every store: records with revisions, logs, and blobs with a bound.

Values are plain JSON; blobs are bytes (safetensors, or JSON). Everything lies under a `Scope`,
so that two Label Studios that both have a project 1 never share anything.

    record   get, swap (compare-and-set), scan by prefix: small, never lost
    log      append, entries, trim: small, in order, never lost
    blob     put, get, drop: large, may be forgotten; the least recently used goes first
    all      scan(None), logs, words, restore, drop_log, blobs, counts: for copies and for people

Each method is one transaction (an iteration: one per page), safe from threads and from processes,
and raises StorageAway while the store cannot be reached, StorageUnfit where it turns out to be
damaged. Words of keys and logs must be text that UTF-8 can write, else ValueError.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import quote, unquote, urlsplit

SCHEMA = 1  # of what lies in a store; raise when older programs could not read it
ABSENT = 0  # revision of a record that is not there

Json = Any  # None, bool, int, float, str, list or dict of such


@dataclass(frozen=True, order=True)
class Scope:
    """Whose data it is: a Label Studio and one of its projects.

    origin   `http://host:port` of the Label Studio, and its path where it has one: a host may have
             several; "" where none is known
    project  number and birth of the project as Label Studio writes it, `12.1795190531`; "" for what
             belongs to no project
    """

    origin: str = ""
    project: str = ""

    @classmethod
    def of(cls, url: str | None, project: str | None = None) -> Self:
        """The scope of an address in any spelling: default ports and last slashes do not matter."""
        parts = urlsplit(url or "")
        if not parts.hostname:
            return cls("", project or "")
        host = parts.hostname.lower()
        host = f"[{host}]" if ":" in host else host
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        path = parts.path.rstrip("/")
        return cls(f"{parts.scheme.lower()}://{host}:{port}{path}", project or "")


@dataclass(frozen=True, order=True)
class Key:
    """A place in a store: a scope, and words from the general to the particular."""

    scope: Scope
    path: tuple[str, ...] = ()

    def __truediv__(self, word: str) -> "Key":
        return Key(self.scope, (*self.path, word))

    def __str__(self) -> str:
        """As stores write it; a prefix in words is a prefix in letters up to the last slash."""
        words = (self.scope.origin, self.scope.project, *self.path)
        return "/".join(quote(word, safe="") for word in words)

    @classmethod
    def parse(cls, text: str) -> Self:
        origin, project, *path = map(unquote, text.split("/"))
        return cls(Scope(origin, project), tuple(path))


class Record(NamedTuple):
    """A value and its revision; a store never gives the same revision twice."""

    value: Json
    revision: int


class Entry(NamedTuple):
    """One line of a log. Numbers rise within a log, and are never given twice."""

    number: int
    value: Json


class Counts(NamedTuple):
    """How much lies in a store. `words` are those said with `once`."""

    records: int
    logs: int
    lines: int
    words: int
    blobs: int
    blob_bytes: int


class Storage(Protocol):
    """A store. `name` says which, for people, no secrets: `SQLite at /data/cliper.sqlite`."""

    @property
    def name(self) -> str: ...

    def get(self, key: Key) -> Record | None:
        """A record, None if there is none."""
        ...

    def swap(self, key: Key, value: Json, *, expected: int) -> int | None:
        """Write if the record's revision is `expected` (`ABSENT`: there is none); None removes it.

        Returns the new revision, or None where somebody else was faster. Removing what is there
        returns `ABSENT`.
        """
        ...

    def scan(self, prefix: Key | None, *, after: Key | None = None) -> Iterator[tuple[Key, Record]]:
        """Records below `prefix`, `prefix` itself not included, in the order of their written keys;
        None: all records of all scopes.

        Reads in pages, so memory stays bounded and no lock is held between them. What changes
        meanwhile may or may not be seen; what does not change is seen once. `after` goes on
        behind a key.
        """
        ...

    def append(self, log: Key, entry: Json, *, once: str | None = None) -> int:
        """Add a line; its number. With `once`, a line added before under the same word is the line:
        nothing is added, and its number is returned, even after it was trimmed."""
        ...

    def entries(self, log: Key, *, after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        """Lines with numbers above `after`, oldest first."""
        ...

    def trim(self, log: Key, *, upto: int) -> None:
        """Forget the lines with numbers up to `upto`; what `once` was said stays known."""
        ...

    def logs(self) -> Iterator[tuple[Key, int]]:
        """Every log that ever had a line, in the order of their written keys, with the highest
        number it gave."""
        ...

    def words(self, log: Key) -> Iterator[tuple[str, int]]:
        """What was said with `once`, and the number of its line; in no order."""
        ...

    def restore(
        self, log: Key, lines: Sequence[Entry], words: Sequence[tuple[str, int]], *, last: int
    ) -> None:
        """Put lines and words into a log with the numbers they had elsewhere, in pieces of any
        size; the next line appended gets a number above `last`. What is there already stays."""
        ...

    def drop_log(self, log: Key) -> None:
        """Forget a log wholly, with its words and its numbers; for what nobody will read again."""
        ...

    def put_blob(self, key: Key, data: bytes) -> bool:
        """Keep bytes under the key in place of earlier ones; whether they fit at all.

        All blobs of a store together stay within its bound: those used longest ago go. Bytes that
        do not fit are not kept, and earlier ones under the key are gone.
        """
        ...

    def get_blob(self, key: Key) -> bytes | None:
        """Bytes, None if there are none or they had to go. Counts as use."""
        ...

    def drop_blob(self, key: Key) -> None:
        """Forget bytes; nothing happens where there are none."""
        ...

    def blob_bytes(self) -> int:
        """How much all blobs of the store take."""
        ...

    def blobs(self) -> Iterator[Key]:
        """Keys of blobs, those used longest ago first. No use by itself; what is used or put
        meanwhile is not seen twice."""
        ...

    def counts(self) -> Counts:
        """How much lies in the store."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def change(storage: Storage, key: Key, how: Callable[[Json], Json]) -> Json:
    """Read, change and write a record until nobody else was faster; the value written.

    `how` gets None where there is no record, and must have no effects: it may be called again.
    Raises StorageAway.
    """
    while True:
        found = storage.get(key)
        value = how(found.value if found is not None else None)
        expected = found.revision if found is not None else ABSENT
        if value is None and expected == ABSENT:
            return None
        if storage.swap(key, value, expected=expected) is not None:
            return value


def span(prefix: Key | None) -> tuple[str, str]:
    """Written keys below a prefix: from the first text on, up to and without the second."""
    return ("", "~") if prefix is None else (f"{prefix}/", f"{prefix}0")  # "0" is next to "/"


def to_text(value: Json) -> str:
    """A value as stores write it. Raises ValueError for NaN and infinities, TypeError for what is
    not JSON."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)


def from_text(text: str | bytes) -> Json:
    return json.loads(text)
