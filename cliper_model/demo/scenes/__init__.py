"""Storybook scenes with exact masks, drawn from nothing but a random generator."""

import numpy as np

from .canvas import HOURS, PATTERNS, Canvas, Item, Scene, label_table
from .layouts import draw
from .names import LABEL_IDS, LABELS, STUFF, THINGS
from .palette import COLOURS

__all__ = [
    "COLOURS",
    "HOURS",
    "LABELS",
    "LABEL_IDS",
    "PATTERNS",
    "STUFF",
    "THINGS",
    "Item",
    "Scene",
    "label_table",
    "make_scene",
]


def make_scene(
    rng: np.random.Generator, size: int = 192, *, size_hw: tuple[int, int] | None = None
) -> Scene:
    """Draw one scene of `size` x `size` pixels, or of `size_hw`. Same generator, same bytes."""
    canvas = Canvas(rng, size_hw or (size, size))
    draw(canvas)
    return canvas.finish()
