"""One line per picture, written down at once: what makes a measurement resumable and mergeable.

`records.jsonl` starts with a header, then holds one record per picture in the order they were
done. Everything counted is an integer, so any order and any split add up to the same figures.
A line is on the disk before the next picture starts; a line cut short by a crash is dropped.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from .boundary import Outline
from .confusion import Sparse
from .errors import CannotMerge, RunDiffers

FILE: Final = "records.jsonl"
FORMAT: Final = 1
FIRST: Final = (  # differences told first
    "dataset",
    "method.name",
    "method.profile",
    "method.device",
    "method.dtype",
    "limit",
    "truth_sha256",
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a measurement depends on. `settings` must be equal to go on or to merge.

    `shard` is (which, of how many), from 1; `count` is the number of units of the whole run.
    """

    settings: Mapping[str, Any]
    shard: tuple[int, int]
    count: int

    def differences(self, other: "Header", *, shards: bool) -> str:
        """`method was 'cliper', now 'maskclip'; ...`, empty where nothing differs."""
        mine, others = _flat(self.settings), _flat(other.settings)
        mine["number of pictures"], others["number of pictures"] = self.count, other.count
        if shards:
            mine["shard"], others["shard"] = self.shard, other.shard
        found = [
            f"{key} was {_short(mine.get(key))}, now {_short(others.get(key))}"
            for key in dict.fromkeys([*FIRST, *mine, *others])
            if mine.get(key) != others.get(key)
        ]
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        return "; ".join(found[:4]) + more


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was counted on one picture (or one half of it); `failed` says why nothing was.

    present, claimed   classes of the truth and classes the method says are there, from 1
    seconds            for the segmentation alone; no figure depends on it
    """

    index: int
    name: str
    size_hw: tuple[int, int] = (0, 0)
    confusion: Sparse = field(default_factory=list)
    outlines: tuple[Outline, ...] = ()
    present: tuple[int, ...] = ()
    claimed: tuple[int, ...] = ()
    seconds: float = 0.0
    failed: str | None = None


def to_line(record: Record) -> str:
    """One line of JSON without a line break."""
    if record.failed is not None:
        content: dict[str, Any] = {
            "index": record.index,
            "name": record.name,
            "failed": record.failed,
        }
    else:
        content = {
            **asdict(record),
            "outlines": [list(asdict(one).values()) for one in record.outlines],
        }
        del content["failed"]
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def from_line(line: str) -> Record:
    """Raises ValueError for anything else than a whole line of ours."""
    content = json.loads(line)
    try:
        if "failed" in content:
            return Record(**content)
        names = ("label", "predicted", "predicted_matched", "truth", "truth_matched")
        return Record(
            **{
                **content,
                "size_hw": tuple(content["size_hw"]),
                "outlines": tuple(
                    Outline(**dict(zip(names, numbers, strict=True)))
                    for numbers in content["outlines"]
                ),
                "present": tuple(content["present"]),
                "claimed": tuple(content["claimed"]),
            }
        )
    except (KeyError, TypeError) as wrong:
        raise ValueError(str(wrong)) from None


def read(folder: Path) -> tuple[Header, dict[int, Record]]:
    """Header and the last record of every index, sorted; a half-written last line is dropped.

    Raises RunDiffers where there is no measurement or a line in the middle is damaged.
    """
    header, records, _ = _read(folder)
    return header, records


def _read(folder: Path) -> tuple[Header, dict[int, Record], int]:
    path = folder / FILE
    if not path.is_file():
        raise RunDiffers(f"{folder} holds no measurement; run without --resume first")
    records: dict[int, Record] = {}
    header = None
    good = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break  # the crash came in the middle of this line
            try:
                if header is None:
                    header = _header(json.loads(line))
                else:
                    record = from_line(line.decode("utf-8"))
                    records[record.index] = record
            except (ValueError, KeyError, TypeError):
                raise RunDiffers(
                    f"line {number} of {path} is damaged; delete {folder} and measure again"
                ) from None
            good += len(line)
    if header is None:
        raise RunDiffers(f"{path} has no header; delete {folder} and measure again")
    return header, dict(sorted(records.items())), good


def _header(content: Mapping[str, Any]) -> Header:
    if content["format"] != FORMAT:
        raise ValueError("another format")
    first, of = content["shard"]
    return Header(settings=content["settings"], shard=(first, of), count=content["count"])


@contextmanager
def writing(
    folder: Path, header: Header, *, resume: bool
) -> Iterator[tuple["Writer", dict[int, Record]]]:
    """A writer at the end of the folder's records, and those that are there already.

    Raises RunDiffers where the folder holds a measurement and `resume` is not asked for, or
    where its header says something else.
    """
    path = folder / FILE
    done: dict[int, Record] = {}
    folder.mkdir(parents=True, exist_ok=True)
    begun = _has_header(path)
    if begun and not resume:
        raise RunDiffers(
            f"{folder} already holds a measurement; add --resume to go on with it, or choose "
            "another --out"
        )
    if begun:
        before, done, good = _read(folder)
        changed = before.differences(_as_json(header), shards=True)
        if changed:
            raise RunDiffers(
                f"--resume cannot go on with {folder}: {changed}; choose another --out, or the "
                "same settings"
            )
        with path.open("r+b") as stream:
            stream.truncate(good)
        with path.open("ab") as stream:
            yield Writer(stream), done
        return
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.line(
            json.dumps(
                {
                    "format": FORMAT,
                    "count": header.count,
                    "shard": list(header.shard),
                    "settings": header.settings,
                },
                ensure_ascii=False,
            )
        )
        yield writer, done


@dataclass(frozen=True)
class Writer:
    """Appends lines; each is on the disk when `add` returns."""

    stream: IO[bytes]

    def add(self, record: Record) -> None:
        self.line(to_line(record))

    def line(self, text: str) -> None:
        self.stream.write(text.encode("utf-8") + b"\n")
        self.stream.flush()
        os.fsync(self.stream.fileno())


def merge(folders: Iterable[Path]) -> tuple[Header, dict[int, Record]]:
    """The records of all shards of one measurement.

    Raises CannotMerge where a shard is missing, occurs twice, or was made differently.
    """
    parts = [(folder, *read(folder)) for folder in folders]
    if not parts:
        raise CannotMerge("name the folders of all shards to merge")
    first_folder, first, _ = parts[0]
    together: dict[int, Record] = {}
    seen: dict[int, Path] = {}
    for folder, header, records in parts:
        changed = first.differences(header, shards=False)
        if changed or header.shard[1] != first.shard[1]:
            what = changed or f"shards of {first.shard[1]} and of {header.shard[1]}"
            raise CannotMerge(
                f"{folder} and {first_folder} are not parts of one measurement: {what}"
            )
        which = header.shard[0]
        if which in seen:
            raise CannotMerge(f"{folder} and {seen[which]} are both shard {which}; name each once")
        seen[which] = folder
        together |= records
    missing = [which for which in range(1, first.shard[1] + 1) if which not in seen]
    if missing:
        raise CannotMerge(f"shard {missing[0]} of {first.shard[1]} is missing; name its folder too")
    absent = [index for index in range(first.count) if index not in together]
    if absent:
        which = absent[0] % first.shard[1] + 1
        raise CannotMerge(
            f"{len(absent)} of {first.count} pictures are not done; finish shard {which} in "
            f"{seen[which]} with --resume first"
        )
    header = Header(settings=first.settings, shard=(1, 1), count=first.count)
    return header, dict(sorted(together.items()))


def _has_header(path: Path) -> bool:
    """False for a file that a crash cut short in its very first line."""
    if not path.is_file():
        return False
    with path.open("rb") as lines:
        return lines.readline().endswith(b"\n")


def _as_json(header: Header) -> Header:
    """As it reads when it comes back from the file."""
    settings = json.loads(json.dumps(header.settings))
    return Header(settings=settings, shard=header.shard, count=header.count)


def _flat(value: Mapping[str, Any], front: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{front}{key}.")
        else:
            found[f"{front}{key}"] = inner
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
