"""The storybook with its hues turned, one turn and one saturation per scene: no grass is green."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..canvas import Drawing
from .storybook import render as storybook

_TURN = (100.0, 270.0)  # degrees; grass lies near 100 and leaves the greens
_SATURATION = (0.6, 1.5)


def render(drawing: Drawing, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`[H, W, 3]`; how light a colour is stays."""
    picture = Image.fromarray(storybook(drawing, rng))
    turn = round(rng.uniform(*_TURN) / 360 * 256)
    hue, saturation, value = np.moveaxis(np.asarray(picture.convert("HSV")).astype(np.int64), -1, 0)
    saturation = (saturation * rng.uniform(*_SATURATION)).clip(0, 255)
    turned = np.stack([(hue + turn) % 256, saturation, value], -1).astype(np.uint8)
    return np.asarray(Image.fromarray(turned, "HSV").convert("RGB"))
