"""Presence: which classes a method says are in the picture, against those that are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from .confusion import IGNORED


@dataclass(frozen=True, kw_only=True)
class PresenceFigures:
    """Over all images together: percent, and wrongly claimed classes per image."""

    precision: float
    recall: float
    false_per_image: float


def shown(label_map: Int[np.ndarray, "height width"]) -> tuple[int, ...]:
    """Classes that occur, from 1; background and ignored pixels are none."""
    return tuple(int(label) for label in np.unique(label_map) if label not in (0, IGNORED))


def figures(images: Iterable[tuple[Sequence[int], Sequence[int]]]) -> PresenceFigures:
    """`images` are pairs (classes of the truth, classes claimed); NaN where nothing was asked."""
    right = claimed = there = count = 0
    for truth, said in images:
        count += 1
        right += len(set(truth) & set(said))
        claimed += len(set(said))
        there += len(set(truth))
    nothing = float("nan")
    return PresenceFigures(
        precision=100 * right / claimed if claimed else nothing,
        recall=100 * right / there if there else nothing,
        false_per_image=(claimed - right) / count if count else nothing,
    )
