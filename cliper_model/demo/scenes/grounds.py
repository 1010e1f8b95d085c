"""Skies, grounds and mountains: everything that fills a band of the picture."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from .canvas import HOURS, Canvas, Point
from .palette import Colour, blend, jitter, shade

GROUNDS: Final[dict[str, tuple[Colour, ...]]] = {
    "grass": ((95, 180, 80), (70, 150, 60), (140, 190, 80), (120, 160, 70)),
    "sand": ((235, 212, 150), (222, 190, 130), (240, 225, 180)),
    "snow": ((240, 245, 252), (225, 234, 245)),
    "road": ((95, 97, 102), (120, 120, 124), (75, 76, 82)),
    "sea": ((50, 120, 190), (40, 150, 180), (70, 160, 210), (30, 90, 150)),
}

Gradient = tuple[Colour, Colour]
DAY_SKIES: Final[tuple[Gradient, ...]] = (
    ((95, 170, 235), (195, 225, 248)),
    ((130, 200, 245), (225, 240, 250)),
    ((250, 170, 110), (252, 220, 160)),
    ((235, 140, 160), (250, 210, 180)),
    ((170, 185, 200), (215, 220, 228)),
    ((120, 140, 220), (230, 200, 225)),
)
NIGHT_SKIES: Final[tuple[Gradient, ...]] = (
    ((18, 22, 58), (50, 60, 110)),
    ((12, 12, 35), (40, 35, 80)),
    ((30, 40, 80), (90, 80, 130)),
)
_ROCK: tuple[Colour, ...] = ((120, 125, 140), (90, 130, 90), (140, 110, 90), (110, 120, 170))

EVERYWHERE: Final[tuple[Point, ...]] = ((0, -0.02), (1, -0.02))
"""The upper edge of a ground that covers the whole picture."""


def gradient(
    canvas: Canvas, item: int, top: float, bottom: float, first: Colour, last: Colour
) -> None:
    """Full-width band from colour `first` to colour `last`."""
    steps = min(24, canvas.bands)
    for i in range(steps):
        y = top + (bottom - top) * i / steps
        strip = [(0.0, y), (1.0, y), (1.0, bottom), (0.0, bottom)]
        canvas.polygon(item, strip, blend(first, last, i / (steps - 1)))


def wavy(rng: np.random.Generator, level: float, height: float) -> list[Point]:
    """A line from left to right around `level`: three sine waves."""
    phases, speeds = rng.uniform(0, 6.28, 3), rng.uniform(0.5, 2.2, 3)
    points, steps = [], 28
    for i in range(steps + 1):
        waves = (math.sin(speeds[j] * 6.28 * i / steps + phases[j]) / (j + 1) for j in range(3))
        points.append((i / steps, level + height * sum(waves) / 1.8))
    return points


def sky(canvas: Canvas, horizon: float, *, night: bool) -> None:
    rng = canvas.rng
    item = canvas.new_item("sky", hour=HOURS[night], textured=0.25)
    skies = NIGHT_SKIES if night else DAY_SKIES
    top, bottom = skies[rng.integers(len(skies))]
    gradient(canvas, item, 0, horizon + 0.2, jitter(rng, top, 14), jitter(rng, bottom, 14))
    if item in canvas.textures:
        texture = canvas.textures[item]
        canvas.textures[item] = replace(
            texture, strength=texture.strength * 0.5, period=texture.period * 1.5
        )


def ground(
    canvas: Canvas,
    label: str,
    edge: Sequence[Point],
    *,
    bottom: float = 1.02,
    night: bool = False,
    open_air: bool = True,
) -> int:
    """A ground below the line `edge`, down to `bottom`. Returns its item number.

    Only in the open air does it have an hour of the day.
    """
    rng = canvas.rng
    colour = jitter(rng, GROUNDS[label][rng.integers(len(GROUNDS[label]))], 14)
    if night:
        colour = shade(colour, 0.6)
    item = canvas.new_item(label, hour=HOURS[night] if open_air else None, textured=0.5)
    if item in canvas.textures:
        texture = canvas.textures[item]
        canvas.textures[item] = replace(texture, strength=texture.strength * 0.6)
    front = shade(colour, rng.uniform(0.72, 0.98))
    top = max(y for _, y in edge)
    canvas.polygon(item, [*edge, (1, bottom), (0, bottom)], colour)
    steps = min(12, canvas.bands)
    for i in range(steps):
        y = top + (bottom - top) * i / steps
        strip = [(0.0, y), (1.0, y), (1.0, bottom), (0.0, bottom)]
        canvas.polygon(item, strip, blend(colour, front, (i + 1) / steps))
    if label == "sea":
        _waves(canvas, item, top, bottom, shade(colour, 1.25))
    if label == "grass":
        _blades(canvas, item, top, bottom, shade(colour, 0.75))
    return item


def _waves(canvas: Canvas, item: int, top: float, bottom: float, colour: Colour) -> None:
    rng = canvas.rng
    for _ in range(int(rng.integers(0, 14))):
        x, y = rng.uniform(0, 1), rng.uniform(top + 0.01, bottom)
        length = rng.uniform(0.03, 0.1)
        dash = [(x, y), (x + length, y), (x + length, y + 0.006), (x, y + 0.006)]
        canvas.polygon(item, dash, colour)


def _blades(canvas: Canvas, item: int, top: float, bottom: float, colour: Colour) -> None:
    rng = canvas.rng
    for _ in range(int(rng.integers(0, 24))):
        x, y = rng.uniform(0, 1), rng.uniform(top + 0.02, bottom)
        canvas.polygon(item, [(x, y), (x + 0.006, y - 0.028), (x + 0.012, y)], colour)


def mountains(canvas: Canvas, horizon: float, *, night: bool) -> None:
    """A few peaks, some with snow, or a range of soft hills."""
    rng = canvas.rng
    colour = jitter(rng, _ROCK[rng.integers(4)], 15)
    if night:
        colour = shade(colour, 0.6)
    item = canvas.new_item("mountain", hour=HOURS[night])
    peaks = int(rng.integers(1, 4))
    if rng.random() >= 0.6:
        ridge = wavy(rng, horizon - 0.1, 0.08)
        canvas.polygon(item, [*ridge, (1, horizon + 0.08), (0, horizon + 0.08)], colour)
        return
    for _ in range(peaks):
        x, half = rng.uniform(0, 1), rng.uniform(0.2, 0.45)
        height = rng.uniform(0.12, 0.36)
        top, foot = horizon - height, horizon + 0.06
        rock = shade(colour, rng.uniform(0.85, 1.1))
        canvas.polygon(item, [(x - half, foot), (x, top), (x + half, foot)], rock)
        if rng.random() < 0.4:
            line = top + 0.22 * (height + 0.06)
            cap = [(x - half * 0.22, line), (x, top), (x + half * 0.22, line)]
            canvas.polygon(item, cap, (240, 244, 250))


def road_markings(canvas: Canvas, item: int, middle: float) -> None:
    """White dashes along a road, at height `middle`."""
    for i in range(int(canvas.rng.integers(3, 6))):
        left, right = i / 5 + 0.03, i / 5 + 0.13
        dash = [(left, middle), (right, middle), (right, middle + 0.015), (left, middle + 0.015)]
        canvas.polygon(item, dash, (240, 235, 200))
