"""What all methods share: words become rows the same way, and three steps make masks.

A method is one file in this folder and one line in `registry.py`. The file offers

    REVISION           a number, raised whenever the same inputs give other masks
    config_of(profile, published=False)   the method's frozen settings under a profile
    build(parts)       the method on the networks of a profile

and a class derived from `Method` with its own `observe` and `score`. What people read about
it and its numbers for decisions lie in `data/methods/<name>.json`.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .. import prompts
from ..backbones.base import FeatureSource
from ..backbones.clip import ClipBackbone
from ..backbones.diffusion import DiffusionBackbone
from ..errors import BadImage, EmptyVocabulary, IncompatibleState
from ..presets import Preset
from ..profiles import Profile
from ..segmenter import (
    Decision,
    Identity,
    ImageState,
    Label,
    Scores,
    Segmentation,
    Vocabulary,
)
from ..shapes import Image
from ..stages.decide import decide

Presets = Callable[[str], Preset]
WordCheck = Callable[[Sequence[Label]], None]
State = TypeVar("State", bound=ImageState)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a method may be built from; a network is brought into memory when it is called for.

    `student` is the checkpoint of a trained student, for the method that needs one; `cuda_graphs`
    whether a card starts what it is asked again all at once.
    """

    profile: Profile
    published: bool
    identity: Identity
    presets: Presets
    check_words: WordCheck | None
    clip: Callable[[], ClipBackbone]
    diffusion: Callable[[], DiffusionBackbone | None]
    features: Callable[[], FeatureSource | None]
    student: Path | None
    device: str
    dtype: torch.dtype
    cuda_graphs: bool = True


class Method(ABC):
    """A Segmenter without its eyes. Instances are immutable and may be shared by threads."""

    synonyms_published: ClassVar[bool] = True
    """False: the published form knows one string per label, its name."""

    whole_because: ClassVar[str | None] = None
    """Why scores of parts of a picture cannot be merged, in words; None where they can."""

    def __init__(
        self,
        clip: ClipBackbone,
        config: Any,
        *,
        presets: Presets,
        identity: Identity,
        check_words: WordCheck | None = None,
    ) -> None:
        """`config` holds the method's own frozen settings, or is None without any.

        `presets` gives the numbers for these weights by preset name.
        `check_words` may refuse labels the text tower cannot read (UntrainedWords).
        """
        self.clip, self.config = clip, config
        self._presets, self._identity, self._check_words = presets, identity, check_words

    @property
    def published(self) -> bool:
        """Whether the config restores what the specification lists as unsafe."""
        return bool(getattr(self.config, "published", False))

    @property
    def identity(self) -> Identity:
        return self._identity

    def decision(self, preset: str) -> Decision:
        return self._presets(preset).decision

    def presence(
        self, strength: Float[np.ndarray, " classes"], *, preset: str
    ) -> Float[np.ndarray, " classes"]:
        """What a strength is worth, from 0 to 1, by the preset's numbers for this method."""
        return self._presets(preset).presence(strength)

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        """Labels and background words as text rows (cliper §3, methods P3).

        Published forms keep background words that are also labels; ours drops them, and those
        whose text is almost a label's.
        """
        name = preset or ("whole-scene" if background is not None and not background else "objects")
        chosen = self._presets(name)
        given = [Label(label) if isinstance(label, str) else label for label in labels]
        sought = [label for label in given if not label.is_rest]
        rest = next((label.name for label in given if label.is_rest), None)
        if not sought:
            raise EmptyVocabulary
        one_string = self.published and not self.synonyms_published
        words = [(label.name,) if one_string else label.prompts for label in sought]
        wanted = chosen.background if background is None else tuple(background)
        row_class = tuple(index for index, group in enumerate(words) for _ in group)
        flat = [word for group in words for word in group]
        names = [label.name for label in sought]
        taken = [*flat, *names, *(name for label in sought for name in label.also)]
        if self.published:
            kept, dropped = tuple(wanted), tuple[str, ...]()
        else:
            kept, dropped = prompts.keep_distinct_background(wanted, label_words=taken)
        if self._check_words is not None:
            self._check_words([*sought, *(Label(word) for word in kept)])

        own = [label.templates or chosen.templates for label in sought]
        sentences = [own[index] for index in row_class] + [chosen.templates] * len(kept)
        rows = self._encoded([*flat, *kept], sentences)
        front, back = rows[: len(flat)], rows[len(flat) :]
        if not self.published:
            close = prompts.too_close(back, front, cosine=chosen.background_cosine)
            dropped += tuple(w for w, near in zip(kept, close, strict=True) if near)
            kept = tuple(w for w, near in zip(kept, close, strict=True) if not near)
            back = back[[index for index, near in enumerate(close) if not near]]
        mean_row = prompts.mean_of_classes(front, row_class, len(sought))
        alone = len(sought) == 1 and not self.published
        return Vocabulary(
            labels=tuple(names),
            preset=name,
            rows=torch.cat([front, back]),
            row_class=row_class,
            mean_row=None if alone else mean_row,
            background=kept,
            dropped=dropped,
            rest=rest,
        )

    def _encoded(
        self, words: Sequence[str], sentences: Sequence[tuple[str, ...]]
    ) -> Float[Tensor, "words embed"]:
        """One text row per word, words of the same sentences asked for together."""
        alike: dict[tuple[str, ...], list[int]] = {}
        for index, templates in enumerate(sentences):
            alike.setdefault(templates, []).append(index)
        parts = [
            self.clip.encode_words([words[index] for index in indices], templates)
            for templates, indices in alike.items()
        ]
        order = [index for indices in alike.values() for index in indices]
        return torch.cat(parts)[np.argsort(order)]

    def with_numbers(self, *, presets: Presets | None = None, **changes: Any) -> "Method":
        """The same networks with other presets or settings of the method's config.

        The method itself stays as it is. Raises TypeError for a setting the config lacks.
        """
        other = copy.copy(self)
        if changes:
            if self.config is None:
                raise TypeError(f"{self.identity.method} has no settings to change")
            other.config = replace(self.config, **changes)
            settings = {**self._identity.settings, **changes}
            other._identity = replace(self._identity, settings=settings)
        if presets is not None:
            other._presets = presets
        return other

    @abstractmethod
    def observe(self, image: Image) -> ImageState:
        """Look once; never sees a word."""

    @abstractmethod
    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Raises IncompatibleState for the state of another method."""

    def segment(
        self,
        image: Image,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
        decision: Decision | None = None,
    ) -> Segmentation:
        """Masks for `labels`; numbers not given come from the preset."""
        vocabulary = self.read(labels, background=background, preset=preset)
        scores = self.score(self.observe(image), vocabulary)
        return decide(scores, decision or self.decision(vocabulary.preset))


def own_state(state: ImageState, wanted: type[State]) -> State:
    """`state` as the method's own kind, or IncompatibleState."""
    if not isinstance(state, wanted):
        raise IncompatibleState(state.kind, wanted.kind)
    return state


def rgb_array(image: object) -> Image:
    """The picture, if it is an array [height, width, 3] uint8; raises BadImage."""
    if not isinstance(image, np.ndarray):
        raise BadImage(type(image).__name__)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadImage(f"{image.dtype} {list(image.shape)}")
    return image
