"""What people build and leave standing about."""

import math

import numpy as np

from ..palette import COLOURS, GLASS, INK, LAMPLIGHT, Colour, jitter, shade
from ..pen import Pen

_ROOFS = ["red", "brown", "gray", "blue", "purple", "orange"]


def house(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    roof = jitter(rng, COLOURS[rng.choice(_ROOFS)])
    hipped = rng.random() < 0.3
    if rng.random() < 0.5:
        pen.box(0.72, 0.05, 0.84, 0.35, shade(roof, 0.7))  # chimney
    pen.box(0.1, 0.42, 0.9, 1, colour)
    ridge = [(0.2, 0.1), (0.8, 0.1)] if hipped else [(0.5, 0.0)]
    pen.polygon([(0, 0.45), *ridge, (1, 0.45)], roof)
    door = rng.choice([0.2, 0.42, 0.64])
    pen.box(door, 0.66, door + 0.17, 1, jitter(rng, (110, 65, 35)))
    for x in (0.18, 0.43, 0.66):
        if abs(x - door) > 0.12:
            pen.box(x, 0.55, x + 0.15, 0.75, GLASS)
            pen.line(x + 0.075, 0.55, x + 0.075, 0.75, 0.02, shade(colour, 0.6))


def lamp(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.box(0.44, 0.2, 0.56, 1, shade(colour, 0.7))
    pen.box(0.3, 0.94, 0.7, 1, shade(colour, 0.6))
    pen.polygon([(0.2, 0.05), (0.8, 0.05), (0.66, 0.24), (0.34, 0.24)], LAMPLIGHT)
    pen.polygon([(0.12, 0.06), (0.5, -0.02), (0.88, 0.06)], shade(colour, 0.6))


def snowman(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    white, wood = (245, 247, 252), (100, 70, 40)
    pen.ellipse(0.5, 0.8, 0.36, 0.2, shade(white, 0.95))
    pen.ellipse(0.5, 0.5, 0.27, 0.17, shade(white, 0.97))
    pen.ellipse(0.5, 0.26, 0.19, 0.13, white)
    pen.box(0.3, 0.12, 0.7, 0.16, INK)
    pen.box(0.36, 0.0, 0.64, 0.13, INK)
    pen.polygon([(0.5, 0.26), (0.5, 0.3), (0.75, 0.3)], (240, 130, 40))
    pen.ellipse(0.43, 0.23, 0.025, 0.015, INK)
    pen.ellipse(0.57, 0.23, 0.025, 0.015, INK)
    pen.box(0.3, 0.355, 0.7, 0.41, colour)  # scarf
    pen.box(0.6, 0.36, 0.69, 0.52, colour)
    pen.line(0.25, 0.5, 0.0, 0.36, 0.03, wood)
    pen.line(0.75, 0.5, 1, 0.36, 0.03, wood)


def tent(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.polygon([(0.5, 0), (1, 1), (0, 1)], colour)
    pen.polygon([(0.5, 0), (1, 1), (0.72, 1)], shade(colour, 0.8))
    pen.polygon([(0.5, 0.3), (0.62, 1), (0.36, 1)], shade(colour, 0.45))


def umbrella(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    wood = (110, 80, 55)
    pen.line(0.5, 0.1, 0.5, 0.95, 0.04, wood)
    pen.ellipse(0.42, 0.94, 0.1, 0.05, wood, 0, math.pi)
    pen.ellipse(0.5, 0.5, 0.5, 0.47, colour, math.pi, 2 * math.pi)
    panel = shade(colour, 0.75) if rng.random() < 0.5 else (245, 245, 240)
    pen.ellipse(0.5, 0.5, 0.2, 0.46, panel, math.pi, 2 * math.pi)


def ball(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    white = (245, 245, 242)
    pen.ellipse(0.5, 0.5, 0.48, 0.48, colour)
    kind = rng.random()
    if kind < 0.5:  # a beach ball
        for turn in (0, 2.1, 4.2):
            angles = [turn + a for a in np.linspace(0, math.pi / 3, 8)]
            rim = [(0.5 + 0.48 * math.cos(a), 0.5 + 0.48 * math.sin(a)) for a in angles]
            pen.polygon([(0.5, 0.5), *rim], white)
    elif kind < 0.8:  # one stripe
        pen.polygon([(0.05, 0.4), (0.95, 0.4), (0.95, 0.6), (0.05, 0.6)], white)


def fence(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pickets = int(rng.integers(4, 8))
    pen.box(0, 0.35, 1, 0.47, shade(colour, 0.85))
    pen.box(0, 0.7, 1, 0.82, shade(colour, 0.85))
    for i in range(pickets):
        x, width = (i + 0.2) / pickets, 0.55 / pickets
        tip = [(x, 0.12), (x + width / 2, 0), (x + width, 0.12)]
        pen.polygon([*tip, (x + width, 1), (x, 1)], colour)
