"""Drawn scenes to try words on: held out from the training of the demo weights."""

import io
from typing import Final

import numpy as np
from PIL import Image

from cliper_model.demo.scenes import make_scene

from ..errors import BadRequest

COUNT = 12
SIZE = 384  # pixels of each side
SEED = 0x91A9  # no seed of the training, nor of a test
WORDS: Final = {  # to begin with, and the colours of their masks
    "sky": "#3b9cf2",
    "grass": "#6abf4b",
    "sea": "#2456c9",
    "sand": "#e8b23a",
    "house": "#e0475b",
    "tree": "#117a45",
    "sun": "#ffd60a",
    "cloud": "#9a86e8",
    "boat": "#8a4a22",
    "car": "#c026d3",
}


def png(number: int) -> bytes:
    """Scene `number` from 0, as a PNG file. Raises BadRequest."""
    if not 0 <= number < COUNT:
        raise BadRequest(f"scenes are numbered from 0 to {COUNT - 1}, got {number}")
    scene = make_scene(np.random.default_rng([SEED, number]), SIZE)
    file = io.BytesIO()
    Image.fromarray(scene.image).save(file, "PNG")
    return file.getvalue()


def name(number: int) -> str:
    return f"scene-{number:02d}.png"
