"""Styles: other pictures of the same kind of scenes, for experiments with shifted data.

Masks stay exact in all of them. No style but "storybook" takes part in training, validation or
test of the demo weights. To add one, write its file and one line of the table below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ....errors import UnknownStyle
from .. import layouts
from ..canvas import Canvas, Drawing
from . import aerial, flat, night, palette, pencil, storybook

Render = Callable[[Drawing, np.random.Generator], NDArray[np.uint8]]
"""Makes the picture `[H, W, 3]` of a drawing."""


@dataclass(frozen=True)
class Style:
    """A row of the table."""

    render: Render
    draw: Callable[[Canvas], None] = layouts.draw
    bands: int = 24  # most colours of one gradient


STYLES: Final[dict[str, Style]] = {
    "storybook": Style(storybook.render),
    "flat": Style(flat.render, bands=flat.BANDS),
    "pencil": Style(pencil.render),
    "night": Style(night.render),
    "aerial": Style(aerial.render, draw=aerial.draw),
    "palette": Style(palette.render),
}


def named(name: str) -> Style:
    """The style of that name. Raises `UnknownStyle`."""
    if name not in STYLES:
        raise UnknownStyle(name, tuple(STYLES))
    return STYLES[name]
