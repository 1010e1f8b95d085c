"""Everything of one store into another: records, logs with their numbers and words, blobs.

Revisions are the target's own. A log keeps its numbers, so that whoever noted how far he has read
it goes on there.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

from ..errors import StorageError
from .base import ABSENT, Counts, Key, Scope, Storage

Item = TypeVar("Item")

KEEP, REPLACE = "keep", "replace"  # what happens to a key both stores have
MERGES = {
    KEEP: "what TO has stays",
    REPLACE: "what FROM has takes its place",
}
PAGE = 200  # lines or words written at once
NOTHING = Counts(0, 0, 0, 0, 0, 0)


class Copied(NamedTuple):
    """What a copy did. `kept`: records and logs both had and TO kept; `passed`: blobs that did not
    fit or that TO kept."""

    records: int = 0
    logs: int = 0
    lines: int = 0
    words: int = 0
    blobs: int = 0
    kept: int = 0
    passed: int = 0

    def plus(self, more: "Copied") -> "Copied":
        return Copied(*map(sum, zip(self, more, strict=True)))


Tell = Callable[[Copied], object]


def copy(
    source: Storage, target: Storage, *, merge: str | None = None, tell: Tell = lambda done: None
) -> Copied:
    """Copy everything; `tell` hears how far it is. Nothing may write to `source` meanwhile.

    Without `merge` the target must be empty, and is counted at the end. A copy that was broken off
    is done again with `replace`: a log half copied counts as there. Raises StorageError and what
    both stores raise.
    """
    before = target.counts()
    if merge is None and before != NOTHING:
        raise StorageError(
            f"{target.name} is not empty ({before.records} records, {before.logs} logs, "
            f"{before.blobs} blobs); copy into an empty store, or say with --merge what happens to "
            "a key that both have"
        )
    if before != NOTHING and _are_one(source, target):
        raise StorageError(f"{source.name} and {target.name} are one store; name two")
    done = Copied()
    for step in (_records, _logs, _blobs):
        for piece in step(source, target, replace=merge == REPLACE):
            done = done.plus(piece)
            tell(done)
    if merge is None:
        _check(done, source.counts(), target)
    return done


def _are_one(source: Storage, target: Storage) -> bool:
    """Whether two addresses lead to the same place, as two names of one host do: what is written
    through one is then read through the other."""
    probe = Key(Scope(), ("copy", secrets.token_hex(8)))
    written = target.swap(probe, "probe", expected=ABSENT)
    try:
        return source.get(probe) is not None
    finally:
        target.swap(probe, None, expected=written or ABSENT)


def _records(source: Storage, target: Storage, *, replace: bool) -> Iterator[Copied]:
    for key, record in source.scan(None):
        expected = ABSENT
        while target.swap(key, record.value, expected=expected) is None:
            if not replace:
                yield Copied(kept=1)
                break
            there = target.get(key)
            expected = there.revision if there is not None else ABSENT
        else:
            yield Copied(records=1)


def _logs(source: Storage, target: Storage, *, replace: bool) -> Iterator[Copied]:
    there = {log for log, _ in target.logs()}
    for log, last in source.logs():
        if log in there:
            if not replace:
                yield Copied(kept=1)
                continue
            target.drop_log(log)
        target.restore(log, [], [], last=last)
        yield Copied(logs=1)
        read = 0
        while lines := source.entries(log, after=read, limit=PAGE):
            target.restore(log, lines, [], last=last)
            read = lines[-1].number
            yield Copied(lines=len(lines))
        for words in _pages(source.words(log)):
            target.restore(log, [], words, last=last)
            yield Copied(words=len(words))


def _blobs(source: Storage, target: Storage, *, replace: bool) -> Iterator[Copied]:
    """Those used longest ago first, so that the target lets go of the same ones."""
    there: set[Key] = set() if replace else set(target.blobs())
    for key in source.blobs():
        data = None if key in there else source.get_blob(key)
        fits = data is not None and target.put_blob(key, data)
        yield Copied(blobs=1) if fits else Copied(passed=1)


def _pages(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while page := list(islice(rest, PAGE)):
        yield page


def _check(done: Copied, source: Counts, target: Storage) -> None:
    """Raises StorageError where the target does not hold what was there to copy."""
    found = target.counts()
    for what in ("records", "logs", "lines", "words"):
        there, copied = getattr(source, what), getattr(found, what)
        if not there == copied == getattr(done, what):
            raise StorageError(
                f"{target.name} has {copied} {what} after the copy, not {there}; stop whatever "
                "writes to the stores, and copy again with --merge replace"
            )
