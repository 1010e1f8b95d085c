"""A pencil drawing: outlines where items or colours meet, hatching by darkness, on paper."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..canvas import SUPERSAMPLING, Drawing, shrink
from ..names import THINGS
from .noise import smooth_noise
from .storybook import textured

_PAPER = np.array((248, 245, 237), np.float32)
_GRAPHITE = np.array((52, 52, 58), np.float32)
_LAYERS: Final = ((0.2, 0.0), (0.55, 1.0), (0.75, 2.0))
"""Hatching: from which darkness on, and how far turned, in radians."""
_SPACING = 2.7  # pixels of the picture between two strokes
_STROKE = 26.0  # pixels of the picture, about the length of one stroke
_BARE = 2  # pixels of the picture left white around things
_STEP = 24  # grey levels between two colours that get an outline


def render(drawing: Drawing, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`[H, W, 3]`, greys on warm paper."""
    size_hw = (drawing.numbers.shape[0], drawing.numbers.shape[1])
    darkness = _darkness(drawing, rng)
    slant = rng.normal(0.7, 0.35, 256)[drawing.numbers]  # every item has its own
    hatching: NDArray[np.float64] = np.zeros(size_hw)
    for begin, turn in _LAYERS:
        amount = np.clip((darkness - begin) / 0.45, 0, 1)
        hatching = np.maximum(hatching, _strokes(rng, slant + turn, amount))
    ground = _of_grounds(drawing)
    bare = ground & _near(~ground, _BARE * SUPERSAMPLING)  # so that things stand out
    shading = np.where(bare, 0, np.where(ground, 0.5, 0.8) * hatching + 0.14 * darkness)
    pressure = np.clip(0.9 + 0.14 * smooth_noise(rng, size_hw, coarseness=10), 0.5, 1.1)
    ink = np.maximum(shading * pressure, _outlines(drawing))
    ink = shrink(np.clip(255 * ink, 0, 255).astype(np.uint8)) / 255
    small_hw = (ink.shape[0], ink.shape[1])
    paper = rng.standard_normal(small_hw) + smooth_noise(rng, small_hw, coarseness=2)
    ink = np.clip(ink * (1 + 0.12 * paper), 0, 1)[..., None]
    pixels = _PAPER * (1 - ink) + _GRAPHITE * ink + 1.6 * paper[..., None]
    return pixels.clip(0, 255).astype(np.uint8)


def _darkness(drawing: Drawing, rng: np.random.Generator) -> NDArray[np.float64]:
    """0 white to 1 black, stripes and dots included, as fine as the drawing, `[h, w]`."""
    pixels = textured(drawing, rng, named_only=True).clip(0, 255)
    small = 1 - (pixels @ np.array((0.3, 0.59, 0.11))) / 255
    return small.repeat(SUPERSAMPLING, axis=0).repeat(SUPERSAMPLING, axis=1)


def _of_grounds(drawing: Drawing) -> NDArray[np.bool_]:
    """Where no thing is, `[h, w]`."""
    things = [k for k, item in enumerate(drawing.items, 1) if item.label in THINGS]
    return ~np.isin(drawing.numbers, things)


def _near(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The mask, grown by `distance` pixels."""
    picture = Image.fromarray(np.uint8(mask)).filter(ImageFilter.MaxFilter(2 * distance + 1))
    return np.asarray(picture) > 0


def _outlines(drawing: Drawing) -> NDArray[np.float64]:
    """1 along items, less along colours inside of one, `[h, w]`."""
    colours = drawing.colours.astype(np.int16)
    ink = np.zeros(drawing.numbers.shape)
    for axis in (0, 1):
        items = np.diff(drawing.numbers.astype(np.int16), axis=axis) != 0
        inner = np.abs(np.diff(colours, axis=axis)).max(-1) > _STEP
        edge = np.maximum(0.95 * items, 0.6 * inner)
        before = tuple(slice(None, -1) if a == axis else slice(None) for a in (0, 1))
        after = tuple(slice(1, None) if a == axis else slice(None) for a in (0, 1))
        ink[before] = np.maximum(ink[before], edge)
        ink[after] = np.maximum(ink[after], edge)
    return ink


def _strokes(
    rng: np.random.Generator, angle: NDArray[np.float64], amount: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Strokes at an angle per pixel, broader and darker with `amount`; values in [0, 1]."""
    height, width = angle.shape
    y, x = np.mgrid[0:height, 0:width]
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    wobble = smooth_noise(rng, (height, width), coarseness=24)
    row = across / (_SPACING * SUPERSAMPLING) + 0.14 * wobble
    begins = np.sin(np.floor(row) * 12.9898) * 43758.5453 % 1  # every stroke elsewhere
    along_stroke = (along / (_STROKE * SUPERSAMPLING) + begins) % 1
    lifted = np.clip(np.minimum(along_stroke, 1 - along_stroke) / 0.07, 0.1, 1)
    wave = 0.5 + 0.5 * np.cos(2 * math.pi * (row % 1 - 0.5))
    drawn = np.clip((wave - 0.72 + 0.5 * amount) * 3, 0, 1)
    return np.where(amount > 0, drawn * lifted * (0.4 + 0.6 * amount), 0.0)
