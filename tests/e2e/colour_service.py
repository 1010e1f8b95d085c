"""The real service, under the real server, around a model whose words are names of colours.

Meaning is exact and costs nothing, so that tests of the protocol are fast and sharp.
Run it with `python -m tests.e2e.colour_service`; settings come from the environment.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flask import Flask
from gunicorn.app.base import BaseApplication
from PIL import ImageColor

from backend.app import create_app
from backend.cli.serve import gunicorn_options, listen
from backend.model_host import ModelSource
from backend.settings import Settings
from backend.wiring import build
from cliper_model.errors import EmptyVocabulary
from cliper_model.segmenter import (
    Decision,
    Identity,
    ImageState,
    Label,
    Scores,
    Segmentation,
    Vocabulary,
)
from cliper_model.stages.decide import decide

LIKE = 60  # sum of absolute differences below which two colours are the same
IDENTITY = Identity(method="colours", revision=1, profile="colours")


@dataclass(frozen=True)
class Seen(ImageState):
    """The picture itself, [H, W, 3]."""

    image: np.ndarray


class ColourSegmenter:
    """A label is where the picture has the colour its words name."""

    identity = IDENTITY

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        given = [label if isinstance(label, Label) else Label(label) for label in labels]
        sought = [label for label in given if not label.is_rest]
        if not sought:
            raise EmptyVocabulary
        rows = [(index, word) for index, label in enumerate(sought) for word in label.prompts]
        colours = [ImageColor.getrgb(word)[:3] for _, word in rows]
        return Vocabulary(
            labels=tuple(label.name for label in sought),
            preset=preset or "objects",
            rows=torch.tensor(colours, dtype=torch.float32),
            row_class=tuple(index for index, _ in rows),
            mean_row=None,
        )

    def observe(self, image: np.ndarray) -> Seen:
        return Seen(size_hw=image.shape[:2], image=image)

    def score(self, state: Seen, vocabulary: Vocabulary) -> Scores:
        maps = np.zeros((len(vocabulary.labels), *state.size_hw), np.float32)
        for colour, label in zip(vocabulary.rows.numpy(), vocabulary.row_class, strict=True):
            same = np.abs(state.image - colour).sum(axis=2) < LIKE
            maps[label] = np.maximum(maps[label], same)
        found = maps.max(axis=(1, 2))
        return Scores(
            labels=vocabulary.labels,
            maps=maps,
            strength=found,
            presence=found,
            size_hw=state.size_hw,
        )

    def decision(self, preset: str) -> Decision:
        return Decision()

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
        return decide(self.score(self.observe(image), vocabulary), decision or Decision())


COLOURS = ModelSource(
    profile=lambda: "colours",
    fetch=lambda profile, progress: None,
    identify=lambda profile: IDENTITY,
    load=lambda profile, progress: ColourSegmenter(),
    describe=lambda segmenter: {},
    check_words=lambda profile, labels: None,
)


def colour_app(settings: Settings) -> Flask:
    services = build(settings, source=COLOURS)
    services.start()
    return create_app(services)


def main() -> None:
    settings = Settings.from_environ(os.environ)
    logging.basicConfig(level=settings.log_level)
    with listen(settings.host, settings.port) as listener:

        class Server(BaseApplication):
            def load_config(self) -> None:
                for name, value in gunicorn_options(settings, listener.fileno()).items():
                    if name in self.cfg.settings:
                        self.cfg.set(name, value)

            def load(self) -> Any:
                return colour_app(settings)

        Server().run()


if __name__ == "__main__":
    main()
