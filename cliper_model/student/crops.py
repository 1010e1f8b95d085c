"""Augmented training crops: scale, crop, flip, photometric distortion; seeded (maskclip.md §6).

The same crop is what the teacher sees, so everything stays 8-bit RGB.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image as PilImage

from .labels import IGNORE, UNLABELLED

MEAN_COLOUR: Final = (124, 116, 104)  # the networks' mean: what padding looks like to them
TRIES: Final = 10  # draws of a window before one that is mostly one class is taken after all

Picture = UInt8[np.ndarray, "height width 3"]
Labels = Int[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How a training crop is drawn; the defaults are published."""

    side: int = 512  # pixels
    short_side: int = 512  # pixels of the whole picture at scale 1
    long_side: int = 2048  # pixels; a longer picture is scaled down further
    scales: tuple[float, float] = (0.5, 2.0)
    most_of_one_class: float = 0.75  # share of the labelled pixels of a crop
    flip: float = 0.5  # probability
    photometric: bool = True

    def __post_init__(self) -> None:
        if min(self.side, self.short_side, self.long_side) < 1:
            raise ValueError("side, short_side and long_side must be at least one pixel")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales must be positive and rise, got {self.scales}")


def draw_crop(
    picture: Picture,
    labels: Labels,
    *,
    config: CropConfig,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "side side 3"], Int[np.ndarray, "side side"]]:
    """One square of the scaled picture and its labels; missing pixels are `IGNORE`.

    Same generator, same bytes. Pixels that wait for a pseudo label count as no class, so that
    without annotations the first window drawn is taken.
    """
    scale = float(rng.uniform(*config.scales))
    picture, labels = scaled(picture, labels, scale=scale, config=config)
    top, left = _window(labels, config=config, rng=rng)
    window = np.s_[top : top + config.side, left : left + config.side]
    picture, labels = picture[window], labels[window]
    if rng.random() < config.flip:
        picture, labels = picture[:, ::-1], labels[:, ::-1]
    picture = np.ascontiguousarray(picture)
    if config.photometric:
        picture = distorted(picture, rng=rng)
    return _padded(picture, labels, side=config.side)


def scaled(
    picture: Picture, labels: Labels, *, scale: float, config: CropConfig
) -> tuple[UInt8[np.ndarray, "height2 width2 3"], Int[np.ndarray, "height2 width2"]]:
    """The whole picture at `scale` (bilinear) and its labels (nearest); the ratio is kept."""
    height, width = labels.shape
    short, long = config.short_side * scale, config.long_side * scale
    ratio = min(short / min(height, width), long / max(height, width))
    size_wh = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    if size_wh == (width, height):
        return picture, labels
    image = PilImage.fromarray(picture).resize(size_wh, PilImage.Resampling.BILINEAR)
    rows = np.minimum((np.arange(size_wh[1]) + 0.5) * height / size_wh[1], height - 1)
    columns = np.minimum((np.arange(size_wh[0]) + 0.5) * width / size_wh[0], width - 1)
    return np.asarray(image), labels[rows.astype(np.int64)[:, None], columns.astype(np.int64)]


def distorted(picture: Picture, *, rng: np.random.Generator) -> Picture:
    """Brightness, contrast, saturation and hue, each changed with probability one half.

    Contrast comes before or after the colours, by another coin. Published ranges: brightness
    ±32 of 255, contrast and saturation 0.5 to 1.5, hue ±36 degrees.
    """
    pixels = picture.astype(np.float32)
    if rng.random() < 0.5:
        pixels = np.clip(pixels + rng.uniform(-32, 32), 0, 255)
    contrast = float(rng.uniform(0.5, 1.5)) if rng.random() < 0.5 else 1.0
    first = rng.random() < 0.5
    if first:
        pixels = np.clip(pixels * contrast, 0, 255)
    saturation = float(rng.uniform(0.5, 1.5)) if rng.random() < 0.5 else 1.0
    hue = float(rng.uniform(-36, 36)) if rng.random() < 0.5 else 0.0
    if saturation != 1.0 or hue != 0.0:
        pixels = _recoloured(pixels, saturation=saturation, degrees=hue)
    if not first:
        pixels = np.clip(pixels * contrast, 0, 255)
    return pixels.astype(np.uint8)


def _recoloured(
    pixels: Float[np.ndarray, "height width 3"], *, saturation: float, degrees: float
) -> Float[np.ndarray, "height width 3"]:
    image = PilImage.fromarray(pixels.astype(np.uint8)).convert("HSV")
    hsv = np.asarray(image).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + degrees * 256 / 360) % 256
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 255)
    changed = PilImage.fromarray(hsv.astype(np.uint8), mode="HSV").convert("RGB")
    return np.asarray(changed).astype(np.float32)


def _window(labels: Labels, *, config: CropConfig, rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of a window in which no class has more than its share."""
    height, width = labels.shape
    top = left = 0
    for _ in range(TRIES):
        top = int(rng.integers(0, max(0, height - config.side) + 1))
        left = int(rng.integers(0, max(0, width - config.side) + 1))
        inside = labels[top : top + config.side, left : left + config.side]
        known = inside[(inside != IGNORE) & (inside != UNLABELLED)]
        counts = np.bincount(known.astype(np.int64)) if known.size else np.zeros(1)
        if not known.size or counts.max() < config.most_of_one_class * known.size:
            break
    return top, left


def _padded(
    picture: Picture, labels: Labels, *, side: int
) -> tuple[UInt8[np.ndarray, "side side 3"], Int[np.ndarray, "side side"]]:
    """Zeros after normalisation at the bottom and right, never trained on."""
    height, width = labels.shape
    square = np.empty((side, side, 3), np.uint8)
    square[:] = MEAN_COLOUR
    square[:height, :width] = picture
    filled = np.full((side, side), IGNORE, np.int64)
    filled[:height, :width] = labels
    return square, filled
