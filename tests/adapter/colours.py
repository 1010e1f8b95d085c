"""A model whose words are colours: exact masks, no network, nothing to load."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageColor

from backend.model_host import ModelSource
from cliper_model.segmenter import (
    Decision,
    Identity,
    ImageState,
    Label,
    Scores,
    Segmentation,
    Vocabulary,
)

IDENTITY = Identity(method="colours", revision=1, profile="test", weights={"paint": "0" * 64})


@dataclass(frozen=True)
class Pixels(ImageState):
    image: np.ndarray


class Colours:
    """Finds every label whose first word names a colour of the picture, exactly."""

    identity = IDENTITY

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        seen = [label if isinstance(label, Label) else Label(label) for label in labels]
        rows = [ImageColor.getrgb(label.prompts[0]) for label in seen]
        return Vocabulary(
            labels=tuple(label.name for label in seen),
            preset=preset or "objects",
            rows=torch.tensor(rows, dtype=torch.float32),
            row_class=tuple(range(len(seen))),
            mean_row=None,
        )

    def observe(self, image: np.ndarray) -> Pixels:
        return Pixels((image.shape[0], image.shape[1]), image)

    def score(self, state: Pixels, vocabulary: Vocabulary) -> Scores:
        wanted = vocabulary.rows.numpy()[:, None, None]
        maps = (state.image[None] == wanted).all(-1).astype(np.float32)
        presence = maps.max(axis=(1, 2))
        return Scores(
            labels=vocabulary.labels,
            maps=maps,
            strength=presence,
            presence=presence,
            size_hw=state.size_hw,
        )

    def decision(self, preset: str) -> Decision:
        return Decision(background_threshold=0.5)

    def segment(self, image: np.ndarray, labels: Sequence[str | Label]) -> Segmentation:
        raise NotImplementedError("the service calls the steps")


def source() -> ModelSource:
    return ModelSource(
        profile=lambda: "test",
        fetch=lambda profile, progress: None,
        identify=lambda profile: IDENTITY,
        load=lambda profile, progress: Colours(),
        describe=lambda segmenter: {},
        check_words=lambda profile, labels: None,
    )


def picture(**boxes: tuple[int, int, int, int]) -> str:
    """A grey 40 x 30 picture with (left, top, right, bottom) boxes of colours, as an address."""
    pixels = np.full((30, 40, 3), 120, np.uint8)
    for colour, (left, top, right, bottom) in boxes.items():
        pixels[top:bottom, left:right] = ImageColor.getrgb(colour)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def config(*labels: str) -> str:
    lines = "".join(f'<Label value="{label}"/>' for label in labels)
    return (
        '<View><Image name="photo" value="$image"/>'
        f'<BrushLabels name="masks" toName="photo">{lines}</BrushLabels></View>'
    )
