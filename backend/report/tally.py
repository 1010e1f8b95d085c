"""Sums over many tasks: by version, by label, and a line per task. Of bounded size per task."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from .comparing import KINDS, Compared, LabelCompared, Name
from .reading import Pair

MOST_LABELS: Final = 500  # of one version; task data may bring any number
OTHERS: Final = Name("", "(others)")


class Line(NamedTuple):
    """One prediction that was held against one annotation.

    quality  mean IoU, 0 to 1
    masks    labels people painted, on all pictures of the task; `changed` those that differ
    pixels   to add and to remove; `truth` those of the right masks
    created  of the annotation, seconds since 1970; `seconds` it took
    """

    task: int
    version: str
    prediction: int | None
    basis: str
    is_seen: bool
    score: float | None
    quality: float
    kind: str
    masks: int
    changed: int
    add: int
    remove: int
    truth: int
    created: float | None
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        told = self._asdict()
        del told["is_seen"]
        return {**told, "quality": round(self.quality, 4)}


def line_of(
    task: int, pair: Pair, compared: Compared, created: float | None, seconds: float | None
) -> Line:
    labels = [one for _, one in compared.labels]
    score = pair.made.score
    return Line(
        task=task,
        version=pair.made.version,
        prediction=pair.made.id,
        basis=pair.basis,
        is_seen=pair.is_seen,
        score=score if score is not None and 0.0 <= score <= 1.0 else None,
        quality=compared.quality,
        kind=compared.kind,
        masks=sum(one.truth > 0 for one in labels),
        changed=sum(one.kind != "untouched" for one in labels),
        add=sum(one.add for one in labels),
        remove=sum(one.remove for one in labels),
        truth=sum(one.truth for one in labels),
        created=created,
        seconds=seconds,
    )


@dataclass
class Edits:
    """Masks of some pictures, summed. Pixels; `outlines` is the sum of `outlined` boundary Fs."""

    pictures: int = 0
    quality: float = 0.0  # sum of IoUs
    truth: int = 0
    both: int = 0
    add: int = 0
    remove: int = 0
    outlines: float = 0.0
    outlined: int = 0

    def take(self, one: LabelCompared) -> None:
        self.pictures += 1
        self.quality += one.iou
        self.truth += one.truth
        self.both += one.both
        self.add += one.add
        self.remove += one.remove
        if one.boundary_f is not None:
            self.outlines += one.boundary_f
            self.outlined += 1

    def __add__(self, other: "Edits") -> "Edits":
        return Edits(*(mine + its for mine, its in zip(_values(self), _values(other), strict=True)))

    @property
    def iou(self) -> float | None:
        """Mean over pictures, 0 to 1."""
        return self.quality / self.pictures if self.pictures else None

    @property
    def boundary_f(self) -> float | None:
        """Mean over pictures with an outline, 0 to 1."""
        return self.outlines / self.outlined / 100 if self.outlined else None

    def share(self, pixels: int) -> float | None:
        """Of the right masks."""
        return pixels / self.truth if self.truth else None

    def to_json(self) -> dict[str, Any]:
        union = self.truth + self.remove
        return {
            "pictures": self.pictures,
            "iou": _rounded(self.iou),
            "iou_of_all_pixels": _rounded(self.both / union if union else None),
            "boundary_f": _rounded(self.boundary_f),
            "truth_pixels": self.truth,
            "add_pixels": self.add,
            "remove_pixels": self.remove,
            "add_share": _rounded(self.share(self.add)),
            "remove_share": _rounded(self.share(self.remove)),
        }


@dataclass
class LabelTally:
    """One label of one version. `snapped` is what `stored` would be after a snap to edges: of the
    sampled pictures only, which is why both are kept."""

    all: Edits = field(default_factory=Edits)
    painted: int = 0
    predicted: int = 0
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    stored: Edits = field(default_factory=Edits)
    snapped: Edits = field(default_factory=Edits)

    def take(self, one: LabelCompared) -> None:
        self.all.take(one)
        self.painted += one.truth > 0
        self.predicted += one.predicted > 0
        self.kinds[one.kind] += 1

    def take_snapped(self, stored: LabelCompared, snapped: LabelCompared) -> None:
        self.stored.take(stored)
        self.snapped.take(snapped)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.all.to_json(),
            "painted": self.painted,
            "predicted": self.predicted,
            **self.kinds,
            "edge_aware": edge_aware_json(self.stored, self.snapped),
        }


@dataclass
class VersionTally:
    """One model version. `seen` counts those people corrected; `kinds` are of these."""

    version: str
    labels: dict[Name, LabelTally] = field(default_factory=dict)
    count: int = 0
    seen: int = 0
    quality: float = 0.0
    squares: float = 0.0
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    newest: float = 0.0  # of its predictions, seconds since 1970

    def take(self, line: Line, compared: Compared, created: float | None) -> None:
        self.count += 1
        self.seen += line.is_seen
        self.quality += line.quality
        self.squares += line.quality**2
        self.newest = max(self.newest, created or 0.0)
        if line.is_seen:
            self.kinds[line.kind] += 1
        for name, one in compared.labels:
            self.label(name).take(one)

    def label(self, name: Name) -> LabelTally:
        if name not in self.labels and len(self.labels) >= MOST_LABELS:
            name = OTHERS
        return self.labels.setdefault(name, LabelTally())

    @property
    def mean(self) -> float:
        return self.quality / self.count if self.count else 0.0

    @property
    def noise(self) -> float | None:
        """Standard error of the mean."""
        if self.count < 2:
            return None
        variance = (
            max(self.squares / self.count - self.mean**2, 0.0) * self.count / (self.count - 1)
        )
        return math.sqrt(variance / self.count)

    @property
    def all(self) -> Edits:
        return sum((one.all for one in self.labels.values()), Edits())

    def to_json(self, calibration: Mapping[str, Any]) -> dict[str, Any]:
        stored = sum((one.stored for one in self.labels.values()), Edits())
        snapped = sum((one.snapped for one in self.labels.values()), Edits())
        return {
            "version": self.version,
            "pictures": self.count,
            "corrected": self.seen,
            **self.kinds,
            "quality": _rounded(self.mean if self.count else None),
            "quality_noise": _rounded(self.noise),
            "masks": self.all.to_json(),
            "edge_aware": edge_aware_json(stored, snapped),
            "calibration_error": calibration["expected_calibration_error"],
            "labels": [
                {"control": name.control, "label": name.label, **one.to_json()}
                for name, one in sorted(self.labels.items())
            ],
        }


def edge_aware_json(stored: Edits, snapped: Edits) -> dict[str, Any] | None:
    """Both of the same pictures; None where nothing was measured."""
    if not stored.pictures:
        return None
    return {"stored": stored.to_json(), "snapped": snapped.to_json()}


def _values(one: Edits) -> tuple[Any, ...]:
    return (
        one.pictures,
        one.quality,
        one.truth,
        one.both,
        one.add,
        one.remove,
        one.outlines,
        one.outlined,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
