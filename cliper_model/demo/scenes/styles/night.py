"""Lit like at night: dark and bluish, with grain; what shines by itself stays bright."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..canvas import Drawing, shrink
from ..palette import FLAME, GLASS, HEADLIGHT, LAMPLIGHT, Colour
from .noise import smooth_noise
from .storybook import textured

_MOONLIGHT = np.array((0.44, 0.60, 1.0), np.float32)
_WINDOW: Final[Colour] = (255, 205, 105)
_SHINING: Final = ("moon", "star")
_GLARE = 70  # grey levels; many lamps together light no more than that
_SKY_DEPTH = 0.6  # how much darker the sky gets than the ground


def render(drawing: Drawing, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`[H, W, 3]`; the sky darkens towards the top, lamps light what is around them."""
    colours = textured(drawing, rng, named_only=True) / np.float32(255)
    lights = _lights(drawing)
    shining, lit = (
        shrink(lights),
        shrink(np.where(lights.any(-1), np.uint8(255), np.uint8(0))) / 255,
    )
    short_side = min(lit.shape)
    pool = _blurred(shining, short_side * 0.13).clip(0, _GLARE)
    halo = _blurred(shining, short_side * 0.025)
    pixels = 255 * _moonlit(colours, _sky(drawing)) + (colours * 4 + 0.3) * pool + 0.5 * halo
    pixels = pixels.clip(0, 255) * (1 - lit[..., None]) + shining
    return (pixels + _grain(rng, pixels.shape[:2])).clip(0, 255).astype(np.uint8)


def _grain(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """What a camera sees in the dark: grain, part of it coloured, and faint patches."""
    grain = 0.8 * rng.standard_normal((*size_hw, 1)) + rng.standard_normal((*size_hw, 3))
    patches = smooth_noise(rng, size_hw, coarseness=6)[..., None]
    return grain * rng.uniform(3.5, 6) + 1.5 * patches


def _moonlit(colours: NDArray[np.float32], sky: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Colours in [0, 1] as the eye sees them without lamps: bluish, hardly coloured."""
    grey = colours.mean(-1, keepdims=True)
    exposure = np.clip(0.36 / (grey[~sky].mean() if (~sky).any() else 0.5), 0.4, 1.4)
    coloured = np.where(sky[..., None], 0.3, 0.55)
    seen = (grey + coloured * (colours - grey)) * _MOONLIGHT * exposure
    height = np.linspace(_SKY_DEPTH, 1.0, len(colours), dtype=np.float32)[:, None, None]
    night: NDArray[np.float32] = np.where(sky[..., None], seen * _SKY_DEPTH * height, seen)
    return night


def _sky(drawing: Drawing) -> NDArray[np.bool_]:
    numbers = [k for k, item in enumerate(drawing.items, 1) if item.label == "sky"]
    return np.isin(drawing.instances, numbers)


def _lights(drawing: Drawing) -> NDArray[np.uint8]:
    """What shines by itself in its colour, the rest black, as fine as the drawing."""
    shining = np.zeros_like(drawing.colours)
    by_itself = [k for k, item in enumerate(drawing.items, 1) if item.label in _SHINING]
    whole = np.isin(drawing.numbers, by_itself)
    shining[whole] = drawing.colours[whole]
    lit: dict[Colour, Colour] = {
        GLASS: _WINDOW, LAMPLIGHT: LAMPLIGHT, HEADLIGHT: HEADLIGHT, FLAME: FLAME
    }  # fmt: skip
    for drawn, light in lit.items():
        shining[(drawing.colours == drawn).all(-1)] = light
    return shining


def _blurred(pixels: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    picture = Image.fromarray(pixels.astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))).astype(np.float32)
