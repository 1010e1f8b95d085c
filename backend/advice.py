"""What a label config says that will not work well: sentences for the log and for `doctor`."""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cliper_model import Vocabulary
from cliper_model.prompts import pieces_of
from cliper_model.segmenter import canonical_word

from .labelstudio.label_config import is_only_code
from .labelstudio.words import is_latin
from .vocabulary import ControlVocabulary

MOST_PIECES: Final = 4  # of one word, before a text tower no longer knows it as one
ALIKE: Final = 0.95  # cosine of two labels the model cannot tell apart
MOST_COMPARED: Final = 300  # labels; more are not compared with each other


def of_config(wanted: Sequence[ControlVocabulary]) -> tuple[str, ...]:
    """Labels that are no words at all; costs nothing."""
    return tuple(
        f"{label.name!r} is a code, not a word; give English words in predicted_values"
        for one in wanted
        for label in one.sought
        if is_only_code(label)
    )


def of_spelling(one: ControlVocabulary) -> Iterator[str]:
    """Words in other letters, or that break into many pieces; takes a moment, and no model."""
    asked = [
        (label.name, prompt)
        for label, words in zip(one.sought, one.labels, strict=True)
        for prompt in words.prompts
    ]
    distinct = sorted({word for _, prompt in asked for word in prompt.split()})
    broken = dict(zip(distinct, pieces_of(distinct), strict=True))
    for name, prompt in asked:
        if not is_latin(prompt) or max(broken[word] for word in prompt.split()) > MOST_PIECES:
            yield (
                f"the model hardly reads {prompt!r} of label {name!r}; "
                "give English words in predicted_values"
            )


def of_meaning(vocabulary: Vocabulary) -> Iterator[str]:
    """Labels that mean the same to the model that read them."""
    rows = torch.nn.functional.normalize(
        vocabulary.rows[: len(vocabulary.row_class)].float().cpu(), dim=-1
    )
    count = len(vocabulary.labels)
    if count > MOST_COMPARED:
        return
    owners = torch.tensor(vocabulary.row_class)
    nearest = _largest_per_label(_largest_per_label(rows @ rows.T, owners, count).T, owners, count)
    alike = torch.nonzero((nearest > ALIKE).triu(1))
    for first, second in alike.tolist():
        one, other = vocabulary.labels[first], vocabulary.labels[second]
        if canonical_word(one) != canonical_word(other):
            cosine = float(nearest[first, second])
            yield (
                f"labels {one!r} and {other!r} mean nearly the same to the model (cosine "
                f"{cosine:.2f}); give them words that differ in predicted_values"
            )


def _largest_per_label(
    cosines: Float[Tensor, "rows others"], owners: Int[Tensor, " rows"], labels: int
) -> Float[Tensor, "labels others"]:
    """Over the words of every label."""
    lowest = cosines.new_full((labels, cosines.shape[1]), -torch.inf)
    return lowest.scatter_reduce_(0, owners[:, None].expand_as(cosines), cosines, "amax")
