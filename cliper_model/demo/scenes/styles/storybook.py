"""The style of the training: faint textures, unevenness and grain over flat colours."""

import math

import numpy as np
from numpy.typing import NDArray

from ..canvas import Drawing, Texture, shrink
from .noise import smooth_noise


def render(drawing: Drawing, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add textures, unevenness, grain, contrast and brightness, `[H, W, 3]`."""
    pixels = textured(drawing, rng)
    size_hw = (pixels.shape[0], pixels.shape[1])
    pixels += smooth_noise(rng, size_hw, coarseness=8)[..., None] * rng.uniform(0, 5)
    pixels += rng.standard_normal(pixels.shape).astype(np.float32) * rng.uniform(0, 6)
    pixels = (pixels - 128) * rng.uniform(0.85, 1.1) + 128 + rng.uniform(-14, 14)
    return pixels.clip(0, 255).astype(np.uint8)


def textured(
    drawing: Drawing, rng: np.random.Generator, *, named_only: bool = False
) -> NDArray[np.float32]:
    """The colours with the texture of every item, or of those whose texture has a name.

    Grey levels, `[H, W, 3]`.
    """
    pixels, instances = shrink(drawing.colours), drawing.instances
    for item, texture in drawing.textures.items():
        if named_only and drawing.items[item - 1].pattern is None:
            continue
        inside = instances == item
        if inside.any():
            pixels += (_pattern(rng, texture, inside) * inside * texture.strength)[..., None]
    return pixels


def _pattern(
    rng: np.random.Generator, texture: Texture, inside: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Values of about [-1, 1] over the whole canvas, `[H, W]`."""
    height, width = inside.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = x * math.cos(texture.angle) + y * math.sin(texture.angle)
    if texture.kind == 0:
        return np.asarray(np.sign(np.sin(along * 2 * math.pi / (texture.period * 2))))
    if texture.kind == 1:
        wave = np.sin(x * math.pi / texture.period) * np.sin(y * math.pi / texture.period)
        return (wave > 0.45) * 2.0 - 0.7
    if texture.kind == 2:
        return smooth_noise(rng, (height, width), coarseness=4)
    return (along - along[inside].min()) / (np.ptp(along[inside]) + 1e-3) * 2 - 1
