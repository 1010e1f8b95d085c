"""An annotation, and the pictures as the model sees them -> the evidence of one task. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, UInt8

from cliper_model import Segmentation

from ..labelstudio.export import Labelled, mask_of
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
SEEN: Final = 0.005  # presence from which on it is kept; 0 is what is taken for the many others

Mask = Bool[np.ndarray, "height width"]


class AnnotationReading:
    """What annotations mean; implements `examiner.Reading`."""

    def counting(self, annotations: Sequence[Mapping[str, Any]]) -> Counting | None:
        """See `annotation.counting`."""
        return counting(annotations)

    def evidence(
        self, task: Task, counts: Counting, pictures: Iterable[StudiedPicture]
    ) -> Evidence | LeftOut:
        """See `evidence_of`."""
        return evidence_of(task, counts, pictures)


def evidence_of(
    task: Task, counts: Counting, pictures: Iterable[StudiedPicture]
) -> Evidence | LeftOut:
    """The evidence of one task, at most `MOST_BYTES`; or why there is none.

    Of a task with many pictures the first that say something count; the others are not asked for.
    Raises BadMask, which names the task.
    """
    number = int(task.id or 0)
    told: list[_Picture] = []
    learns = False
    for picture in pictures:
        if not picture.controls:
            continue
        learns = True
        if not np.isfinite(picture.cells).all():
            return LeftOut(task=number, reason="the model gave no finite numbers for its picture")
        one = _Picture(number, picture, counts)
        if one.truths:
            told.append(one)
        if len(told) == MOST_SAMPLES:
            break
    if not learns:
        return LeftOut(
            task=number,
            reason="none of its controls can learn: that takes the method cliper, and labels that "
            "stand in the config",
        )
    if not told:
        return LeftOut(
            task=number,
            reason="its annotation has no mask of a control that can learn: boxes, ellipses and "
            "points do not say which pixels belong to a thing",
        )
    return _fitting(number, counts, told)


def _fitting(number: int, counts: Counting, told: list["_Picture"]) -> Evidence | LeftOut:
    """What fits: less of the features first, then fewer pictures, then fewer labels."""
    labels = sum(len(truth.labels) for one in told for truth in one.truths.values())
    room = max(rank_bytes(len(told), labels), SMALLEST)
    while told[0].truths:
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
        else:
            told[0].let_go()
    return LeftOut(task=number, reason="it has more labels than a record can hold")


class _Picture:
    """One picture of a task, and what was said of it."""

    def __init__(self, task: int, picture: StudiedPicture, counts: Counting) -> None:
        self._picture = picture
        self._cells: Cells | None = None
        self.truths: dict[str, Truth] = {}
        self._before: dict[str, AsItWas] = {}
        self._models: dict[str, str] = {}
        for one in picture.controls:
            drawn = counts.drawn(one.control, picture.image, picture.index)
            said = [region for region in drawn if region.names]
            if not one.outlines or any(region.is_without_mask for region in said):
                continue  # it would only ever learn where nothing is
            if not said and not counts.is_empty:
                continue  # they painted with another tool, which says nothing about this one
            by_label: dict[str, list[Labelled]] = {}
            for region in said:
                for name in region.names:
                    by_label.setdefault(name, []).append(region)
            self._take(task, one, by_label, rest=one.background and len(said) == len(drawn))

    @property
    def _grid_hw(self) -> tuple[int, int]:
        return pooled_hw((self._picture.cells.shape[0], self._picture.cells.shape[1]))

    def _take(
        self, task: int, one: Studied, by_label: Mapping[str, Sequence[Labelled]], *, rest: bool
    ) -> None:
        """`rest`: what is not painted is none of the labels."""
        size_hw = self._picture.size_hw
        shares: dict[str, UInt8[np.ndarray, " places"]] = {}
        against = _Against(one)
        for name, regions in by_label.items():
            mask = np.zeros(size_hw, bool)
            for region in regions:
                mask |= mask_of(region, size_hw, task=task)
            shares[name] = covered(mask, self._grid_hw)
            against.add(name, mask)
        labels = sorted(shares, key=lambda name: (-int(shares[name].sum()), name))
        places = self._grid_hw[0] * self._grid_hw[1]
        self.truths[one.control] = Truth(
            asked=one.names,
            labels=tuple(labels),
            shares=np.stack([shares[name] for name in labels])
            if labels
            else np.zeros((0, places), np.uint8),
            rest=rest,
        )
        presence = zip(one.names, one.segmentation.presence, strict=True)
        self._before[one.control] = AsItWas(
            quality=round(against.quality, 4),
            agreement=None if one.agreement is None else round(one.agreement, 4),
            presence={name: round(float(value), 4) for name, value in presence if value >= SEEN},
        )
        self._models[one.control] = one.model
        if len(labels) > MOST_PAINTED:
            self._keep_largest(one.control, MOST_PAINTED)

    def sample(self, room: int) -> Sample:
        """`room`: bytes of the features, at most as many as the time before."""
        if self._cells is None:
            self._cells = Cells.of(self._pooled(), most_bytes=room)
        self._cells = self._cells.within(room)
        return Sample(
            grid_hw=self._grid_hw,
            cells=self._cells,
            truths=self.truths,
            before=self._before,
            models=self._models,
        )

    def let_go(self) -> None:
        """Of what matters least: names nobody painted, small labels, then whole controls.

        Each time something goes, so there is an end to it.
        """
        unpainted = {
            name: sum(map(len, set(truth.asked) - set(truth.labels)))
            for name, truth in self.truths.items()
        }
        name = max(unpainted, key=lambda one: unpainted[one])
        if unpainted[name]:
            self._keep_largest(name, len(self.truths[name].labels), rest=self.truths[name].rest)
            return
        name = max(self.truths, key=lambda one: len(self.truths[one].labels))
        if self.truths[name].labels:
            self._keep_largest(name, len(self.truths[name].labels) - 1)
        if not self.truths[name].labels:
            for table in (self.truths, self._before, self._models):
                del table[name]

    def _keep_largest(self, control: str, count: int, *, rest: bool = False) -> None:
        """Of a control's labels. Of the others nothing is said any more, not even that they are
        absent; so what is not painted may be one of them, unless `rest`."""
        truth, before = self.truths[control], self._before[control]
        kept = truth.labels[:count]
        self.truths[control] = Truth(
            asked=kept, labels=kept, shares=truth.shares[:count], rest=rest
        )
        presence = {name: before.presence[name] for name in kept if name in before.presence}
        self._before[control] = replace(before, presence=presence)

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


def _at_size(mask: Mask, ours: Segmentation) -> Mask:
    """At the size of our masks, which are smaller in large pictures; by nearest pixels."""
    height, width = ours.size_hw
    if mask.shape == (height, width):
        return mask
    rows = (np.arange(height) * mask.shape[0] + mask.shape[0] // 2) // height
    columns = (np.arange(width) * mask.shape[1] + mask.shape[1] // 2) // width
    return mask[rows.clip(max=mask.shape[0] - 1)][:, columns.clip(max=mask.shape[1] - 1)]
