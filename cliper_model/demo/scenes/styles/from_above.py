"""Things as they look from above; each points to the right in its unit box."""

import math
from typing import Final

import numpy as np

from ..palette import INK, Colour, shade
from ..pen import Pen
from ..things import TABLE as FROM_THE_SIDE
from ..things import Thing

_WINDSCREEN: Colour = (60, 75, 95)
_WHITE: Colour = (246, 246, 244)
_ROOFS: Final = ("red", "brown", "orange", "gray", "blue")
_LEAVES: Final = ((50, 140, 60), (70, 150, 55), (30, 105, 60), (95, 130, 50), (200, 120, 45))


def tree(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    for k in range(7):
        angle, size = k * 2 * math.pi / 7, rng.uniform(0.19, 0.25)
        x, y = 0.5 + 0.27 * math.cos(angle), 0.5 + 0.27 * math.sin(angle)
        pen.ellipse(x, y, size, size, shade(colour, 0.82))
    pen.ellipse(0.5, 0.5, 0.33, 0.33, colour)
    for _ in range(4):
        x, y = rng.uniform(0.32, 0.62, 2)
        pen.ellipse(x, y, 0.09, 0.09, shade(colour, 1.18))


def house(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    if rng.random() < 0.45:  # a wing
        left = rng.choice([0.08, 0.5])
        pen.box(left, 0.4, left + 0.21, 1.1, shade(colour, 0.86))
        pen.box(left + 0.21, 0.4, left + 0.42, 1.1, shade(colour, 1.08))
    pen.box(0, 0.05, 1, 0.45, shade(colour, 1.1))
    pen.box(0, 0.45, 1, 0.85, shade(colour, 0.78))
    pen.box(0, 0.43, 1, 0.47, shade(colour, 0.6))
    x = rng.uniform(0.15, 0.75)
    pen.box(x, 0.2, x + 0.1, 0.36, shade(colour, 0.45))


def car(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    for x in (0.16, 0.7):
        pen.box(x, 0.0, x + 0.16, 1.0, INK)
    pen.box(0.04, 0.07, 0.93, 0.93, colour)
    pen.ellipse(0.93, 0.5, 0.07, 0.42, colour)
    pen.polygon([(0.72, 0.1), (0.72, 0.9), (0.6, 0.8), (0.6, 0.2)], _WINDSCREEN)
    pen.polygon([(0.14, 0.14), (0.14, 0.86), (0.24, 0.78), (0.24, 0.22)], _WINDSCREEN)
    pen.box(0.28, 0.16, 0.56, 0.84, shade(colour, 1.2))


def bus(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.box(0, 0.02, 1, 0.98, colour)
    pen.box(0.03, 0.14, 0.9, 0.86, shade(colour, 1.2))
    pen.box(0.93, 0.1, 0.985, 0.9, _WINDSCREEN)
    for x in (0.14, 0.42, 0.7):
        pen.box(x, 0.34, x + 0.12, 0.66, shade(colour, 0.65))


def boat(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.polygon([(0, 0.14), (0.55, 0.05), (1, 0.5), (0.55, 0.95), (0, 0.86)], colour)
    pen.polygon(
        [(0.06, 0.26), (0.53, 0.19), (0.86, 0.5), (0.53, 0.81), (0.06, 0.74)], (206, 170, 122)
    )
    if rng.random() < 0.5:  # a sail
        pen.polygon([(0.62, 0.5), (0.12, 0.5), (0.2, 1.25)], _WHITE)
    else:  # a cabin
        pen.box(0.16, 0.3, 0.5, 0.7, _WHITE)
        pen.box(0.42, 0.34, 0.5, 0.66, _WINDSCREEN)


def tent(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.polygon([(0, 0), (1, 0), (0.8, 0.5), (0.2, 0.5)], shade(colour, 1.15))
    pen.polygon([(0, 1), (1, 1), (0.8, 0.5), (0.2, 0.5)], shade(colour, 0.75))
    pen.polygon([(0, 0), (0.2, 0.5), (0, 1)], shade(colour, 0.95))
    pen.polygon([(1, 0), (0.8, 0.5), (1, 1)], shade(colour, 0.55))


def umbrella(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    for k in range(8):
        corners = [0.5 + 0.5 * f(a) for a in _ends(k, 8) for f in (math.cos, math.sin)]
        panel = [(0.5, 0.5), (corners[0], corners[1]), (corners[2], corners[3])]
        pen.polygon(panel, _WHITE if k % 2 else colour)
    pen.ellipse(0.5, 0.5, 0.06, 0.06, INK)


def plane(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    for side in (-1, 1):
        wing = [(0.68, 0.5), (0.5, 0.5), (0.28, 0.5 + side * 0.5), (0.4, 0.5 + side * 0.5)]
        pen.polygon(wing, shade(colour, 0.85))
        tail = [(0.18, 0.5), (0.08, 0.5), (0, 0.5 + side * 0.2), (0.08, 0.5 + side * 0.2)]
        pen.polygon(tail, shade(colour, 0.8))
    pen.ellipse(0.5, 0.5, 0.5, 0.075, colour)
    pen.ellipse(0.9, 0.5, 0.04, 0.05, _WINDSCREEN)


def bird(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    for side in (-1, 1):
        tip = (0.3, 0.5 + side * 0.5)
        pen.polygon([(0.72, 0.5), (0.7, 0.5 + side * 0.26), tip, (0.42, 0.5)], shade(colour, 0.9))
        pen.polygon([tip, (0.5, 0.5 + side * 0.38), (0.44, 0.5 + side * 0.36)], INK)
    pen.polygon([(0.3, 0.5), (0.02, 0.36), (0.02, 0.64)], shade(colour, 0.8))
    pen.ellipse(0.55, 0.5, 0.34, 0.11, colour)
    pen.polygon([(0.86, 0.45), (1, 0.5), (0.86, 0.55)], (240, 160, 40))


def cloud(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    for _ in range(9):
        x, y, size = rng.uniform(0.25, 0.75), rng.uniform(0.32, 0.68), rng.uniform(0.16, 0.27)
        pen.ellipse(x, y, size * 0.8, size, shade(colour, rng.uniform(0.96, 1.0)))


def _ends(k: int, count: int) -> tuple[float, float]:
    """Angles where part `k` of a circle begins and ends."""
    return k * 2 * math.pi / count, (k + 1) * 2 * math.pi / count


_PAINT = FROM_THE_SIDE["car"].colours
_BRIGHT = FROM_THE_SIDE["umbrella"].colours
TABLE: Final[dict[str, Thing]] = {
    "tree": Thing(tree, 1.0, (0.07, 0.12), _LEAVES, named=False),
    "house": Thing(house, 1.45, (0.09, 0.13), _ROOFS, named=False),
    "car": Thing(car, 2.0, (0.034, 0.04), _PAINT),
    "bus": Thing(bus, 3.0, (0.042, 0.048), FROM_THE_SIDE["bus"].colours),
    "boat": Thing(boat, 2.1, (0.045, 0.07), FROM_THE_SIDE["boat"].colours),
    "tent": Thing(tent, 1.2, (0.06, 0.09), FROM_THE_SIDE["tent"].colours),
    "umbrella": Thing(umbrella, 1.0, (0.06, 0.09), _BRIGHT),
    "plane": Thing(plane, 1.05, (0.24, 0.36), FROM_THE_SIDE["plane"].colours),
    "bird": Thing(bird, 0.8, (0.08, 0.13), ("white", "white", "gray", "brown")),
    "cloud": Thing(cloud, 1.5, (0.2, 0.34), FROM_THE_SIDE["cloud"].colours[:2], named=False),
}
