"""Smooth noise, as clouds, paper and graphite have it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def smooth_noise(
    rng: np.random.Generator, size_hw: tuple[int, int], *, coarseness: int
) -> NDArray[np.float32]:
    """Gaussian noise on a grid of `coarseness` pixels, enlarged smoothly, `[H, W]`."""
    height, width = size_hw
    grid = (max(1, height // coarseness), max(1, width // coarseness))
    noise = rng.standard_normal(grid).astype(np.float32)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
