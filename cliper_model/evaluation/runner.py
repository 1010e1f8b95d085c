"""One measurement: every picture segmented, counted and written down; figures at the end.

The runner never asks which method it measures: it is given a function from a picture to a label
map. It holds one picture and one confusion matrix at a time.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image as PilImage
from tqdm import tqdm

from ..errors import CliperError
from . import boundary, confusion, presence, views
from .confusion import IGNORED
from .datasets.base import DataSet, Sample
from .errors import BadDataset, EvaluationError
from .gallery import Gallery
from .records import Header, Record, writing

PROTOCOL: Final = 1  # raised whenever the same predictions give other figures
UNREADABLE: Final = (  # what a broken file makes of the image library
    OSError,
    EvaluationError,
    ValueError,
    SyntaxError,
    PilImage.DecompressionBombError,
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a method says of one picture.

    label_map  0 for background or nothing, index + 1 for a class; the size of the picture
    claimed    classes it says are there, from 1; None takes those of the label map
    """

    label_map: Int[np.ndarray, "height width"]
    claimed: tuple[int, ...] | None = None


Segment = Callable[[UInt8[np.ndarray, "height width 3"]], Prediction]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a data set is measured.

    view_of                which parts of a picture are units of their own
    ignored_is_background  pixels without a label count as background (CLIPtrase §3)
    background_is_ignored  background pixels are not counted
    limit                  measure the first pictures only; None measures all
    shard                  (which, of how many), from 1: every how-many-th unit
    """

    view_of: Mapping[str, views.View] = field(default_factory=lambda: views.WHOLE)
    ignored_is_background: bool = False
    background_is_ignored: bool = False
    limit: int | None = None
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        which, of = self.shard
        if not 1 <= which <= of:
            raise ValueError(f"a shard is I/N with I from 1 to N, got {which}/{of}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"the limit must be at least 1, got {self.limit}")

    def units(self, data: DataSet) -> list[tuple[Sample, str]]:
        """Pictures with the name of their view, in order, all shards together."""
        return [(one, view) for one in data.samples[: self.limit] for view in self.view_of]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything counted so far; what reports are made of."""

    header: Header
    records: Mapping[int, Record]
    matrix: Int[np.ndarray, "labels labels"]

    @property
    def failed(self) -> tuple[Record, ...]:
        return tuple(one for one in self.records.values() if one.failed is not None)

    @property
    def counted(self) -> tuple[Record, ...]:
        return tuple(one for one in self.records.values() if one.failed is None)


def header_of(data: DataSet, protocol: Protocol, settings: Mapping[str, Any]) -> Header:
    """What the measurement depends on; `settings` is the method's own account of itself."""
    units = protocol.units(data)
    return Header(
        settings={
            "dataset": data.name,
            "protocol": PROTOCOL,
            "classes": list(data.classes),
            "background": data.background and not protocol.background_is_ignored,
            "ignored_is_background": protocol.ignored_is_background,
            "views": list(protocol.view_of),
            "boundary_tolerance": boundary.TOLERANCE,
            "limit": protocol.limit,
            "pictures": _digest([name_of(sample, view) for sample, view in units]),
            "truth_sha256": data.truth_sha256(limit=protocol.limit),
            **data.layout.notes,
            **settings,
        },
        shard=protocol.shard,
        count=len(units),
    )


def name_of(sample: Sample, view: str) -> str:
    return f"{sample.name}#{view}" if view else sample.name


def run(
    data: DataSet,
    segment: Segment,
    *,
    out: Path,
    settings: Mapping[str, Any],
    protocol: Protocol | None = None,
    resume: bool = False,
    show_progress: bool = False,
) -> Measured:
    """Measure the shard's units that are not done yet. Failed ones are tried again.

    A picture that cannot be read or segmented is written down with its reason and the run goes
    on. Raises RunDiffers for a folder that holds another measurement.
    """
    chosen = protocol or Protocol()
    header = header_of(data, chosen, settings)
    units = chosen.units(data)
    which, of = chosen.shard
    mine = range(which - 1, len(units), of)
    with writing(out, header, resume=resume) as (writer, done):
        matrix = sum_of(done.values(), labels=data.labels)
        records = dict(done)
        gallery = Gallery(out, data.labels)
        gallery.begin(records.values())
        todo = [i for i in mine if i not in done or done[i].failed is not None]
        bar = tqdm(
            todo,
            total=len(mine),
            initial=len(mine) - len(todo),
            unit="picture",
            desc=data.name,
            disable=None if show_progress else True,
            file=sys.stderr,
        )
        with bar:
            for index in bar:
                record = _one(data, segment, chosen, units[index], index, gallery)
                writer.add(record)
                records[index] = record
                if record.failed is None:
                    matrix += confusion.from_sparse(record.confusion, labels=data.labels)
                elif show_progress:
                    with bar.external_write_mode(file=sys.stderr):
                        print(f"{record.name}: {record.failed}", file=sys.stderr, flush=True)
                if show_progress:
                    bar.set_postfix_str(f"mIoU {confusion.figures(matrix).miou:.1f}", refresh=False)
    gallery.finish(records.values())
    return Measured(header=header, records=dict(sorted(records.items())), matrix=matrix)


def sum_of(records: Iterable[Record], *, labels: int) -> Int[np.ndarray, "labels labels"]:
    """The whole-set confusion matrix of many records."""
    matrix = np.zeros((labels, labels), np.int64)
    for record in records:
        if record.failed is None:
            for truth, predicted, pixels in record.confusion:
                matrix[truth, predicted] += pixels
    return matrix


def _one(
    data: DataSet,
    segment: Segment,
    protocol: Protocol,
    unit: tuple[Sample, str],
    index: int,
    gallery: Gallery,
) -> Record:
    sample, view = unit
    name = name_of(sample, view)
    try:
        image, truth = data.image(sample), data.truth(sample)
        if image.shape[:2] != truth.shape:
            raise BadDataset(
                f"the picture is {image.shape[1]} x {image.shape[0]} pixels, its mask "
                f"{truth.shape[1]} x {truth.shape[0]}"
            )
        image, truth = protocol.view_of[view](image, truth)
        if protocol.ignored_is_background:
            truth = np.where(truth == IGNORED, 0, truth)
        if protocol.background_is_ignored:
            truth = np.where(truth == 0, IGNORED, truth)
    except UNREADABLE as error:
        return Record(index=index, name=name, failed=_sentence(error))
    began = time.perf_counter()
    try:
        prediction = segment(np.ascontiguousarray(image))
    except Exception as error:
        if not _lost_picture(error):
            raise
        return Record(index=index, name=name, failed=_sentence(error))
    seconds = time.perf_counter() - began
    label_map = prediction.label_map
    if label_map.shape != truth.shape:
        raise ValueError(
            f"the method gave {list(label_map.shape)} for a picture of {list(truth.shape)}"
        )
    counted = confusion.count(truth, label_map, labels=data.labels)
    claimed = prediction.claimed
    record = Record(
        index=index,
        name=name,
        size_hw=(truth.shape[0], truth.shape[1]),
        confusion=confusion.to_sparse(counted),
        outlines=boundary.outlines(truth, label_map),
        present=presence.shown(truth),
        claimed=presence.shown(label_map) if claimed is None else tuple(sorted(claimed)),
        seconds=round(seconds, 4),
    )
    gallery.offer(record, image, truth, label_map)
    return record


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _lost_picture(error: Exception) -> bool:
    """Memory that ran out, or a picture the model refuses: one picture is lost, not the run."""
    if isinstance(error, CliperError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "allocate" in text)


def _digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
