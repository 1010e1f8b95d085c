"""What a student can name: class names, their synonyms, and one frozen text row each."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..segmenter import Label, Segmenter, canonical_word
from .errors import NothingToLearn
from .labels import MOST_CLASSES


@dataclass(frozen=True)
class StudentWords:
    """Names in the order of their numbers; `synonyms` holds each name's own word first.

    `rows` has one row of unit length per name: the mean of its synonyms' rows. `templates`
    are the sentences they were made from. `background` says whether class 0 is a learnable
    row that stands before them.
    """

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    rows: Float[Tensor, "words embed"]
    templates: tuple[str, ...] = ()
    background: bool = False

    def __post_init__(self) -> None:
        most = MOST_CLASSES - int(self.background)
        if not 1 <= len(self.names) <= most:
            raise NothingToLearn(f"name 1 to {most} labels, got {len(self.names)}")
        if not len(self.names) == len(self.synonyms) == len(self.rows):
            raise ValueError("names, synonyms and rows must be equally many")
        seen: dict[str, str] = {}
        for name, words in zip(self.names, self.synonyms, strict=True):
            for word in dict.fromkeys(canonical_word(word) for word in (name, *words)):
                if word in seen:
                    raise NothingToLearn(
                        f"name every word once: {word!r} belongs to {seen[word]!r} and {name!r}"
                    )
                seen[word] = name

    @property
    def first(self) -> int:
        """Number of the first name: 1 behind a background class, else 0."""
        return int(self.background)

    @property
    def classes(self) -> int:
        """How many classes the student tells apart."""
        return self.first + len(self.names)

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(Label(name, words) for name, words in zip(self.names, self.synonyms))  # noqa: B905

    @cached_property
    def positions(self) -> dict[str, int]:
        """Canonical word -> position in `names`."""
        return {
            canonical_word(word): index
            for index, words in enumerate(self.synonyms)
            for word in (self.names[index], *words)
        }

    @property
    def digest(self) -> str:
        """SHA-256 over names, synonyms, templates and the text rows' bytes."""
        plain = [self.names, self.synonyms, self.templates, self.background]
        text = json.dumps(plain, ensure_ascii=False).encode()
        rows = self.rows.detach().cpu().float().contiguous().numpy().tobytes()
        return hashlib.sha256(text + rows).hexdigest()


def read_words(
    teacher: Segmenter,
    labels: Sequence[Label],
    *,
    templates: tuple[str, ...],
    background: bool = False,
) -> StudentWords:
    """The labels as the teacher's own text tower reads them; labels that mean "the rest" go.

    Raises NothingToLearn, and what `teacher.read` raises.
    """
    sought = [label for label in labels if not label.is_rest]
    if not sought:
        raise NothingToLearn("name at least one label that can be seen")
    vocabulary = teacher.read(sought, background=())
    owners = torch.tensor(vocabulary.row_class)
    front = functional.normalize(vocabulary.rows[: len(owners)].detach().float().cpu(), dim=-1)
    means = [front[owners == index].mean(dim=0) for index in range(len(sought))]
    return StudentWords(
        names=tuple(label.name for label in sought),
        synonyms=tuple(label.prompts for label in sought),
        rows=functional.normalize(torch.stack(means), dim=-1),
        templates=templates,
        background=background,
    )
