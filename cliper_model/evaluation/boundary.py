"""Boundary F: how well outlines lie, whatever the areas inside.

The measure of Csurka, Larlus, Perronnin (What is a good evaluation measure for semantic
segmentation? BMVC 2013): per class, precision is the share of predicted boundary pixels that
have a true boundary pixel of the same class within a tolerance of 0.75 % of the image diagonal,
recall the reverse, F their harmonic mean; an image scores the mean over the classes its truth
shows, a data set the mean over its images.

Benchmarks leave a band around objects unlabelled, exactly where the boundary is. So unlabelled
pixels first take the label of the nearest labelled one, which puts the true boundary into the
middle of the band; boundary pixels further than the tolerance from anything labelled are not
counted, on either side.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Int
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from .confusion import IGNORED

TOLERANCE: Final = 0.0075  # of the image diagonal


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Boundary pixels of one class in one image, and how many found a partner."""

    label: int
    predicted: int
    predicted_matched: int
    truth: int
    truth_matched: int

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall, in percent; 0 where nothing matches."""
        if not self.predicted_matched or not self.truth_matched:
            return 0.0
        precision = self.predicted_matched / self.predicted
        recall = self.truth_matched / self.truth
        return 100 * 2 * precision * recall / (precision + recall)


def tolerance(size_hw: tuple[int, int]) -> int:
    """Pixels a boundary may be off, at least 1."""
    return max(1, round(TOLERANCE * math.hypot(*size_hw)))


def outlines(
    truth: Int[np.ndarray, "height width"], predicted: Int[np.ndarray, "height width"]
) -> tuple[Outline, ...]:
    """One entry per class of the truth that has a boundary, classes from 1 in order.

    Label 0 is no class of its own: its boundary is that of the classes beside it. A class
    that fills the whole image has no boundary and no entry.
    """
    reach = tolerance((truth.shape[0], truth.shape[1]))
    labelled = truth != IGNORED
    if not labelled.any():
        return ()
    filled = truth
    near = np.ones(truth.shape, bool)
    if not labelled.all():
        distance, nearest = distance_transform_edt(~labelled, return_indices=True)
        filled = truth[nearest[0], nearest[1]]
        near = distance <= reach
    found = []
    for label in np.unique(filled):
        if label == 0:
            continue
        true_points = np.argwhere(boundary(filled == label) & near)
        if not len(true_points):
            continue
        points = np.argwhere(boundary(predicted == label) & near)
        found.append(
            Outline(
                label=int(label),
                predicted=len(points),
                predicted_matched=_within(points, true_points, reach),
                truth=len(true_points),
                truth_matched=_within(true_points, points, reach),
            )
        )
    return tuple(found)


def boundary(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels of the mask with one of their four neighbours outside; the image border is no end."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return mask & ~inside


def image_f(found: Sequence[Outline]) -> float | None:
    """Percent, the mean over the classes of one image; None for an image without boundaries."""
    return math.fsum(one.f for one in found) / len(found) if found else None


def mean_f(images: Iterable[float | None]) -> float:
    """Percent, the mean over the images that have boundaries; NaN without any."""
    counted = [value for value in images if value is not None]
    return math.fsum(counted) / len(counted) if counted else float("nan")


def _within(
    points: Int[np.ndarray, "points 2"], others: Int[np.ndarray, "others 2"], reach: int
) -> int:
    """How many points have another one within `reach` pixels."""
    if not len(points) or not len(others):
        return 0
    distances, _ = cKDTree(others).query(points, distance_upper_bound=reach + 0.5)
    near = distances[np.isfinite(distances)]
    return int((np.rint(near**2) <= reach * reach).sum())
