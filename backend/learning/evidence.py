"""What one corrected task says: small, kept for ever, and all that learning ever looks at.

A picture's features are kept place by place at reduced rank, with what share of each place every
label covers. Sums, second moments, score histograms, coarse masks and presence of every label all
follow from that, for the words of today as for those of tomorrow. At most `MOST_BYTES` a task.
"""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from jaxtyping import Bool, Float, Int8, UInt8

MOST_BYTES: Final = 64 * 1024  # of one task's evidence
MOST_CELLS: Final = 400  # of one picture
MOST_SAMPLES: Final = 4  # pictures of one task; of more the first
WHOLE = 255  # share of a place that is covered altogether
FORMAT = 1  # raise when older evidence cannot be read
DTYPES: Final = ("|i1", "|u1", "<f2", "<f4")  # of its arrays
DAMAGED: Final = (
    struct.error, zlib.error, ValueError, LookupError, TypeError, AttributeError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Features of the places of a picture: `mean + left @ right`, in eight bits a number.

    left   `[places, rank]`, times `left_scale` per column
    right  `[rank, embed]`, times `right_scale` per row
    """

    mean: Float[np.ndarray, " embed"]  # float16
    left: Int8[np.ndarray, "places rank"]
    left_scale: Float[np.ndarray, " rank"]  # float32
    right: Int8[np.ndarray, "rank embed"]
    right_scale: Float[np.ndarray, " rank"]  # float32

    @classmethod
    def of(cls, cells: Float[np.ndarray, "places embed"], *, most_bytes: int) -> Self:
        """The best features of at most so many bytes."""
        values = cells.astype(np.float64)
        mean = values.mean(axis=0).astype(np.float16)
        rest = values - mean.astype(np.float64)
        rank = min(_rank(rest.shape, most_bytes), *rest.shape)
        left, strength, right = np.linalg.svd(rest, full_matrices=False)
        kept = slice(0, rank)
        root = np.sqrt(strength[kept])
        small_left, left_scale = _eight_bits((left[:, kept] * root).T)
        small_right, right_scale = _eight_bits(right[kept] * root[:, None])
        return cls(
            mean=mean,
            left=np.ascontiguousarray(small_left.T),
            left_scale=left_scale,
            right=small_right,
            right_scale=right_scale,
        )

    def within(self, most_bytes: int) -> Self:
        """The same as `of` at so many bytes, which are no more than before."""
        kept = slice(0, _rank((len(self.left), len(self.mean)), most_bytes))
        return type(self)(
            mean=self.mean,
            left=np.ascontiguousarray(self.left[:, kept]),
            left_scale=self.left_scale[kept],
            right=self.right[kept],
            right_scale=self.right_scale[kept],
        )

    @property
    def values(self) -> Float[np.ndarray, "places embed"]:
        """float32."""
        left = self.left.astype(np.float32) * self.left_scale
        right = self.right.astype(np.float32) * self.right_scale[:, None]
        values: Float[np.ndarray, "places embed"] = left @ right + self.mean.astype(np.float32)
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What people said about one control's labels on one picture.

    asked   labels the control had: those that are not in `labels` are not in the picture
    labels  those that were painted
    shares  of every place that a painted label covers, `[labels, places]`; 255 is all of it
    rest    whether what is not painted is known to be none of the labels
    """

    asked: tuple[str, ...]
    labels: tuple[str, ...]
    shares: UInt8[np.ndarray, "labels places"]
    rest: bool


@dataclass(frozen=True, kw_only=True)
class AsItWas:
    """How the model without any correction did on one control of a picture.

    quality    mean IoU, over labels painted or predicted, of its masks and people's; 1 where both
               found nothing
    agreement  see `Scores.agreement`
    presence   label -> presence it had
    """

    quality: float
    agreement: float | None
    presence: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One picture of a corrected task. `truths` and `before` go by the control's `from_name`;
    `models` says which model and preset a control's logits come from (`lessons.model_of`)."""

    grid_hw: tuple[int, int]
    cells: Cells
    truths: Mapping[str, Truth]
    before: Mapping[str, AsItWas]
    models: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """One corrected task.

    task        its number
    annotation  number of the annotation that counts; numbers rise with time
    stamp       digest of what the annotation says; equal ones need not be looked at again
    weight      1, or less for what was accepted at a glance
    """

    task: int
    annotation: int
    stamp: str
    weight: float
    samples: tuple[Sample, ...]

    def to_bytes(self) -> bytes:
        """A header in JSON, then arrays. Equal evidence gives equal bytes."""
        arrays: list[np.ndarray] = []

        def put(array: np.ndarray) -> Mapping[str, Any]:
            arrays.append(np.ascontiguousarray(array))
            return {"shape": list(array.shape), "dtype": array.dtype.str}

        header = {
            "format": FORMAT,
            "task": self.task,
            "annotation": self.annotation,
            "stamp": self.stamp,
            "weight": self.weight,
            "samples": [_written(sample, put) for sample in self.samples],
        }
        told = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        text = told.encode()
        body = b"".join(array.tobytes() for array in arrays)
        return struct.pack("<I", len(text)) + zlib.compress(text + body, 6)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ValueError for what is no evidence of this format."""
        try:
            (length,) = struct.unpack_from("<I", data)
            whole = memoryview(zlib.decompress(data[4:]))
            header = json.loads(bytes(whole[:length]))
            found, body = header["format"], whole[length:]
        except DAMAGED as error:
            raise ValueError("this is no evidence") from error
        if found != FORMAT:
            raise ValueError(f"evidence of format {found}, not {FORMAT}")
        try:
            return cls._of(header, body)
        except DAMAGED as error:
            raise ValueError("this evidence is damaged") from error

    @classmethod
    def _of(cls, header: Mapping[str, Any], body: memoryview) -> Self:
        offset = 0

        def take(told: Mapping[str, Any]) -> np.ndarray:
            nonlocal offset
            if told["dtype"] not in DTYPES:
                raise ValueError(f"arrays of {told['dtype']!r} are unknown")
            dtype = np.dtype(told["dtype"])
            count = int(np.prod(told["shape"]))
            array = np.frombuffer(body, dtype, count=count, offset=offset)
            offset += count * dtype.itemsize
            return array.reshape(told["shape"])

        return cls(
            task=int(header["task"]),
            annotation=int(header["annotation"]),
            stamp=str(header["stamp"]),
            weight=float(header["weight"]),
            samples=tuple(_read(one, take) for one in header["samples"]),
        )


def _rank(shape: tuple[int, ...], most_bytes: int) -> int:
    places, embed = shape
    return max(1, (most_bytes - 2 * embed) // (places + embed + 8))


def rank_bytes(samples: int, truths: int) -> int:
    """What features of one picture may take, next to coverages of so many labels in all."""
    return MOST_BYTES // max(1, samples) - 6_000 - truths * MOST_CELLS


def pooled_hw(grid_hw: tuple[int, int]) -> tuple[int, int]:
    """The grid evidence is kept on: as it is, or coarser with the same proportions."""
    height, width = grid_hw
    shrink = min(1.0, (MOST_CELLS / (height * width)) ** 0.5)
    coarse = max(1, int(height * shrink)), max(1, int(width * shrink))
    return min(coarse[0], MOST_CELLS // coarse[1] or 1), min(coarse[1], MOST_CELLS)


def covered(
    mask: Bool[np.ndarray, "height width"], grid_hw: tuple[int, int]
) -> UInt8[np.ndarray, " places"]:
    """Share of every place of a grid that a mask covers, row by row; 255 is all of it."""
    return np.rint(WHOLE * area_means(mask.astype(np.float32), grid_hw)).astype(np.uint8).ravel()


def area_means(
    values: Float[np.ndarray, "height width"], grid_hw: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """Means over the cells of a coarser grid, exact also where cells cut through pixels."""
    rows = _overlaps(values.shape[0], grid_hw[0])
    columns = _overlaps(values.shape[1], grid_hw[1])
    means: Float[np.ndarray, "h w"] = rows @ values @ columns.T
    return means


def _overlaps(fine: int, coarse: int) -> Float[np.ndarray, "coarse fine"]:
    """What share of a coarse cell every fine one is, along one axis."""
    edges = np.arange(coarse + 1) * (fine / coarse)
    low = np.maximum(edges[:-1, None], np.arange(fine)[None])
    high = np.minimum(edges[1:, None], np.arange(1, fine + 1)[None])
    return (np.maximum(high - low, 0.0) * (coarse / fine)).astype(np.float32)


def _eight_bits(
    rows: Float[np.ndarray, "rows n"],
) -> tuple[Int8[np.ndarray, "rows n"], Float[np.ndarray, " rows"]]:
    scale = np.maximum(np.abs(rows).max(axis=1), 1e-12) / 127
    return np.rint(rows / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def _written(sample: Sample, put: Any) -> Mapping[str, Any]:
    cells = sample.cells
    return {
        "grid_hw": list(sample.grid_hw),
        "cells": {name: put(getattr(cells, name)) for name in _CELLS},
        "models": dict(sample.models),
        "truths": [
            {
                "control": control,
                "asked": list(truth.asked),
                "labels": list(truth.labels),
                "shares": put(truth.shares),
                "rest": truth.rest,
            }
            for control, truth in sorted(sample.truths.items())
        ],
        "before": {
            control: {
                "quality": one.quality,
                "agreement": one.agreement,
                "presence": dict(one.presence),
            }
            for control, one in sample.before.items()
        },
    }


def _read(told: Mapping[str, Any], take: Any) -> Sample:
    cells = Cells(**{name: take(told["cells"][name]) for name in _CELLS})
    truths = {
        one["control"]: Truth(
            asked=tuple(one["asked"]),
            labels=tuple(one["labels"]),
            shares=take(one["shares"]),
            rest=one["rest"],
        )
        for one in told["truths"]
    }
    return Sample(
        grid_hw=_pair(told["grid_hw"]),
        cells=cells,
        truths=truths,
        before={name: AsItWas(**one) for name, one in told["before"].items()},
        models=told["models"],
    )


def _pair(told: Sequence[int]) -> tuple[int, int]:
    return int(told[0]), int(told[1])


_CELLS = ("mean", "left", "left_scale", "right", "right_scale")
