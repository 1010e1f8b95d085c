"""Who fills in the pixels nobody annotated: any Segmenter, looking at the same crop."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ..methods.cliper import Cliper
from ..segmenter import Decision, RowLogits, Scores, Segmenter
from ..stages.decide import decide
from .errors import NothingToLearn
from .labels import IGNORE, assign, fill_in
from .words import StudentWords

PROBE: Final = 32  # pixels per side of the picture that shows whether a method has row logits


@runtime_checkable
class Teacher(Protocol):
    """Pseudo labels for one crop; the same crop gets the same labels."""

    @property
    def digest(self) -> str:
        """Changes whenever the labels may change."""
        ...

    def fill(
        self,
        crop: UInt8[np.ndarray, "height width 3"],
        annotation: Int[np.ndarray, "height width"],
    ) -> Int[np.ndarray, "height width"]:
        """Class numbers of the student's words where `annotation` is -1; 255 is ignored."""
        ...


@dataclass(frozen=True, kw_only=True)
class TeacherRules:
    """How a teacher's answer becomes labels.

    every_pixel  published: arg-max over the words, no thresholds. Otherwise the preset's own
                 decision, and a pixel without a label is ignored, or of the background class
                 where the student has one
    confidence   published option: pixels whose best logit is below it are ignored, annotated
                 ones too; 0 keeps all. Only for teachers that decide by row logits, and only
                 with `every_pixel`: the other decision has thresholds of its own
    """

    every_pixel: bool = True
    confidence: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence must be in [0, 1], got {self.confidence}")
        if self.confidence > 0 and not self.every_pixel:
            raise ValueError(
                "leave confidence at 0 or let every pixel have a label: objects are "
                "decided by the preset's own thresholds"
            )


class SegmenterTeacher:
    """Any method as a teacher; it is asked for the unlabelled classes only."""

    def __init__(
        self,
        segmenter: Segmenter,
        words: StudentWords,
        unlabelled: Sequence[int],
        rules: TeacherRules | None = None,
    ) -> None:
        """`unlabelled`: numbers of the classes a pseudo label may be.

        Raises NothingToLearn, and ValueError for a confidence the method cannot give.
        """
        self.segmenter, self.words = segmenter, words
        self.rules = rules or TeacherRules()
        self.asked = tuple(number for number in sorted(unlabelled) if number >= words.first)
        if not self.asked:
            raise NothingToLearn("leave at least one label without annotation for the teacher")
        background: tuple[str, ...] | None = () if self.rules.every_pixel else None
        self._vocabulary = segmenter.read(
            [words.labels[number - words.first] for number in self.asked],
            background=background,
            preset="whole-scene" if self.rules.every_pixel else "objects",
        )
        if self.rules.confidence > 0:
            blank = np.full((PROBE, PROBE, 3), 128, np.uint8)
            self._rows_of(segmenter.score(segmenter.observe(blank), self._vocabulary))

    @property
    def digest(self) -> str:
        identity = asdict(self.segmenter.identity)
        config = getattr(self.segmenter, "config", None)
        if is_dataclass(config):  # numbers may have been changed since the method was loaded
            identity["settings"] = {**identity["settings"], **asdict(config)}  # type: ignore[arg-type]
        about = [identity, asdict(self.rules), self.asked, self.words.digest]
        text = json.dumps(about, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def decision(self) -> Decision:
        """The preset's, or plain arg-max."""
        own = self.segmenter.decision(self._vocabulary.preset)
        if not self.rules.every_pixel:
            return replace(own, overlap=False)
        return replace(
            own,
            background="none",
            presence_threshold=0.0,
            mask_threshold=0.0,
            min_area=0.0,
            min_piece=0.0,
            largest_hole=0.0,
            smooth=0,
            overlap=False,
        )

    def fill(
        self,
        crop: UInt8[np.ndarray, "height width 3"],
        annotation: Int[np.ndarray, "height width"],
    ) -> Int[np.ndarray, "height width"]:
        """See Teacher."""
        scores = self.segmenter.score(self.segmenter.observe(crop), self._vocabulary)
        if self.rules.confidence > 0:
            return self._by_logits(self._rows_of(scores), annotation)
        found = decide(scores, self.decision).label_map
        nothing = 0 if self.words.background and not self.rules.every_pixel else IGNORE
        return fill_in(annotation, found, self.asked, nothing=nothing)

    def _rows_of(self, scores: Scores) -> RowLogits:
        if scores.rows is None:
            raise ValueError(
                "set the teacher's confidence to 0 or choose maskclip: "
                f"{self.segmenter.identity.method} gives no row logits"
            )
        return scores.rows

    def _by_logits(
        self, rows: RowLogits, annotation: Int[np.ndarray, "height width"]
    ) -> Int[np.ndarray, "height width"]:
        """The published rule on the teacher's logits."""
        logits = class_logits(rows, classes=len(self.asked))
        numbers = torch.from_numpy(np.ascontiguousarray(annotation))
        filled = assign(
            logits, numbers, range(len(self.asked)), confidence=self.rules.confidence
        ).numpy()
        won = (annotation < 0) & (filled != IGNORE)
        return np.where(won, np.array(self.asked)[np.where(won, filled, 0)], filled)


def without_refinement(segmenter: Segmenter) -> Segmenter:
    """CLIPer's coarse maps alone: a teacher that is many times faster. Raises NothingToLearn."""
    if not isinstance(segmenter, Cliper):
        raise NothingToLearn(
            f"leave out the refinement of cliper only: {segmenter.identity.method} has none"
        )
    coarse = segmenter.with_numbers(refinement="none")
    assert isinstance(coarse, Cliper)
    coarse.diffusion = coarse.features = None  # the copy keeps no network that it never asks
    return coarse


def class_logits(rows: RowLogits, *, classes: int) -> Float[Tensor, "classes h w"]:
    """The best row of every class; background rows (class -1) are left out."""
    owners = np.array(rows.row_class)
    best = [rows.values[owners == index].max(axis=0) for index in range(classes)]
    return torch.from_numpy(np.stack(best).astype(np.float32))
