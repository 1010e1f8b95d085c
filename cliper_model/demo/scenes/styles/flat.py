"""A poster: clear colours in few bands, nothing uneven; stripes and dots stay, they have names."""

import numpy as np
from numpy.typing import NDArray

from ..canvas import Drawing
from .storybook import textured

BANDS = 3  # colours of one gradient
_VIVID = 1.35  # distance from grey
_CONTRAST = 1.12


def render(drawing: Drawing, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Nothing random but what was drawn, `[H, W, 3]`."""
    pixels = textured(drawing, rng, named_only=True)
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * _VIVID
    return ((pixels - 128) * _CONTRAST + 128).clip(0, 255).astype(np.uint8)
