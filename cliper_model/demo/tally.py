"""Confusion matrices over many pictures, and the figures that are read from them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .scenes import LABELS

SMALL: Final = (
    "star", "bird", "moon", "flower", "lamp", "ball", "butterfly", "sun", "mushroom", "plane",
    "rocket", "cloud", "dog", "umbrella",
)  # fmt: skip
"""Labels whose median area in a scene is below 3 %."""

BAND: Final = 2  # pixels to either side of an outline that count as its band


@dataclass
class Tally:
    """Confusion matrices of one way to segment; rows are the truth, id 0 unused."""

    whole: NDArray[np.int64] = field(default_factory=lambda: _empty_matrix())
    band: NDArray[np.int64] = field(default_factory=lambda: _empty_matrix())

    def add(
        self, predicted: NDArray[Any], truth: NDArray[np.uint8], near: NDArray[np.bool_]
    ) -> None:
        """Count labelled pixels; `near` marks those near an outline."""
        labelled = truth > 0
        self.whole += _confusion(predicted[labelled], truth[labelled])
        self.band += _confusion(predicted[labelled & near], truth[labelled & near])

    def figures(self) -> dict[str, float]:
        """Percent: mIoU, accuracy, mIoU near outlines, mIoU of the small labels."""
        small = [LABELS.index(label) + 1 for label in SMALL]
        return {
            "mIoU": mean_iou(self.whole),
            "accuracy": 100 * float(np.diag(self.whole).sum() / max(1, self.whole.sum())),
            "outline mIoU": mean_iou(self.band),
            "small mIoU": float(iou(self.whole)[small].mean()),
        }

    def per_label(self) -> dict[str, float]:
        """IoU in percent."""
        return dict(zip(LABELS, iou(self.whole)[1:].tolist(), strict=True))


def sum_of(tallies: Iterable[Tally]) -> Tally:
    """All that was counted, in one tally."""
    total = Tally()
    for tally in tallies:
        total.whole += tally.whole
        total.band += tally.band
    return total


def largest_loss(before: Tally, after: Tally) -> float:
    """By how many points of IoU the unluckiest label fell; 0 where none did."""
    occurs = before.whole.sum(1) > 0
    return float((iou(before.whole) - iou(after.whole))[occurs].max(initial=0.0))


def _empty_matrix() -> NDArray[np.int64]:
    return np.zeros((len(LABELS) + 1,) * 2, np.int64)


def _confusion(predicted: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.int64]:
    size = len(LABELS) + 1
    pairs = size * truth.astype(np.int64) + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=size**2).reshape(size, size)


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Percent per label; 0 for a label that occurs nowhere."""
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * hits / np.maximum(1, union)


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Percent, over labels that occur in the truth."""
    occurs = confusion.sum(1) > 0
    return float(iou(confusion)[occurs].mean()) if occurs.any() else 0.0


def near_outlines(truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels within `BAND` of a pixel with another label."""
    padded = np.pad(truth, BAND, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * BAND + 1,) * 2)
    near: NDArray[np.bool_] = windows.max((2, 3)) != windows.min((2, 3))
    return near
