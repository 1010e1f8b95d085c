"""What every data set offers: samples, and how a sample becomes an image and a label map."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image as PilImage
from PIL import ImageOps

from ..confusion import IGNORED
from ..errors import BadDataset

UNKNOWN: Final = -2  # an id the data set does not define
MOST_IDS: Final = 1 << 16  # masks have 8 or 16 bits

Rgb = UInt8[np.ndarray, "height width 3"]
LabelMap = Int[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture and its mask. `name` is unique in the data set and the same everywhere."""

    name: str
    image: Path
    truth: Path


@dataclass(frozen=True, kw_only=True)
class IdMap:
    """What the numbers in the masks mean.

    labels   number in the file -> 0 for background, else index of the class + 1
    ignored  numbers that are not counted
    """

    labels: Mapping[int, int]
    ignored: frozenset[int] = frozenset()

    def table(self) -> Int[np.ndarray, " ids"]:
        """Label per id; `IGNORED` and `UNKNOWN` are negative."""
        table = np.full(MOST_IDS, UNKNOWN, np.int32)
        table[list(self.labels)] = list(self.labels.values())
        table[list(self.ignored)] = IGNORED
        return table

    def apply(self, ids: LabelMap) -> LabelMap:
        """Raises BadDataset for an id that is not in the map."""
        labels = self.table()[ids]
        if (labels == UNKNOWN).any():
            strange = np.unique(ids[labels == UNKNOWN])
            shown = ", ".join(map(str, strange[:5]))
            more = " ..." if len(strange) > 5 else ""
            raise BadDataset(
                f"the mask holds ids that the data set does not define: {shown}{more}; "
                f"known are {_ranges(self.labels)}, not counted {_ranges(self.ignored)}"
            )
        return labels


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What one layout found under a root: samples in order, and how to read them.

    ids          None where `read_truth` gives labels already (0, index + 1, or IGNORED)
    truth_files  files that `read_truth` reads for a sample; None: its `truth` alone
    upright      turn pictures as their camera says; published data sets are taken as stored
    notes        what the record of a measurement should say of the data
    """

    samples: tuple[Sample, ...]
    ids: IdMap | None
    classes: tuple[str, ...] | None = None  # names found in the root itself
    read_truth: Callable[[Sample], LabelMap] | None = None
    truth_files: Callable[[Sample], Sequence[Path]] | None = None
    upright: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


class FindSamples(Protocol):
    """One benchmark's file: where its pictures and masks are. Raises BadDataset."""

    def __call__(self, root: Path) -> Layout: ...


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Samples with the meaning of their masks; what the runner works on.

    `classes` are names for tables: label i + 1 is `classes[i]`. `background` is True where
    label 0 is itself counted; else 0 never occurs in the truth.
    """

    name: str
    classes: tuple[str, ...]
    background: bool
    layout: Layout = field(repr=False)

    @property
    def samples(self) -> Sequence[Sample]:
        return self.layout.samples

    @property
    def labels(self) -> int:
        """Size of the confusion matrix."""
        return len(self.classes) + 1

    def image(self, sample: Sample) -> Rgb:
        """The picture as RGB. Raises OSError for a picture that cannot be read."""
        with PilImage.open(sample.image) as picture:
            seen = ImageOps.exif_transpose(picture) if self.layout.upright else picture
            return np.asarray(seen.convert("RGB"))

    def truth(self, sample: Sample) -> LabelMap:
        """0 for background, index + 1 for a class, IGNORED elsewhere.

        Raises OSError or BadDataset for a mask that cannot be read or is none.
        """
        if self.layout.read_truth is not None:
            return self.layout.read_truth(sample)
        assert self.layout.ids is not None  # a layout without ids reads its own truth
        return self.layout.ids.apply(read_ids(sample.truth))

    def truth_sha256(self, *, limit: int | None = None) -> str:
        """Changes whenever a byte of the first `limit` samples' truth does.

        Of one file (an export) its SHA-256; of several, in the samples' order, the SHA-256 of
        lines with their names and sums. Every file is read once. One that cannot be read
        counts as such; the run says so in its turn.
        """
        files_of = self.layout.truth_files or (lambda sample: (sample.truth,))
        files = dict.fromkeys(file for one in self.samples[:limit] for file in files_of(one))
        sums = [(path.name, sha256(path)) for path in files]
        if len(sums) == 1:
            return sums[0][1]
        lines = "".join(f"{name} {digest}\n" for name, digest in sums)
        return hashlib.sha256(lines.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Of a file's bytes; `unreadable` where they cannot be had."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def read_ids(path: Path) -> LabelMap:
    """The numbers of a mask file, one channel of 8 or 16 bits; palettes give their indices.

    Raises BadDataset for a file with several channels, OSError for one that cannot be read.
    """
    with PilImage.open(path) as mask:
        if mask.mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
            raise BadDataset(not_a_mask(path, np.asarray(mask.convert("RGB"))))
        ids = np.asarray(mask).astype(np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= MOST_IDS):
        raise BadDataset(f"{path} holds ids outside 0 to {MOST_IDS - 1}; it is no mask")
    return ids


def not_a_mask(path: Path, colours: Rgb) -> str:
    """The sentence for a picture where a mask should be."""
    step = max(1, colours.shape[0] * colours.shape[1] // 100_000)
    distinct = len(np.unique(colours.reshape(-1, 3)[::step], axis=0))
    return (
        f"the masks should be one channel of label ids, but {path.name} has three channels and "
        f"{distinct} distinct colours: --root seems to name pictures as masks; look whether "
        f"{path.parent} and the folder of pictures are swapped"
    )


def find_root(root: Path, below: Iterable[str], needs: Iterable[str]) -> Path:
    """The first of `root` and `root/below` that has all folders in `needs`.

    Raises BadDataset that says which folders are missing.
    """
    places = [root, *(root / part for part in below)]
    needed = tuple(needs)
    for place in places:
        if all((place / part).exists() for part in needed):
            return place
    missing = [part for part in needed if not (root / part).exists()]
    also = f" (nor in {', '.join(below)})" if below else ""
    raise BadDataset(
        f"--root {root} has no {' and no '.join(missing)}{also}; point --root at the folder that "
        f"holds {', '.join(needed)}"
    )


def by_list(
    names: Path, image: Callable[[str], Path], truth: Callable[[str], Path]
) -> tuple[Sample, ...]:
    """One sample per line of a list of names. Raises BadDataset for an empty list."""
    lines = [
        line.split()[0] for line in names.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    if not lines:
        raise BadDataset(f"{names} lists no picture; get the list that comes with the data set")
    return tuple(Sample(name=line, image=image(line), truth=truth(line)) for line in lines)


def by_pairs(
    images: Iterable[Path], truth: Callable[[Path], Path], *, below: Path
) -> tuple[Sample, ...]:
    """One sample per picture, sorted by path. Raises BadDataset where there is none."""
    found = sorted(images)
    if not found:
        raise BadDataset(f"there is no picture in {below}; point --root at the data set's folder")
    return tuple(
        Sample(
            name=path.relative_to(below).with_suffix("").as_posix(), image=path, truth=truth(path)
        )
        for path in found
    )


def straight_ids(
    count: int, *, first: int, background: int | None, ignored: Iterable[int]
) -> IdMap:
    """Ids in a row: `first` is class 0, `background` is label 0, the rest is not counted."""
    labels = {first + index: index + 1 for index in range(count)}
    if background is not None:
        labels[background] = 0
    return IdMap(labels=labels, ignored=frozenset(ignored))


def _ranges(ids: Iterable[int]) -> str:
    """`0-20, 255`"""
    runs: list[list[int]] = []
    for value in sorted(ids):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"
