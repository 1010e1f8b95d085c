"""One prediction against one annotation: per picture and label, how far apart the masks are. Pure.

A label's regions are joined. Masks are unpacked label by label, so that a task needs two masks at
a time, whatever it holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool

from cliper_model.evaluation import boundary

from ..errors import BadMask
from ..labelstudio import export
from ..labelstudio.export import AnnotatedTask, Labelled
from ..labelstudio.tasks import Region

EQUAL: Final = 0.999  # IoU from which masks count as equal: the editor rounds outlines
GOOD: Final = 0.7  # mean IoU from which a picture was touched up, and not redone

UNTOUCHED: Final = "untouched"
TOUCHED: Final = "touched"
REDONE: Final = "redone"
KINDS: Final = (UNTOUCHED, TOUCHED, REDONE)

Mask = Bool[np.ndarray, "height width"]


class Place(NamedTuple):
    """A picture of a task: the name of its tag, and its number in a list of pictures."""

    to_name: str
    number: int | None


class Name(NamedTuple):
    """A label of a control (`from_name`)."""

    control: str
    label: str


@dataclass(frozen=True, kw_only=True)
class LabelCompared:
    """One label on one picture, in pixels. At least one of both masks is not empty.

    add         pixels to paint that the prediction lacks, `remove` those it has too many
    boundary_f  percent; None where the correct mask has no outline
    score       the highest of the prediction's regions; None where none has any
    """

    truth: int
    predicted: int
    both: int
    boundary_f: float | None = None
    score: float | None = None

    @property
    def add(self) -> int:
        return self.truth - self.both

    @property
    def remove(self) -> int:
        return self.predicted - self.both

    @property
    def union(self) -> int:
        return self.truth + self.predicted - self.both

    @property
    def iou(self) -> float:
        """1 where both are empty."""
        return self.both / self.union if self.union else 1.0

    @property
    def kind(self) -> str:
        return kind_of(self.iou, is_equal=self.iou >= EQUAL)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All pictures of a task. What neither has is not in there."""

    places: Mapping[Place, Mapping[Name, LabelCompared]]

    def quality_at(self, place: Place) -> float:
        """Mean IoU over labels painted or predicted; 1 where there is none."""
        found = [one.iou for one in self.places[place].values()]
        return sum(found) / len(found) if found else 1.0

    @property
    def quality(self) -> float:
        """Mean over the pictures on which anything was painted or predicted; 1 without any."""
        found = [self.quality_at(place) for place in self.places]
        return sum(found) / len(found) if found else 1.0

    @property
    def labels(self) -> list[tuple[Name, LabelCompared]]:
        return [pair for labels in self.places.values() for pair in labels.items()]

    @property
    def kind(self) -> str:
        return kind_of(self.quality, is_equal=all(one.iou >= EQUAL for _, one in self.labels))


class Sides(NamedTuple):
    """Regions of one label on one picture: people's and the prediction's."""

    truth: Sequence[Labelled]
    predicted: Sequence[Labelled]


def kind_of(quality: float, *, is_equal: bool) -> str:
    if is_equal:
        return UNTOUCHED
    return TOUCHED if quality >= GOOD else REDONE


def sides_of(
    task: int, truth: Sequence[Region], predicted: Sequence[Region]
) -> dict[Place, dict[Name, Sides]]:
    """Regions with masks by picture and label. Raises BadMask for what cannot be read."""
    people, model = _grouped(task, truth), _grouped(task, predicted)
    found: dict[Place, dict[Name, Sides]] = {}
    for place, name in dict.fromkeys([*people, *model]):
        sides = Sides(people.get((place, name), ()), model.get((place, name), ()))
        found.setdefault(place, {})[name] = sides
    return found


def compare(task: int, truth: Sequence[Region], predicted: Sequence[Region]) -> Compared:
    """The prediction's masks against people's. Raises BadMask."""
    places: dict[Place, dict[Name, LabelCompared]] = {}
    for place, names in sides_of(task, truth, predicted).items():
        for name, sides in names.items():
            right, given = masks_of(sides)
            if right.any() or given.any():
                compared = compare_masks(right, given, score=score_of(sides.predicted))
                places.setdefault(place, {})[name] = compared
    return Compared(places=places)


def compare_masks(truth: Mask, predicted: Mask, *, score: float | None = None) -> LabelCompared:
    outlines = boundary.outlines(truth.astype(np.uint8), predicted.astype(np.uint8))
    return LabelCompared(
        truth=int(truth.sum()),
        predicted=int(predicted.sum()),
        both=int((truth & predicted).sum()),
        boundary_f=boundary.image_f(outlines),
        score=score,
    )


def masks_of(sides: Sides) -> tuple[Mask, Mask]:
    """People's mask and the prediction's, of one size. Raises BadMask."""
    sizes = list(dict.fromkeys(map(_size_of, [*sides.truth, *sides.predicted])))
    if len(sizes) > 1:
        told = " and ".join(f"{width} x {height}" for height, width in sizes)
        raise BadMask(f"prediction and annotation are of pictures of {told} pixels")
    return _joined(sides.truth, sizes[0]), _joined(sides.predicted, sizes[0])


def score_of(regions: Sequence[Labelled]) -> float | None:
    """The highest score, of those that have one."""
    found = [
        float(value)
        for one in regions
        if isinstance(value := one.region.get("score"), int | float) and 0.0 <= value <= 1.0
    ]
    return max(found, default=None)


def _grouped(task: int, regions: Sequence[Region]) -> dict[tuple[Place, Name], list[Labelled]]:
    found: dict[tuple[Place, Name], list[Labelled]] = {}
    for one in export.painted(AnnotatedTask(id=task, address="", regions=tuple(regions))):
        index = one.region.get("item_index")
        place = Place(str(one.region.get("to_name", "")), index if isinstance(index, int) else None)
        for label in one.names:
            name = Name(str(one.region.get("from_name", "")), label)
            found.setdefault((place, name), []).append(one)
    return found


def _size_of(one: Labelled) -> tuple[int, int]:
    height, width = one.region.get("original_height"), one.region.get("original_width")
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        raise BadMask("a region does not say how large its picture is")
    return height, width


def _joined(regions: Sequence[Labelled], size_hw: tuple[int, int]) -> Mask:
    mask: Mask = np.zeros(size_hw, bool)
    for one in regions:
        mask |= one.format.decode(one.region, size_hw)
    return mask
