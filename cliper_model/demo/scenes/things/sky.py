"""What hangs in the sky."""

import math

import numpy as np

from ..palette import Colour, shade
from ..pen import Pen, star_points

_RAINBOW: tuple[Colour, ...] = (
    (225, 50, 50),
    (245, 150, 50),
    (245, 220, 70),
    (80, 180, 80),
    (70, 110, 220),
    (140, 80, 190),
)


def sun(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    if rng.random() < 0.6:
        pen.polygon(star_points(int(rng.integers(8, 14)), 0.5, 0.33), shade(colour, 0.97))
    pen.ellipse(0.5, 0.5, 0.33, 0.33, colour)


def moon(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    if rng.random() < 0.65:  # a crescent
        depth = rng.uniform(0.12, 0.3)
        outer, inner = np.linspace(0, math.pi, 22), np.linspace(math.pi, 0, 22)
        back = [(0.5 - 0.45 * math.sin(t), 0.5 - 0.45 * math.cos(t)) for t in outer]
        front = [(0.5 - depth * math.sin(t) * 0.9, 0.5 - 0.45 * math.cos(t)) for t in inner]
        pen.polygon(back + front, colour)
        return
    pen.ellipse(0.5, 0.5, 0.45, 0.45, colour)
    for _ in range(3):
        x, y = rng.uniform(0.3, 0.7, 2)
        pen.ellipse(x, y, 0.07, 0.07, shade(colour, 0.88))


def cloud(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    puffs = int(rng.integers(3, 6))
    for i in range(puffs):
        y = 0.55 + rng.uniform(-0.12, 0.1)
        height = 0.3 + rng.uniform(-0.04, 0.12)
        white = shade(colour, rng.uniform(0.96, 1.0))
        pen.ellipse((i + 0.7) / (puffs + 0.4), y, 0.24, height, white)
    pen.box(0.15, 0.6, 0.85, 0.88, colour)


def star(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.polygon(star_points(5, 0.5, rng.uniform(0.18, 0.24)), colour)


def rainbow(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    there, back = np.linspace(0, math.pi, 30), np.linspace(math.pi, 0, 30)
    for i, band in enumerate(_RAINBOW):
        outer, inner = 0.5 - i * 0.045, 0.5 - (i + 1) * 0.045
        upper = [(0.5 - outer * math.cos(t), 1 - 2 * outer * math.sin(t)) for t in there]
        lower = [(0.5 - inner * math.cos(t), 1 - 2 * inner * math.sin(t)) for t in back]
        pen.polygon(upper + lower, band)
