"""Tasks -> everything a report says.

every task ──> annotation, prediction ──> compared ──> sums, and a line per task
a few tasks once more, with their pictures: the worst, and a sample for edge-aware masks
"""

import hashlib
import heapq
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import BadMask, BadRequest, CouldNotPredict
from . import reading
from .calibration import Calibration, calibration
from .comparing import (
    EQUAL,
    GOOD,
    Compared,
    Mask,
    Name,
    Place,
    Sides,
    compare,
    compare_masks,
    masks_of,
    sides_of,
)
from .curve import Point, by_order
from .learnt import LearntVersion
from .panels import Palette, Panels, panels
from .reading import BASES, Told
from .saving import Saving, Stated, saving
from .snapping import enlarged, guide_of, moved, shrunk
from .sources import Pixels, Source
from .tally import Line, VersionTally, line_of
from .thresholds import Masks, Sweep, sweeps

logger = logging.getLogger(__name__)

WORST: Final = 10
SAMPLE: Final = 40  # pictures for edge-aware masks
MOST_FAILURES: Final = 20  # kinds of them
FORMAT: Final = 1  # of the JSON; raise when a key changes its meaning


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What kind of report. `version` None: all versions."""

    version: str | None = None
    worst: int = WORST
    sample: int = SAMPLE
    stated: Stated = field(default_factory=Stated)


@dataclass(frozen=True, kw_only=True)
class Worst:
    """A picture that needs most work. `panels` None where there is nothing to paint."""

    line: Line
    place: Place
    labels: tuple[Name, ...]
    link: str | None
    panels: Panels | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.line.task,
            "version": self.line.version,
            "quality": round(self.line.quality, 4),
            "picture": self.place.number,
            "link": self.link,
            "reason": self.reason or None,
        }


@dataclass
class Counts:
    """What became of the tasks. `unaided` are seconds of pictures that had no prediction."""

    annotated: int = 0
    unpredicted: int = 0
    other_version: int = 0
    compared: int = 0
    unaided: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def fail(self, sentence: str) -> None:
        if sentence in self.failures or len(self.failures) < MOST_FAILURES:
            self.failures[sentence] += 1
        else:
            self.failures["other reasons"] += 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything the page shows. `versions` by age, the newest last."""

    title: str
    project: int | None
    made: str
    asked: Asked
    counts: Counts
    open_tasks: int | None
    versions: Sequence[VersionTally]
    lines: Sequence[Line]
    saving: Saving
    order: Sequence[Point]
    calibration: Calibration
    calibrations: Mapping[str, Calibration]
    sweeps: Sequence[Sweep]
    worst: Sequence[Worst]
    palette: Palette
    sampled: int
    unsampled: Mapping[str, int]
    learnt: Sequence[LearntVersion]
    warnings: Sequence[str]

    @property
    def newest(self) -> VersionTally | None:
        return self.versions[-1] if self.versions else None

    @property
    def seen(self) -> list[Line]:
        return [one for one in self.lines if one.is_seen]

    @property
    def bases(self) -> dict[str, int]:
        counted = Counter(one.basis for one in self.lines)
        return {basis: counted[basis] for basis in BASES}

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "title": self.title,
            "project": self.project,
            "made": self.made,
            "version": self.asked.version,
            "definitions": {"untouched_iou": EQUAL, "touched_quality": GOOD},
            "tasks": {
                "annotated": self.counts.annotated,
                "without_prediction": self.counts.unpredicted,
                "of_other_versions": self.counts.other_version,
                "compared": self.counts.compared,
                "open": self.open_tasks,
            },
            "failures": dict(self.counts.failures),
            "compared_with": self.bases,
            "saving": self.saving.to_json(),
            "versions": [
                one.to_json(self.calibrations[one.version].to_json()) for one in self.versions
            ],
            "order": [one.to_json() for one in self.order],
            "calibration": self.calibration.to_json(),
            "thresholds": [one.to_json() for one in self.sweeps],
            "edge_aware": {"pictures": self.sampled, "without_picture": dict(self.unsampled)},
            "worst": [one.to_json() for one in self.worst],
            "learnt": [one.to_json() for one in self.learnt],
            "warnings": list(self.warnings),
            "pictures": [one.to_json() for one in self.lines],
        }


def report(
    source: Source,
    asked: Asked,
    *,
    made: str,
    learnt: Sequence[LearntVersion] = (),
    told: Callable[[int], None] = lambda done: None,
) -> Report:
    """Hold every annotation against its predictions; `told` hears how many tasks are done.

    `made` says when, for people. Raises BadRequest, StudioRefused, StudioAway.
    """
    first = _First(asked)
    for done, one in enumerate(source.tasks(), 1):
        first.take(one)
        told(done)
    versions = sorted(first.versions.values(), key=lambda one: (one.newest, one.version))
    second = _Second(source, {one.version: one for one in versions}, asked, first)
    for one in source.again(second.wanted):
        second.take(one)
    lines = sorted(first.lines, key=lambda one: (one.task, one.version))
    judged = [one for one in lines if one.score is not None]
    newest = versions[-1].version if versions else ""
    seen = [one for one in lines if one.is_seen]
    return Report(
        title=source.title,
        project=source.project,
        made=made,
        asked=asked,
        counts=first.counts,
        open_tasks=source.open_tasks,
        versions=versions,
        lines=lines,
        saving=saving(seen, first.counts.unaided, asked.stated),
        order=by_order(seen),
        calibration=_calibration(judged),
        calibrations={
            one.version: _calibration([line for line in judged if line.version == one.version])
            for one in versions
        },
        sweeps=sweeps(first.masks.get(newest, {})),
        worst=second.worst,
        palette=second.palette,
        sampled=second.sampled,
        unsampled=second.unsampled,
        learnt=learnt,
        warnings=source.warnings,
    )


class _First:
    """All tasks, one at a time; what is kept of each is small."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.counts = Counts()
        self.versions: dict[str, VersionTally] = {}
        self.masks: dict[str, dict[Name, Masks]] = {}
        self.lines: list[Line] = []
        self._worst: dict[str, list[tuple[float, int, int, Line]]] = {}
        self._sample: list[tuple[int, int]] = []

    def worst(self, versions: Sequence[str]) -> list[Line]:
        """The worst first, of the newest version that people changed something of; of one that
        was made after all corrections nobody has seen a mask. `versions`: the oldest first."""
        known = next((one for one in reversed(versions) if one in self._worst), "")
        return [entry[-1] for entry in sorted(self._worst.get(known, []), reverse=True)]

    @property
    def sample(self) -> set[int]:
        return {task for _, task in self._sample}

    def take(self, told: Told) -> None:
        answer = reading.answer_of(told.annotations)
        if answer is None:
            return
        self.counts.annotated += 1
        made = reading.made_of(told.predictions, answer)
        if not made:
            self.counts.unpredicted += 1
            if answer.seconds is not None:
                self.counts.unaided.append(answer.seconds)
            return
        pairs = reading.pairs_of(answer, made, self.asked.version)
        if not pairs:
            self.counts.other_version += 1
            return
        found: list[Line] = []
        for pair in pairs:
            try:
                compared = compare(told.id, answer.regions, pair.made.regions)
            except BadMask as wrong:
                self.counts.fail(_without_number(str(wrong), told.id))
                continue
            line = line_of(told.id, pair, compared, answer.created, answer.seconds)
            found.append(line)
            self._count(line, compared, pair.made.created)
        if found:
            self.counts.compared += 1
            self.lines += found
            self._choose(min(found, key=lambda one: (not one.is_seen, one.quality)))

    def _count(self, line: Line, compared: Compared, created: float | None) -> None:
        version = line.version
        self.versions.setdefault(version, VersionTally(version)).take(line, compared, created)
        masks = self.masks.setdefault(version, {})
        for name, one in compared.labels:
            if one.predicted and one.score is not None:
                masks.setdefault(name, Masks()).take(one.score, is_right=one.truth > 0)

    def _choose(self, line: Line) -> None:
        """For the second look: the worst of every version, and a sample that is always the same."""
        if line.kind != "untouched" and self.asked.worst:
            entry = (-line.quality, line.add + line.remove, -line.task, line)
            worst = self._worst.setdefault(line.version, [])
            heapq.heappush(worst, entry)
            if len(worst) > self.asked.worst:
                heapq.heappop(worst)
        if self.asked.sample:
            drawn = hashlib.sha256(str(line.task).encode()).digest()[:8]
            heapq.heappush(self._sample, (-int.from_bytes(drawn, "big"), line.task))
            if len(self._sample) > self.asked.sample:
                heapq.heappop(self._sample)


class _Second:
    """A few tasks once more, with their pictures. A picture that cannot be had is told, no more."""

    def __init__(
        self, source: Source, versions: Mapping[str, VersionTally], asked: Asked, first: _First
    ) -> None:
        self.source, self.versions, self.asked = source, versions, asked
        self.palette = Palette(source.colours)
        self.sample = first.sample
        self._snapped: set[tuple[int, Place]] = set()
        self.unsampled: Counter[str] = Counter()
        self._lines = {line.task: line for line in first.worst(list(versions))}
        self._found: dict[int, Worst] = {}

    @property
    def sampled(self) -> int:
        """Pictures on which masks were moved onto edges."""
        return len(self._snapped)

    @property
    def wanted(self) -> list[int]:
        return sorted({*self._lines, *self.sample})

    @property
    def worst(self) -> list[Worst]:
        return [self._found[task] for task in self._lines if task in self._found]

    def take(self, told: Told) -> None:
        answer = reading.answer_of(told.annotations)
        if answer is None:  # taken back meanwhile
            return
        made = reading.made_of(told.predictions, answer)
        pictures = _Pictures(self.source, told)
        for pair in reading.pairs_of(answer, made, self.asked.version):
            line = self._lines.get(told.id)
            is_worst = line is not None and line.prediction == pair.made.id
            if not is_worst and told.id not in self.sample:
                continue
            try:
                if is_worst and line is not None:
                    self._show(told, line, pictures, answer.regions, pair.made.regions)
                if told.id in self.sample:
                    self._snap(told, pair.made.version, pictures, answer.regions, pair.made.regions)
            except BadMask as wrong:
                logger.warning("task %s changed while the report was made: %s", told.id, wrong)

    def _show(
        self,
        told: Told,
        line: Line,
        pictures: "_Pictures",
        truth: Sequence[dict[str, Any]],
        predicted: Sequence[dict[str, Any]],
    ) -> None:
        compared = compare(told.id, truth, predicted)
        if not compared.places:
            return
        place = min(compared.places, key=compared.quality_at)
        image, reason = pictures.get(place)
        labels = {
            name: sides
            for name, sides in sides_of(told.id, truth, predicted)[place].items()
            if name in compared.places[place]
        }
        if image is not None:
            reason = _unlike(image, labels)
            image = None if reason else image
        self._found[told.id] = Worst(
            line=line,
            place=place,
            labels=tuple(labels),
            link=self.source.link(told),
            panels=panels(image, labels, self.palette, reason),
            reason=reason,
        )

    def _snap(
        self,
        told: Told,
        version: str,
        pictures: "_Pictures",
        truth: Sequence[dict[str, Any]],
        predicted: Sequence[dict[str, Any]],
    ) -> None:
        tally = self.versions.get(version)
        if tally is None:
            return
        for place, labels in sides_of(told.id, truth, predicted).items():
            image, reason = pictures.get(place)
            if image is None:
                self.unsampled[reason] += 1
                continue
            size_hw = (image.shape[0], image.shape[1])
            guide = guide_of(image)
            names, small = [], []
            for name, sides in labels.items():
                right, given = masks_of(sides)
                if right.shape == size_hw and _is_changed(right, given):
                    names.append(name)
                    small.append(shrunk(given, guide))
            for name, cells in zip(names, moved(small, guide), strict=True):
                right, given = masks_of(labels[name])
                after = compare_masks(right, enlarged(cells, size_hw))
                tally.label(name).take_snapped(compare_masks(right, given), after)
                self._snapped.add((told.id, place))


def _is_changed(right: Mask, given: Mask) -> bool:
    """Whether somebody moved the mask's outline.

    One that was accepted says nothing about edges: people let many a small fault pass, and what
    they let pass is now the truth.
    """
    both, either = int((right & given).sum()), int((right | given).sum())
    return 0 < both < EQUAL * either


class _Pictures:
    """Of one task, each fetched once; with the reason where there is none."""

    def __init__(self, source: Source, told: Told) -> None:
        self._source, self._told = source, told
        self._place: Place | None = None
        self._kept: tuple[Pixels | None, str] = (None, "")

    def get(self, place: Place) -> tuple[Pixels | None, str]:
        if place != self._place:  # one at a time: they may be large
            self._place, self._kept = place, (None, "")
            try:
                self._kept = (self._source.picture(self._told, place), "")
            except (CouldNotPredict, BadRequest) as error:
                self._kept = (None, str(error))
        return self._kept


def _unlike(image: Pixels, labels: Mapping[Name, Sides]) -> str:
    """Why the picture is not the one that was painted on; "" where it is."""
    sides = next(iter(labels.values()))
    shape = masks_of(sides)[0].shape
    if image.shape[:2] == shape:
        return ""
    return (
        f"the picture has {image.shape[1]} x {image.shape[0]} pixels, "
        f"its masks {shape[1]} x {shape[0]}"
    )


def _calibration(lines: Sequence[Line]) -> Calibration:
    return calibration(
        [one.score for one in lines if one.score is not None], [one.quality for one in lines]
    )


def _without_number(sentence: str, task: int) -> str:
    """So that equal reasons of different tasks are one."""
    return sentence.replace(f"task {task} ", "the task ")
