"""Old evidence made small: what each label looked like on average, place by place as it was.

A place keeps what covers most of it, and takes the mean features of all places of its picture that
have the same. So thinned evidence is evidence like any other, some ten times smaller, and a pure
function of what it was made from.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int, UInt8

from .evidence import WHOLE, Cells, Evidence, Sample, Truth


def thinned(evidence: Evidence) -> Evidence:
    """The same task, annotation and weight; thinning again changes nothing much."""
    return replace(evidence, samples=tuple(_thin(sample) for sample in evidence.samples))


def _thin(sample: Sample) -> Sample:
    names = sorted(sample.truths)
    places = len(sample.cells.left)
    if not places:
        return sample
    foremost = [_foremost(sample.truths[name].shares, places) for name in names]
    told = np.stack([*foremost, np.zeros(places, np.int64)], axis=1)
    _, group = np.unique(told, axis=0, return_inverse=True)
    truths = {
        name: replace(sample.truths[name], shares=_alone(sample.truths[name], kept))
        for name, kept in zip(names, foremost, strict=True)
    }
    return replace(sample, cells=_means(sample.cells.values, group.ravel()), truths=truths)


def _foremost(shares: UInt8[np.ndarray, "labels places"], places: int) -> Int[np.ndarray, " n"]:
    """Number of the label that covers most of a place; one more than there are for none of them."""
    if not len(shares):
        return np.zeros(places, np.int64)
    rest = np.maximum(WHOLE - shares.astype(np.int64).sum(axis=0), 0)
    foremost: Int[np.ndarray, " n"] = np.vstack([shares, rest]).argmax(axis=0).astype(np.int64)
    return foremost


def _alone(truth: Truth, foremost: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "labels n"]:
    labels = np.arange(len(truth.labels))[:, None]
    return np.where(labels == foremost, WHOLE, 0).astype(np.uint8)


def _means(values: Float[np.ndarray, "n embed"], group: Int[np.ndarray, " n"]) -> Cells:
    count = int(group.max()) + 1
    member = (np.arange(count) == group[:, None]).astype(np.float64)  # [n, groups]
    means = (member.T @ values.astype(np.float64)) / member.sum(axis=0)[:, None]
    mean = means.mean(axis=0).astype(np.float16)
    rest = means - mean.astype(np.float64)
    scale = (np.maximum(np.abs(rest).max(axis=1), 1e-12) / 127).astype(np.float32)
    return Cells(
        mean=mean,
        left=member.astype(np.int8),
        left_scale=np.ones(count, np.float32),
        right=np.rint(rest / scale[:, None]).astype(np.int8),
        right_scale=scale,
    )
