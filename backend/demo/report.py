"""Compare what came back with the exact truth, and say in one page whether that is good enough.

Pure functions of masks; shares and IoU are in percent. A share of nothing is NaN, which is never
good enough: what was not asked was not shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .projects import Mask, Picture


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the service said about one picture: one mask per label, and how many regions."""

    masks: Mapping[str, Mask]
    regions: Sequence[str]  # the label of every region
    model_version: str

    @property
    def is_empty(self) -> bool:
        return not self.regions


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How well answers fit the truth, over all pictures of one project; NaN where nothing counts.

    IoU of a label is its intersection over its union, both summed over pictures; the mean is
    over labels that are in at least one picture. Precision and recall ask only whether a
    label is in a picture. A false region is one whose label is not in its picture.
    """

    label_iou: Mapping[str, float]  # percent, labels present only
    pictures_with: Mapping[str, int]
    found_in: Mapping[str, int]
    mean_iou: float
    precision: float
    recall: float
    false_regions: float  # per picture
    regions: float  # per picture

    @classmethod
    def of(
        cls, labels: Sequence[str], pictures: Sequence[Picture], answers: Sequence[Answer]
    ) -> "Accuracy":
        """Answers belong to the pictures in the same order."""
        intersection, union = dict.fromkeys(labels, 0), dict.fromkeys(labels, 0)
        present, found = dict.fromkeys(labels, 0), dict.fromkeys(labels, 0)
        claimed = false_regions = regions = 0
        for picture, answer in zip(pictures, answers, strict=True):
            nothing = np.zeros(picture.image.shape[:2], bool)
            for label in labels:
                truth = picture.truth.get(label, nothing)
                guess = answer.masks.get(label, nothing)
                intersection[label] += int((truth & guess).sum())
                union[label] += int((truth | guess).sum())
                present[label] += label in picture.truth
                claimed += label in answer.masks
                found[label] += label in picture.truth and label in answer.masks
            regions += len(answer.regions)
            false_regions += sum(label not in picture.truth for label in answer.regions)
        iou = {
            label: 100 * intersection[label] / union[label] for label in labels if present[label]
        }
        return cls(
            label_iou=iou,
            pictures_with={label: present[label] for label in iou},
            found_in={label: found[label] for label in iou},
            mean_iou=sum(iou.values()) / len(iou) if iou else math.nan,
            precision=_percent(sum(found.values()), claimed),
            recall=_percent(sum(found.values()), sum(present.values())),
            false_regions=false_regions / len(pictures) if pictures else math.nan,
            regions=regions / len(pictures) if pictures else math.nan,
        )


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure that has to be good enough."""

    what: str
    value: float
    wanted: float
    unit: str = "%"
    at_most: bool = False

    @property
    def passed(self) -> bool:
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted

    def __str__(self) -> str:
        sign = "at most" if self.at_most else "at least"
        verdict = "ok" if self.passed else "FAILED"
        figure = f"{self.value:7.2f} {self.unit:<11}"
        if math.isnan(self.value):
            figure = f"{'nothing to judge':<19}"
        return f"{self.what:<46} {figure} ({sign} {self.wanted:g})  {verdict}"

    def to_json(self) -> dict[str, Any]:
        """The same for report.json; null where there was nothing to judge."""
        return {**vars(self), "value": _number(self.value), "passed": self.passed}


def share_empty(
    labels: Sequence[str], pictures: Sequence[Picture], answers: Sequence[Answer]
) -> float:
    """Of the pictures with none of the labels, the percentage that came back without a region."""
    lacking = [
        answer
        for picture, answer in zip(pictures, answers, strict=True)
        if not picture.truth.keys() & set(labels)
    ]
    return _percent(sum(answer.is_empty for answer in lacking), len(lacking))


def verdict(
    full: Accuracy, *, one_label: Accuracy, one_label_empty: float, nothing_there: float
) -> tuple[Line, ...]:
    """Every figure the demonstration must reach; the two shares come from `share_empty`."""
    return (
        Line(what="mean IoU over labels present", value=full.mean_iou, wanted=45),
        Line(what="presence precision", value=full.precision, wanted=80),
        Line(what="presence recall", value=full.recall, wanted=80),
        Line(
            what="false regions",
            value=full.false_regions,
            wanted=0.7,
            unit="per picture",
            at_most=True,
        ),
        Line(what="one label, in the picture: found", value=one_label.recall, wanted=80),
        Line(
            what="one label, not in the picture: nothing painted", value=one_label_empty, wanted=90
        ),
        Line(what="labels in no picture: nothing painted", value=nothing_there, wanted=90),
    )


def table(accuracy: Accuracy) -> str:
    """One row per label that is in a picture, best first."""
    rows = [f"{'label':<12} {'IoU %':>6} {'pictures':>9} {'found in':>9}"]
    for label, iou in sorted(accuracy.label_iou.items(), key=lambda pair: -pair[1]):
        rows.append(
            f"{label:<12} {iou:6.1f} {accuracy.pictures_with[label]:9d} "
            f"{accuracy.found_in[label]:9d}"
        )
    return "\n".join(rows)


def to_json(accuracy: Accuracy) -> dict[str, Any]:
    """The same figures for report.json."""
    return {
        "mean_iou_percent": _number(accuracy.mean_iou),
        "presence_precision_percent": _number(accuracy.precision),
        "presence_recall_percent": _number(accuracy.recall),
        "false_regions_per_picture": _number(accuracy.false_regions, 3),
        "regions_per_picture": _number(accuracy.regions, 3),
        "labels": {
            label: {
                "iou_percent": round(iou, 2),
                "pictures": accuracy.pictures_with[label],
                "found_in": accuracy.found_in[label],
            }
            for label, iou in accuracy.label_iou.items()
        },
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else math.nan


def _number(value: float, digits: int = 2) -> float | None:
    return None if math.isnan(value) else round(value, digits)
