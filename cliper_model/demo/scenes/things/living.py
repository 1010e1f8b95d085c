"""People, animals and plants."""

import math

import numpy as np

from ..palette import COLOURS, INK, Colour, jitter, shade
from ..pen import Pen

_SKIN: tuple[Colour, ...] = ((245, 205, 170), (200, 150, 110), (120, 80, 55))
_HAIR: tuple[Colour, ...] = ((60, 40, 25), (25, 22, 20), (215, 175, 80), (150, 80, 40))
_BEAK: Colour = (240, 160, 40)


def person(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    skin = jitter(rng, _SKIN[rng.integers(3)], 10)
    trousers = jitter(rng, COLOURS[rng.choice(list(COLOURS))])
    hair = jitter(rng, _HAIR[rng.integers(4)], 10)
    dress, pose = rng.random() < 0.4, rng.random()
    if dress:
        pen.box(0.36, 0.75, 0.45, 1, skin)
        pen.box(0.55, 0.75, 0.64, 1, skin)
        pen.polygon([(0.38, 0.3), (0.62, 0.3), (0.85, 0.8), (0.15, 0.8)], colour)
    else:
        pen.box(0.3, 0.6, 0.47, 1, trousers)
        pen.box(0.53, 0.6, 0.7, 1, trousers)
        pen.box(0.28, 0.3, 0.72, 0.65, colour)
    raised, lowered = 0.2, 0.55
    left_hand = raised if pose < 0.3 else lowered
    right_hand = lowered if 0.15 <= pose <= 0.3 else left_hand
    pen.line(0.32, 0.34, 0.06, left_hand, 0.12, skin)
    pen.line(0.68, 0.34, 0.94, right_hand, 0.12, skin)
    if dress:
        pen.ellipse(0.5, 0.18, 0.25, 0.17, hair)
    pen.ellipse(0.5, 0.16, 0.2, 0.13, skin)
    pen.ellipse(0.5, 0.12, 0.2, 0.09, hair, math.pi, 2 * math.pi)
    pen.ellipse(0.43, 0.17, 0.025, 0.014, INK)
    pen.ellipse(0.57, 0.17, 0.025, 0.014, INK)


def dog(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    dark = shade(colour, 0.75)
    pen.line(0.88, 0.5, 1, 0.25, 0.07, colour)
    for x in (0.3, 0.42, 0.7, 0.82):
        pen.box(x, 0.65, x + 0.09, 1, shade(colour, 0.92))
    pen.ellipse(0.6, 0.58, 0.33, 0.2, colour)
    pen.ellipse(0.24, 0.35, 0.2, 0.2, colour)
    pen.ellipse(0.1, 0.42, 0.12, 0.1, shade(colour, 1.12))
    pen.ellipse(0.02, 0.39, 0.03, 0.035, INK)
    pen.ellipse(0.36, 0.36, 0.07, 0.19, dark)
    pen.ellipse(0.2, 0.3, 0.028, 0.033, INK)


def cat(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.line(0.8, 0.85, 0.97, 0.5, 0.08, colour)
    pen.line(0.97, 0.52, 0.88, 0.3, 0.08, colour)
    pen.ellipse(0.55, 0.73, 0.3, 0.28, colour)
    for x in (0.36, 0.62):
        pen.box(x, 0.8, x + 0.1, 1, shade(colour, 0.9))
    pen.polygon([(0.17, 0.32), (0.16, 0.0), (0.4, 0.15)], shade(colour, 0.85))
    pen.polygon([(0.63, 0.32), (0.64, 0.0), (0.4, 0.15)], shade(colour, 0.85))
    pen.ellipse(0.4, 0.34, 0.27, 0.22, colour)
    for x in (0.3, 0.5):
        pen.ellipse(x, 0.31, 0.045, 0.04, (190, 220, 90))
        pen.ellipse(x, 0.31, 0.018, 0.03, INK)
    pen.polygon([(0.37, 0.39), (0.43, 0.39), (0.4, 0.43)], (235, 140, 150))
    for side in (-1, 1):
        for slope in (-0.03, 0.04):
            whisker_end = 0.4 + side * 0.3
            pen.line(0.4 + side * 0.08, 0.42, whisker_end, 0.42 + slope, 0.012, (245, 245, 245))


def fish(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    fin = shade(colour, 0.85)
    pen.polygon([(0.68, 0.5), (1, 0.12), (0.94, 0.5), (1, 0.88)], fin)
    pen.polygon([(0.3, 0.25), (0.5, 0.0), (0.62, 0.25)], fin)
    pen.ellipse(0.4, 0.5, 0.4, 0.36, colour)
    if rng.random() < 0.5:
        for x in (0.36, 0.52):
            pen.box(x, 0.24, x + 0.06, 0.76, shade(colour, 1.25))
    pen.ellipse(0.17, 0.42, 0.055, 0.08, (255, 255, 255))
    pen.ellipse(0.16, 0.42, 0.025, 0.04, INK)


def bird(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    if rng.random() < 0.5:  # sitting
        pen.ellipse(0.5, 0.55, 0.33, 0.26, colour)
        pen.ellipse(0.22, 0.36, 0.17, 0.2, colour)
        pen.polygon([(0.08, 0.33), (-0.0, 0.4), (0.08, 0.45)], _BEAK)
        pen.polygon([(0.75, 0.5), (1, 0.35), (0.98, 0.62)], shade(colour, 0.8))
        pen.polygon([(0.4, 0.5), (0.75, 0.45), (0.6, 0.72)], shade(colour, 0.75))
        pen.ellipse(0.19, 0.33, 0.035, 0.04, INK)
        pen.line(0.45, 0.8, 0.45, 1, 0.04, (200, 140, 50))
        pen.line(0.56, 0.8, 0.56, 1, 0.04, (200, 140, 50))
        return
    pen.ellipse(0.5, 0.6, 0.28, 0.14, colour)
    pen.polygon([(0.4, 0.6), (0.15, 0.05), (0.58, 0.55)], shade(colour, 0.85))
    pen.polygon([(0.5, 0.6), (0.85, 0.1), (0.65, 0.62)], shade(colour, 0.75))
    pen.ellipse(0.24, 0.52, 0.12, 0.13, colour)
    pen.polygon([(0.14, 0.5), (0.02, 0.56), (0.14, 0.6)], _BEAK)
    pen.polygon([(0.74, 0.6), (1, 0.5), (0.97, 0.72)], shade(colour, 0.8))
    pen.ellipse(0.21, 0.49, 0.03, 0.03, INK)


def butterfly(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    for side in (-1, 1):
        pen.ellipse(0.5 + side * 0.25, 0.32, 0.24, 0.28, colour)
        pen.ellipse(0.5 + side * 0.2, 0.72, 0.18, 0.22, shade(colour, 0.8))
        pen.ellipse(0.5 + side * 0.26, 0.32, 0.1, 0.12, shade(colour, 1.3))
    pen.ellipse(0.5, 0.5, 0.045, 0.38, INK)
    pen.line(0.5, 0.15, 0.38, 0.0, 0.02, INK)
    pen.line(0.5, 0.15, 0.62, 0.0, 0.02, INK)


def tree(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    trunk = jitter(rng, (110, 70, 40))
    if rng.random() < 0.45:  # a fir
        pen.box(0.43, 0.75, 0.57, 1, trunk)
        tiers = int(rng.integers(2, 4))
        for i in range(tiers):
            top = i * 0.75 / (tiers + 0.6)
            bottom, reach = top + 0.85 / tiers + 0.12, 0.2 * (i + 1) / tiers
            tip = [(0.5, top), (0.5 + 0.28 + reach, bottom), (0.5 - 0.28 - reach, bottom)]
            pen.polygon(tip, shade(colour, 0.85 + 0.1 * i))
        return
    pen.box(0.42, 0.5, 0.58, 1, trunk)
    if rng.random() < 0.5:
        pen.ellipse(0.5, 0.33, 0.42, 0.33, colour)
    else:
        for x, y, light in ((0.3, 0.4, 0.95), (0.7, 0.4, 0.95), (0.5, 0.22, 1), (0.5, 0.42, 1.03)):
            pen.ellipse(x, y, 0.27, 0.22, shade(colour, light))
    if rng.random() < 0.3:  # apples
        for _ in range(5):
            x, y = rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.5)
            pen.ellipse(x, y, 0.04, 0.035, (210, 40, 40))


def flower(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    green = jitter(rng, (60, 150, 60))
    pen.line(0.5, 0.4, 0.5, 1, 0.06, green)
    pen.ellipse(0.64, 0.76, 0.16, 0.06, green)
    pen.ellipse(0.36, 0.84, 0.16, 0.06, green)
    petals = int(rng.integers(5, 9))
    if rng.random() < 0.75:
        for i in range(petals):
            angle = i * 2 * math.pi / petals
            pen.ellipse(
                0.5 + 0.2 * math.cos(angle), 0.28 + 0.16 * math.sin(angle), 0.15, 0.12, colour
            )
        yellow = colour[2] <= 100 and colour[1] >= 120  # a dark heart shows on yellow petals
        heart = (120, 75, 40) if yellow else jitter(rng, (245, 200, 60))
        pen.ellipse(0.5, 0.28, 0.13, 0.09, heart)
    else:  # a tulip
        cup = [
            (0.25, 0.08), (0.38, 0.2), (0.5, 0.04), (0.62, 0.2), (0.75, 0.08),
            (0.75, 0.35), (0.6, 0.47), (0.4, 0.47), (0.25, 0.35),
        ]  # fmt: skip
        pen.polygon(cup, colour)


def mushroom(pen: Pen, rng: np.random.Generator, colour: Colour) -> None:
    pen.polygon([(0.4, 0.45), (0.6, 0.45), (0.66, 1), (0.34, 1)], (240, 228, 205))
    pen.ellipse(0.5, 0.52, 0.48, 0.5, colour, math.pi, 2 * math.pi)
    for x, y in ((0.3, 0.33), (0.55, 0.18), (0.72, 0.38), (0.48, 0.4)):
        pen.ellipse(x, y, 0.06, 0.06, (250, 245, 240))
