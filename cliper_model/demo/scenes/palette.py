"""Colours of the storybook scenes, and two ways to vary one."""

from typing import Final

import numpy as np

Colour = tuple[int, int, int]  # RGB, 0 to 255
"""One flat colour."""

COLOURS: Final[dict[str, Colour]] = {
    "red": (214, 40, 40),
    "orange": (243, 140, 40),
    "yellow": (246, 214, 60),
    "green": (60, 160, 70),
    "blue": (50, 100, 210),
    "purple": (140, 70, 180),
    "pink": (240, 140, 180),
    "brown": (130, 85, 50),
    "white": (242, 242, 240),
    "black": (40, 40, 44),
    "gray": (135, 138, 142),
}
"""Colour words a caption may use, and what they look like."""

INK: Final[Colour] = (35, 35, 40)
GLASS: Final[Colour] = (190, 225, 245)
LAMPLIGHT: Final[Colour] = (252, 235, 150)
HEADLIGHT: Final[Colour] = (250, 235, 150)
FLAME: Final[Colour] = (250, 170, 50)


def jitter(rng: np.random.Generator, colour: Colour, amount: float = 22) -> Colour:
    """Move every channel by up to `amount`, independently."""
    red, green, blue = (int(min(255, max(0, v + rng.uniform(-amount, amount)))) for v in colour)
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (`factor` < 1) or lighten a colour."""
    red, green, blue = (int(min(255, max(0, v * factor))) for v in colour)
    return red, green, blue


def blend(first: Colour, second: Colour, amount: float) -> Colour:
    """`first` at amount 0, `second` at amount 1."""
    pairs = zip(first, second, strict=True)
    red, green, blue = (int(a * (1 - amount) + b * amount) for a, b in pairs)
    return red, green, blue
