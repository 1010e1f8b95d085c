"""Scenes with exact masks, in several styles, drawn from nothing but a random generator."""

import numpy as np

from ...errors import UnknownStyle
from . import styles
from .canvas import HOURS, PATTERNS, Canvas, Item, Scene, label_table
from .names import LABEL_IDS, LABELS, STUFF, THINGS
from .palette import COLOURS
from .styles import STYLES

__all__ = [
    "COLOURS",
    "HOURS",
    "LABELS",
    "LABEL_IDS",
    "PATTERNS",
    "STUFF",
    "STYLES",
    "THINGS",
    "Item",
    "Scene",
    "UnknownStyle",
    "label_table",
    "make_scene",
]


def make_scene(
    rng: np.random.Generator,
    size: int = 192,
    *,
    size_hw: tuple[int, int] | None = None,
    style: str = "storybook",
) -> Scene:
    """Draw one scene of `size` x `size` pixels, or of `size_hw`. Same generator, same bytes.

    Every style but "aerial" keeps the masks and items that a generator has in the storybook.
    Raises `UnknownStyle`.
    """
    chosen = styles.named(style)
    canvas = Canvas(rng, size_hw or (size, size), bands=chosen.bands)
    chosen.draw(canvas)
    drawing = canvas.drawing()
    return Scene(chosen.render(drawing, rng), drawing.instances, drawing.items)
