"""An annotation, and the pictures as the model sees them -> the evidence of one task. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, UInt8

from cliper_model import Segmentation

from ..errors import BadMask
from ..labelstudio.export import Labelled
from ..labelstudio.regions import FORMATS
from ..labelstudio.tasks import Task
from ..studying import Studied, StudiedPicture
from .annotation import Counting, counting
from .evidence import (
    MOST_BYTES,
    MOST_SAMPLES,
    AsItWas,
    Cells,
    Evidence,
    Sample,
    Truth,
    area_means,
    covered,
    pooled_hw,
    rank_bytes,
)
from .records import LeftOut

SMALLEST: Final = 2_000  # bytes of a picture's features; with less nothing is learnt
SHRINK: Final = 0.7  # from one attempt to fit to the next
MOST_PAINTED: Final = 200  # labels of one control in one picture; of more the largest

Mask = Bool[np.ndarray, "height width"]


class AnnotationReading:
    """What annotations mean; implements `examiner.Reading`."""

    def counting(self, annotations: Sequence[Mapping[str, Any]]) -> Counting | None:
        """See `annotation.counting`."""
        return counting(annotations)

    def evidence(
        self, task: Task, counts: Counting, pictures: Sequence[StudiedPicture]
    ) -> Evidence | LeftOut:
        """See `evidence_of`."""
        return evidence_of(task, counts, pictures)


def evidence_of(
    task: Task, counts: Counting, pictures: Sequence[StudiedPicture]
) -> Evidence | LeftOut:
    """The evidence of one task, at most `MOST_BYTES`; or why there is none.

    Of a task with many pictures the first that say something count. Raises BadMask.
    """
    number = int(task.id or 0)
    pictures = [picture for picture in pictures if picture.controls]
    if not pictures:
        return LeftOut(
            task=number,
            reason="none of its controls can learn: that takes the method cliper, and labels that "
            "stand in the config",
        )
    if not all(np.isfinite(picture.cells).all() for picture in pictures):
        return LeftOut(task=number, reason="the model gave no finite numbers for its picture")
    told = [_Picture(number, picture, counts) for picture in pictures]
    told = [one for one in told if one.truths][:MOST_SAMPLES]
    if not told:
        return LeftOut(
            task=number,
            reason="its annotation has no mask of a control that can learn: boxes, ellipses and "
            "points do not say which pixels belong to a thing",
        )
    labels = sum(len(truth.labels) for one in told for truth in one.truths.values())
    room = max(rank_bytes(len(told), labels), SMALLEST)
    while True:
        found = Evidence(
            task=number,
            annotation=counts.number,
            stamp=counts.stamp,
            weight=counts.weight,
            samples=tuple(one.sample(room) for one in told),
        )
        if len(found.to_bytes()) <= MOST_BYTES:
            return found
        if room > SMALLEST:
            room = max(SMALLEST, int(room * SHRINK))
        elif len(told) > 1:
            told.pop()
        elif not told[0].drop_smallest_label():
            return LeftOut(task=number, reason="it has more labels than a record can hold")


class _Picture:
    """One picture of a task, and what was said of it."""

    def __init__(self, task: int, picture: StudiedPicture, counts: Counting) -> None:
        self._picture = picture
        self._grid_hw = pooled_hw((picture.cells.shape[0], picture.cells.shape[1]))
        self.truths: dict[str, Truth] = {}
        self._before: dict[str, AsItWas] = {}
        self._models: dict[str, str] = {}
        for one in picture.controls:
            said = counts.labelled(one.control, picture.image, picture.index)
            if any(region.is_without_mask for region in said):
                continue
            if not said and not counts.is_empty:
                continue  # they painted with another tool, which says nothing about this one
            by_label: dict[str, list[Labelled]] = {}
            for region in said:
                for name in region.names:
                    by_label.setdefault(name, []).append(region)
            self._take(task, one, by_label)

    def _take(self, task: int, one: Studied, by_label: Mapping[str, Sequence[Labelled]]) -> None:
        size_hw = self._picture.size_hw
        shares: dict[str, UInt8[np.ndarray, " places"]] = {}
        against = _Against(one)
        for name, regions in by_label.items():
            mask = _joined(task, regions, size_hw)
            shares[name] = covered(mask, self._grid_hw)
            against.add(name, mask)
        kept = sorted(shares, key=lambda name: (-int(shares[name].sum()), name))[:MOST_PAINTED]
        places = self._grid_hw[0] * self._grid_hw[1]
        self.truths[one.control] = Truth(
            asked=one.names,
            labels=tuple(kept),
            shares=np.stack([shares[name] for name in kept])
            if kept
            else np.zeros((0, places), np.uint8),
            rest=one.background,
        )
        presence = one.segmentation.presence
        self._before[one.control] = AsItWas(
            quality=round(against.quality, 4),
            agreement=None if one.agreement is None else round(one.agreement, 4),
            presence={
                name: round(float(value), 4)
                for name, value in zip(one.names, presence, strict=True)
                if value >= 0.005  # absent ones are many, and 0 is what is taken for them
            },
        )
        self._models[one.control] = one.model

    def sample(self, room: int) -> Sample:
        """`room`: bytes of the features."""
        return Sample(
            grid_hw=self._grid_hw,
            cells=Cells.of(self._pooled(), most_bytes=room),
            truths=self.truths,
            before=self._before,
            models=self._models,
        )

    def drop_smallest_label(self) -> bool:
        """Of the control with the most, of which nothing is known then; False without any."""
        if not any(truth.labels for truth in self.truths.values()):
            return False
        name = max(self.truths, key=lambda one: len(self.truths[one].labels))
        truth, before = self.truths[name], self._before[name]
        least = {
            label: before.presence[label] for label in truth.labels if label in before.presence
        }
        self._before[name] = replace(before, presence=least)
        self.truths[name] = replace(
            truth,
            labels=truth.labels[:-1],
            shares=truth.shares[:-1],
            asked=truth.labels[:-1],
            rest=False,
        )
        return True

    def _pooled(self) -> Float[np.ndarray, "places embed"]:
        cells = self._picture.cells
        if self._grid_hw == cells.shape[:2]:
            return cells.reshape(-1, cells.shape[2])
        return np.stack(
            [
                area_means(cells[..., channel], self._grid_hw).ravel()
                for channel in range(cells.shape[2])
            ],
            axis=1,
        )


class _Against:
    """Our masks against people's, label by label, at the size of ours."""

    def __init__(self, one: Studied) -> None:
        self._names, self._ours = one.names, one.segmentation
        self._taken = one.taken
        self._ious: dict[str, float] = {}

    def add(self, name: str, mask: Mask) -> None:
        if name not in self._names:
            return
        theirs = _at_size(mask, self._ours)
        ours = self._ours.mask(self._names.index(name))
        either = int((ours | theirs).sum())
        if either:
            self._ious[name] = int((ours & theirs).sum()) / either

    @property
    def quality(self) -> float:
        """Mean IoU over labels painted or predicted; 1 where there are none."""
        areas = self._ours.areas
        predicted = [
            name
            for name, area in zip(self._names, areas, strict=True)
            if area and name not in self._ious and name not in self._taken
        ]
        ious = [*self._ious.values(), *([0.0] * len(predicted))]
        return float(np.mean(ious)) if ious else 1.0


def _joined(task: int, regions: Sequence[Labelled], size_hw: tuple[int, int]) -> Mask:
    joined = np.zeros(size_hw, bool)
    for one in regions:
        region = one.region
        painted_hw = (region.get("original_height"), region.get("original_width"))
        if painted_hw != size_hw:
            raise BadMask(
                f"task {task} was painted on {painted_hw[1]} x {painted_hw[0]} pixels, its picture "
                f"has {size_hw[1]} x {size_hw[0]}; paint it again on the picture of today"
            )
        if region.get("image_rotation"):
            raise BadMask(
                f"task {task} was painted on a picture turned by {region['image_rotation']} "
                "degrees; turn it back in Label Studio"
            )
        if one.kind not in FORMATS:
            raise BadMask(f"task {task} has masks of type {region['type']!r}, which nobody reads")
        joined |= one.format.decode(region, size_hw)
    return joined


def _at_size(mask: Mask, ours: Segmentation) -> Mask:
    """At the size of our masks, which are smaller in large pictures; by nearest pixels."""
    height, width = ours.size_hw
    if mask.shape == (height, width):
        return mask
    rows = (np.arange(height) * mask.shape[0] + mask.shape[0] // 2) // height
    columns = (np.arange(width) * mask.shape[1] + mask.shape[1] // 2) // width
    return mask[rows.clip(max=mask.shape[0] - 1)][:, columns.clip(max=mask.shape[1] - 1)]
