"""MaskCLIP+: a trained student network whose last layer is the text rows it was taught with.

Zhou, Loy, Dai: Extract Free Dense Labels from CLIP; ECCV 2022, arXiv 2112.01071. Section
numbers below are those of docs/specs/maskclip.md. The student is trained by
`cliper train-student`; at work it needs no CLIP and no teacher.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import EmptyVocabulary, WeightsMismatch, WeightsMissing
from ..profiles import Profile
from ..segmenter import Identity, ImageState, Label, Scores, Vocabulary, canonical_word
from ..shapes import Image
from ..stages import resize, rows
from ..student.checkpoint import Checkpoint
from ..student.errors import UnlearnedWords
from ..student.network import Student, build_student
from ..student.tower import TowerShape
from ..student.words import StudentWords
from .frame import Method, Parts, Presets, own_state, rgb_array

REVISION = 1  # raise whenever the same inputs give other masks
BACKGROUND: Final = "background"  # what the learnable row is called among the words


@dataclass(frozen=True, kw_only=True)
class MaskclipPlusConfig:
    """What masks depend on, besides the student: nothing, its checkpoint holds its size."""


@dataclass(frozen=True)
class StudentState(ImageState):
    """The student's dense features in text space, not normalised; `embed h w`."""

    kind: ClassVar[str] = "maskclip+-1"

    features: Float[Tensor, "embed h w"]


class MaskclipPlus(Method):
    """A trained student. Immutable; share it between threads."""

    synonyms_published = False

    def __init__(
        self,
        student: Student,
        words: StudentWords,
        *,
        short_side: int,
        long_side: int = 2048,
        presets: Presets,
        identity: Identity,
    ) -> None:
        """`short_side` and `long_side`: pixels of the input, as in training at scale 1."""
        self.student, self.words = student.eval(), words
        self.short_side, self.long_side = short_side, long_side
        self.config = None
        self._presets, self._identity = presets, identity
        with torch.no_grad():
            self._rows = student.all_rows().detach().cpu()

    # -- words ------------------------------------------------------------------------

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        """The rows of learned words; no text tower is asked.

        Without background words of the caller's, everything else the student learned stands
        for the background: it tells a tree from a house even where only houses are wanted.
        Raises EmptyVocabulary, UnknownPreset, UnlearnedWords.
        """
        name = preset or ("whole-scene" if background is not None and not background else "objects")
        self._presets(name)
        given = [Label(label) if isinstance(label, str) else label for label in labels]
        sought = [label for label in given if not label.is_rest]
        rest = next((label.name for label in given if label.is_rest), None)
        if not sought:
            raise EmptyVocabulary
        asked = [(word, index) for index, label in enumerate(sought) for word in label.prompts]
        others = self._others(sought) if background is None else tuple(background)
        self._check([word for word, _ in asked] + [w for w in others if w != BACKGROUND])
        taken = [self.words.positions[canonical_word(word)] for word, _ in asked]
        kept, dropped = self._behind(others, self._claimed(sought))
        numbers = [self.words.first + position for position in taken]
        numbers += [self._number(word) for word in kept]
        return Vocabulary(
            labels=tuple(label.name for label in sought),
            preset=name,
            rows=self._rows[numbers],
            row_class=tuple(index for _, index in asked),
            mean_row=None,
            background=kept,
            dropped=dropped,
            rest=rest,
        )

    def _claimed(self, sought: Sequence[Label]) -> Set[int]:
        """Learned words that are a label's: one of its words, its name, or another name of it."""
        words = (w for label in sought for w in (*label.prompts, label.name, *label.also))
        found = (self.words.positions.get(canonical_word(word)) for word in words)
        return {position for position in found if position is not None}

    def _others(self, sought: Sequence[Label]) -> tuple[str, ...]:
        """Every learned name that is not asked for, behind the background class if there is one."""
        asked = self._claimed(sought)
        names = (name for index, name in enumerate(self.words.names) if index not in asked)
        return (*((BACKGROUND,) if self.words.background else ()), *names)

    def _check(self, words: Sequence[str]) -> None:
        strange = [word for word in words if canonical_word(word) not in self.words.positions]
        if strange:
            raise UnlearnedWords(strange, self.words.names)

    def _number(self, word: str) -> int:
        """Class number of a learned word, or of the background class."""
        if word == BACKGROUND and BACKGROUND not in self.words.positions:
            return 0
        return self.words.first + self.words.positions[canonical_word(word)]

    def _behind(
        self, others: Sequence[str], claimed: Set[int]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Background words to keep, and those that are a label's own word or unknown."""
        kept: dict[int, str] = {}
        dropped = []
        own = {self.words.first + position for position in claimed}
        for word in others:
            learnable = self.words.background or word != BACKGROUND
            if not learnable or self._number(word) in own:
                dropped.append(word)
            else:
                kept.setdefault(self._number(word), word)
        return tuple(kept.values()), tuple(dropped)

    # -- pictures ---------------------------------------------------------------------

    @torch.no_grad()
    def observe(self, image: Image) -> StudentState:
        """One pass through the student at its training size (§6)."""
        image = rgb_array(image)
        picture = resize.to_short_side(image, short_side=self.short_side, long_side=self.long_side)
        pixels = resize.normalise(picture, resize.IMAGENET_MEAN, resize.IMAGENET_STD)
        features = self.student.features(pixels.to(self._rows_device()))[0].float()
        return StudentState(size_hw=(image.shape[0], image.shape[1]), features=features)

    def _rows_device(self) -> torch.device:
        return self.student.rows.device

    # -- scores -----------------------------------------------------------------------

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Features times rows, without temperature; presence from their softmax (§4, §6)."""
        state = own_state(state, StudentState)
        chosen = rows.distinct(vocabulary)
        text = vocabulary.rows[chosen].to(state.features.device)
        return rows.row_scores(
            torch.einsum("ehw,re->rhw", state.features, text),
            vocabulary,
            owners=tuple(rows.row_owners(vocabulary)[index] for index in chosen),
            scale=1.0,
            size_hw=state.size_hw,
            presence=self._presets(vocabulary.preset).presence,
        )


def load_student(path: Path, *, device: str = "cpu") -> tuple[Student, Checkpoint]:
    """A trained student, and the checkpoint with its words and settings.

    Raises CheckpointMissing, CheckpointUnreadable, WeightsMismatch.
    """
    checkpoint = Checkpoint.load(path)
    words = checkpoint.words
    shape = checkpoint.settings.get("tower")
    student = build_student(
        str(checkpoint.settings["network"]),
        words.rows,
        background=words.background,
        tower=None if shape is None else TowerShape(**shape),
    )
    try:
        student.load_state_dict(dict(checkpoint.weights))
    except RuntimeError as error:
        raise WeightsMismatch(
            f"train the student again: the weights in {path} do not fit its network"
        ) from error
    return student.to(device).eval(), checkpoint


def config_of(profile: Profile, *, published: bool = False) -> MaskclipPlusConfig:
    """Nothing depends on the profile."""
    return MaskclipPlusConfig()


def build(parts: Parts) -> MaskclipPlus:
    """The student of `parts.student`. Raises WeightsMissing where none is named."""
    if parts.student is None:
        raise WeightsMissing(
            "a trained student", [], "train one with cliper train-student and name its file"
        )
    student, checkpoint = load_student(parts.student, device=parts.device)
    crops = checkpoint.settings["crops"]
    return MaskclipPlus(
        student,
        checkpoint.words,
        short_side=int(crops["short_side"]),
        long_side=int(crops["long_side"]),
        presets=parts.presets,
        identity=parts.identity,
    )
