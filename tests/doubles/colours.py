"""A model whose words are colours: "red" finds red pixels. Exact, tiny, and controllable."""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from backend.model_host import ModelSource, Progress
from cliper_model import Decision, Identity, ImageState, Label, Scores, Segmentation, Vocabulary
from cliper_model import decide as decide_masks
from cliper_model.errors import EmptyVocabulary, UntrainedWords

from .pictures import COLOURS

IDENTITY = Identity(
    method="colours", revision=1, profile="paintbox", weights={"paint": "00ff"}, settings={"n": 1}
)


@dataclass(frozen=True)
class Seen(ImageState):
    kind: ClassVar[str] = "colours-1"

    pixels: torch.Tensor


@dataclass
class ColourSegmenter:
    """`gate` lets observe pass (open by default); `on_observe` may raise or move a clock.

    `began` counts up when a look begins, so that a test can wait for it.
    """

    identity: Identity = IDENTITY
    on_observe: Callable[[np.ndarray], None] = lambda pixels: None
    gate: threading.Event = field(default_factory=threading.Event)
    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    looks: list[np.ndarray] = field(default_factory=list)
    readings: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        given = [Label(label) if isinstance(label, str) else label for label in labels]
        if not given:
            raise EmptyVocabulary
        check_colours("paintbox", [*given, *(Label(word) for word in background or ())])
        self.readings.append(tuple(label.name for label in given))
        words = [(index, word) for index, label in enumerate(given) for word in label.prompts]
        rows = [COLOURS[word] for _, word in words] + [COLOURS[word] for word in background or ()]
        return Vocabulary(
            labels=tuple(label.name for label in given),
            preset=preset or "objects",
            rows=torch.tensor(rows, dtype=torch.float32),
            row_class=tuple(index for index, _ in words),
            mean_row=None,
            background=tuple(background or ()),
        )

    def observe(self, image: np.ndarray) -> Seen:
        self.looks.append(image)
        self.began.release()
        assert self.gate.wait(60), "the test never opened the gate"
        self.on_observe(image)
        return Seen(size_hw=(image.shape[0], image.shape[1]), pixels=torch.from_numpy(image.copy()))

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        assert isinstance(state, Seen)
        rows = vocabulary.rows.numpy()
        alike = np.abs(state.pixels.numpy().astype(float) - rows[:, None, None]).sum(-1) < 60
        maps = np.zeros((len(vocabulary.labels), *state.size_hw), np.float32)
        for row, index in enumerate(vocabulary.row_class):
            maps[index] = np.maximum(maps[index], alike[row])
        found = maps.max(axis=(1, 2))
        return Scores(
            labels=vocabulary.labels,
            maps=maps,
            strength=found,
            presence=found * np.float32(0.9),
            size_hw=state.size_hw,
        )

    def decision(self, preset: str) -> Decision:
        rule = "none" if preset == "whole-scene" else "threshold"
        return Decision(background=rule, background_threshold=0.5)

    def segment(
        self,
        image: np.ndarray,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
        decision: Decision | None = None,
    ) -> Segmentation:
        vocabulary = self.read(labels, background=background, preset=preset)
        scores = self.score(self.observe(image), vocabulary)
        return decide_masks(scores, decision or self.decision(vocabulary.preset))


@dataclass
class ManyColours(ColourSegmenter):
    """Looks at several pictures of the same size at once, up to `room` of them.

    `together` lists how many each time; those that did not fit into memory count.
    """

    room: int = 1000
    together: list[int] = field(default_factory=list)

    def observe_many(self, images: Sequence[np.ndarray]) -> list[ImageState]:
        assert len({image.shape for image in images}) == 1, "pictures of several buckets"
        self.together.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [self.observe(image) for image in images]

    def bucket(self, size_hw: tuple[int, int]) -> Hashable:
        return None if size_hw[0] == 1 else size_hw


def check_colours(profile: str, labels: Sequence[str | Label]) -> None:
    given = [Label(label) if isinstance(label, str) else label for label in labels]
    unknown = [word for label in given for word in label.prompts if word not in COLOURS]
    if unknown:
        raise UntrainedWords(unknown, tuple(COLOURS))


def colour_source(
    segmenter: ColourSegmenter | None = None,
    *,
    fetch: Callable[[str, Progress], None] = lambda name, progress: None,
    before_load: Callable[[Progress], None] = lambda progress: None,
    details: Mapping[str, Any] | None = None,
) -> ModelSource:
    """A model source that needs no files; `before_load` may wait, tell progress or raise."""
    model = segmenter or ColourSegmenter()

    def load(name: str, progress: Progress) -> ColourSegmenter:
        before_load(progress)
        return model

    return ModelSource(
        profile=lambda: model.identity.profile,
        fetch=fetch,
        identify=lambda name: replace(model.identity),
        load=load,
        describe=lambda _: details or {"device": "cpu", "dtype": "float32", "fallbacks": []},
        check_words=check_colours,
    )
