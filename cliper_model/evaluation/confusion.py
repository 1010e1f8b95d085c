"""Whole-set confusion matrix and every figure that comes out of it. Pure: integers in, numbers out.

Labels are 0 for background or "nothing said", and index + 1 for a class; `IGNORED` pixels of the
truth are not counted at all. A matrix is `[labels, labels]`, int64, rows are the truth.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

IGNORED: Final = -1

Sparse = list[list[int]]  # [truth, predicted, pixels] of every pair that occurs, sorted


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is published of a confusion matrix. Percent; NaN where nothing was counted.

    Per label: `iou` and `accuracy` are NaN for labels that do not occur in the truth, and the
    means run over the labels that do (specification of CLIPer §9, of CLIPtrase §5). The small
    constants the published programs add to denominators (1e-5, 0.01) are left out: they only
    guard against dividing by zero.
    """

    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: Float[np.ndarray, " labels"]
    accuracy: Float[np.ndarray, " labels"]
    truth_pixels: Int[np.ndarray, " labels"]
    predicted_pixels: Int[np.ndarray, " labels"]


def count(
    truth: Int[np.ndarray, "height width"],
    predicted: Int[np.ndarray, "height width"],
    *,
    labels: int,
) -> Int[np.ndarray, "labels labels"]:
    """How often each truth met each prediction, over pixels that are not `IGNORED`.

    Raises ValueError where a value is outside 0 to `labels` - 1.
    """
    counted = truth != IGNORED
    asked = truth[counted].astype(np.int64)
    answered = predicted[counted].astype(np.int64)
    for name, values in (("truth", asked), ("prediction", answered)):
        if values.size and not (values.min() >= 0 and values.max() < labels):
            raise ValueError(
                f"the {name} holds label {int(values.max())}; labels go from 0 to {labels - 1}"
            )
    pairs = np.bincount(labels * asked + answered, minlength=labels * labels)
    return pairs.reshape(labels, labels).astype(np.int64)


def to_sparse(matrix: Int[np.ndarray, "labels labels"]) -> Sparse:
    """The pairs that occur, row by row: what is written down for one image."""
    rows, columns = np.nonzero(matrix)
    return [
        [int(row), int(column), int(matrix[row, column])]
        for row, column in zip(rows, columns, strict=True)
    ]


def from_sparse(pairs: Iterable[Sequence[int]], *, labels: int) -> Int[np.ndarray, "labels labels"]:
    """The matrix of the pairs written down; pairs that occur twice add up."""
    matrix = np.zeros((labels, labels), np.int64)
    for truth, predicted, pixels in pairs:
        matrix[truth, predicted] += pixels
    return matrix


def figures(matrix: Int[np.ndarray, "labels labels"]) -> Figures:
    """Every published figure of a confusion matrix."""
    hits = np.diag(matrix)
    truth = matrix.sum(axis=1)
    predicted = matrix.sum(axis=0)
    occurs = truth > 0
    iou = np.full(len(matrix), np.nan)
    accuracy = np.full(len(matrix), np.nan)
    iou[occurs] = 100 * hits[occurs] / (truth + predicted - hits)[occurs]
    accuracy[occurs] = 100 * hits[occurs] / truth[occurs]
    pixels = int(truth.sum())
    if not pixels:
        nothing = float("nan")
        return Figures(
            miou=nothing,
            pixel_accuracy=nothing,
            mean_accuracy=nothing,
            frequency_weighted_iou=nothing,
            iou=iou,
            accuracy=accuracy,
            truth_pixels=truth,
            predicted_pixels=predicted,
        )
    return Figures(
        miou=float(iou[occurs].mean()),
        pixel_accuracy=100 * int(hits.sum()) / pixels,
        mean_accuracy=float(accuracy[occurs].mean()),
        frequency_weighted_iou=float((iou[occurs] * truth[occurs]).sum() / pixels),
        iou=iou,
        accuracy=accuracy,
        truth_pixels=truth,
        predicted_pixels=predicted,
    )


def image_miou(pairs: Sparse) -> float:
    """mIoU of one image alone, in percent, over the labels of its truth; NaN without any."""
    truth: dict[int, int] = {}
    predicted: dict[int, int] = {}
    hits: dict[int, int] = {}
    for row, column, pixels in pairs:
        truth[row] = truth.get(row, 0) + pixels
        predicted[column] = predicted.get(column, 0) + pixels
        if row == column:
            hits[row] = pixels
    shares = [
        hits.get(label, 0) / (pixels + predicted.get(label, 0) - hits.get(label, 0))
        for label, pixels in sorted(truth.items())
    ]
    return 100 * math.fsum(shares) / len(shares) if shares else math.nan
