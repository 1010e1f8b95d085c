"""What learning asks of the predictor: pictures as the model sees them, and the words in force.

Values only; `looking` makes them, `learning` uses them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cliper_model import Segmentation, Segmenter, Vocabulary
from cliper_model.segmenter import Learner
from cliper_model.stages import places

from .model_pool import ModelChoice

RowLogits = Callable[[Float[Tensor, "places embed"], Vocabulary], Float[Tensor, "places rows"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Studied:
    """One control on one picture, as the model sees it without any correction.

    control       its `from_name`
    model         see `lessons.model_of`
    names         result names, in the order of the segmentation's labels
    background    False: it is off, and what nobody painted says nothing
    segmentation  as predicted, at the size of the picture or of large pictures' masks
    agreement     see `Scores.agreement`
    choice        which of the service's models
    taken         names that another control writes
    outlines      its regions say which pixels they cover; boxes, ellipses and points do not
    """

    control: str
    model: str
    names: tuple[str, ...]
    background: bool
    segmentation: Segmentation
    agreement: float | None
    choice: ModelChoice = ModelChoice()  # noqa: RUF009  # a frozen value
    taken: frozenset[str] = frozenset()
    outlines: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class StudiedPicture:
    """One picture of a task.

    image     name of its tag in the config, as results have it (`to_name`)
    index     number in a list of pictures, None for a single one
    size_hw   as displayed
    cells     see `Learner.cells`
    controls  those whose method can learn
    """

    image: str
    index: int | None
    size_hw: tuple[int, int]
    cells: Float[np.ndarray, "h w embed"]
    controls: tuple[Studied, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """One control's words, for learning.

    control    its `from_name`
    model      see `lessons.model_of`; evidence of another model is passed over
    names      result names of the vocabulary's labels, in their order
    words      of every label, in the order of their rows
    gains      what every feature adds to the logit of every row, see `Learner.row_logits`
    presence   presence that each label needs where nothing is learnt
    """

    control: str
    model: str
    names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    vocabulary: Vocabulary
    gains: Float[Tensor, "embed rows"]
    presence: tuple[float, ...] = ()

    def logits(self, cells: Float[Tensor, "places embed"]) -> Float[Tensor, "places rows"]:
        return cells @ self.gains


def gains_of(segmenter: Learner, vocabulary: Vocabulary) -> Float[Tensor, "embed rows"]:
    """For a Course."""
    return segmenter.row_logits(torch.eye(vocabulary.rows.shape[1]), vocabulary)


def is_taught(segmenter: Segmenter) -> TypeGuard[Learner]:
    """Whether its masks follow what was learnt from corrections."""
    inner = getattr(segmenter, "inner", segmenter)  # large pictures are cut up around a method
    return isinstance(inner, Learner)


def cell_probabilities(
    cells: Float[Tensor, "h w embed"], vocabulary: Vocabulary, logits: RowLogits
) -> Float[Tensor, "places outcomes"]:
    """What words and corrections say of every place, row by row: labels, and last none of them."""
    flat = cells.flatten(0, 1)
    learnt = vocabulary.correction
    lost = None if learnt is None else learnt.word_bias
    told = places.outcome_logits(logits(flat, vocabulary), vocabulary, word_bias=lost)
    if learnt is not None:
        bonus = learnt.bonus(places.standing_out(flat))
        told = places.corrected(told, bonus, learnt.taught, others=learnt.others)
    return torch.softmax(told, dim=-1)
