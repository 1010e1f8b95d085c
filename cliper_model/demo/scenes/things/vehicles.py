"""What carries people: on the road, on water and in the air."""

import numpy as np

from ..palette import COLOURS, FLAME, GLASS, HEADLIGHT, INK, Colour, jitter, shade
from ..pen import Pen

_HUB: Colour = (180, 180, 185)


def _wheels(
    pen: Pen, xs: tuple[float, float], y: float, tyre: tuple[float, float], hub: tuple[float, float]
) -> None:
    for x in xs:
        pen.ellipse(x, y, *tyre, INK)
        pen.ellipse(x, y, *hub, _HUB)


def car(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    if rng.random() < 0.5:  # a saloon
        pen.polygon([(0.22, 0.45), (0.34, 0.08), (0.68, 0.08), (0.82, 0.45)], colour)
        pen.polygon([(0.3, 0.43), (0.38, 0.16), (0.49, 0.16), (0.49, 0.43)], GLASS)
        pen.polygon([(0.53, 0.16), (0.65, 0.16), (0.74, 0.43), (0.53, 0.43)], GLASS)
    else:  # an estate
        pen.polygon([(0.08, 0.45), (0.1, 0.1), (0.66, 0.1), (0.82, 0.45)], colour)
        pen.box(0.16, 0.18, 0.36, 0.42, GLASS)
        pen.polygon([(0.42, 0.18), (0.63, 0.18), (0.73, 0.42), (0.42, 0.42)], GLASS)
    body = [(0, 0.5), (0.08, 0.4), (0.9, 0.4), (1, 0.55), (1, 0.78), (0, 0.78)]
    pen.polygon(body, colour)
    pen.box(0.93, 0.5, 1, 0.6, HEADLIGHT)
    _wheels(pen, (0.24, 0.77), 0.78, (0.12, 0.22), (0.055, 0.1))


def bus(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.box(0, 0.05, 1, 0.85, colour)
    pen.box(0, 0.58, 1, 0.64, shade(colour, 0.7))
    windows = int(rng.integers(3, 6))
    for i in range(windows):
        left = 0.05 + i * 0.92 / windows
        pen.box(left, 0.16, left + 0.7 / windows, 0.48, GLASS)
    _wheels(pen, (0.2, 0.8), 0.86, (0.09, 0.15), (0.04, 0.07))


def boat(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    if rng.random() < 0.65:  # sails
        pen.line(0.5, 0.02, 0.5, 0.75, 0.035, (100, 70, 45))
        sail = jitter(rng, COLOURS[rng.choice(["white", "red", "yellow", "orange", "white"])], 12)
        pen.polygon([(0.53, 0.05), (0.53, 0.66), (0.93, 0.66)], sail)
        pen.polygon([(0.47, 0.16), (0.47, 0.66), (0.16, 0.66)], shade(sail, 0.93))
    else:  # a cabin and a funnel
        pen.box(0.25, 0.45, 0.7, 0.75, (240, 240, 240))
        for x in (0.36, 0.58):
            pen.ellipse(x, 0.58, 0.05, 0.06, GLASS)
        pen.box(0.42, 0.12, 0.54, 0.45, shade(colour, 0.8))
    pen.polygon([(0.02, 0.7), (0.98, 0.7), (0.82, 1), (0.18, 1)], colour)


def plane(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.polygon([(0.8, 0.45), (0.92, 0.05), (1, 0.05), (0.97, 0.5)], shade(colour, 0.8))
    pen.ellipse(0.5, 0.52, 0.5, 0.17, colour)
    pen.polygon([(0.4, 0.55), (0.6, 0.55), (0.78, 0.98), (0.64, 0.98)], shade(colour, 0.75))
    pen.polygon([(0.45, 0.42), (0.6, 0.42), (0.68, 0.15), (0.6, 0.15)], shade(colour, 0.8))
    for i in range(5):
        pen.ellipse(0.25 + i * 0.11, 0.47, 0.025, 0.035, GLASS)
    pen.ellipse(0.07, 0.47, 0.05, 0.06, GLASS)


def rocket(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    hull = [(0.5, 0), (0.72, 0.25), (0.72, 0.75), (0.28, 0.75), (0.28, 0.25)]
    pen.polygon(hull, (235, 235, 240))
    pen.polygon([(0.5, 0), (0.72, 0.27), (0.28, 0.27)], colour)
    pen.polygon([(0.28, 0.55), (0.05, 0.85), (0.28, 0.78)], colour)
    pen.polygon([(0.72, 0.55), (0.95, 0.85), (0.72, 0.78)], colour)
    pen.ellipse(0.5, 0.42, 0.11, 0.08, (100, 170, 230))
    if rng.random() < 0.7:  # the flame
        pen.polygon([(0.34, 0.76), (0.66, 0.76), (0.5, 1.0)], FLAME)


def balloon(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.polygon([(0.12, 0.45), (0.88, 0.45), (0.6, 0.8), (0.4, 0.8)], colour)
    pen.ellipse(0.5, 0.36, 0.43, 0.35, colour)
    if rng.random() < 0.7:  # a stripe down the middle
        stripe = jitter(rng, COLOURS[rng.choice(["white", "yellow", "red", "blue"])], 10)
        pen.ellipse(0.5, 0.36, 0.17, 0.35, stripe)
        pen.polygon([(0.34, 0.45), (0.66, 0.45), (0.55, 0.8), (0.45, 0.8)], stripe)
    pen.line(0.42, 0.79, 0.44, 0.9, 0.02, INK)
    pen.line(0.58, 0.79, 0.56, 0.9, 0.02, INK)
    pen.box(0.4, 0.88, 0.6, 1, (140, 95, 50))
