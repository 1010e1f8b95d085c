"""Masks as a model makes them: things with smooth outlines, holes, and parts at the border."""

import cv2
import numpy as np


def smooth_mask(
    size_hw: tuple[int, int], seed: int, *, grain: float = 5.0, share: float = 0.4
) -> np.ndarray:
    """About `share` of the picture, in blobs of some `1 / grain` of its longer side."""
    random = np.random.default_rng(seed)
    cell = max(size_hw) / grain
    places = tuple(int(side / cell) + 3 for side in size_hw)
    noise = random.random(places).astype(np.float32)
    hills = cv2.resize(noise, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    return hills > np.quantile(hills, 1 - share)


def discs(size_hw: tuple[int, int], *circles: tuple[float, float, float]) -> np.ndarray:
    """Union of circles, each row, column and radius in pixels."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    mask = np.zeros(size_hw, bool)
    for row, column, radius in circles:
        mask |= np.hypot(rows - row, columns - column) <= radius
    return mask


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union; 1 for two empty masks."""
    either = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / either if either else 1.0
