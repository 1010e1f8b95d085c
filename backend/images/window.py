"""Deep pixels -> 8 bits, through a window of the values a picture really has.

A screen shows 8 bits. Sensors deliver 10 to 16 bits or floating point, and use a part of that
range only: a 12-bit scan in a 16-bit file would be all but black. The window reaches from the
0.5th to the 99.5th percentile, so that a few hot pixels do not decide. Values that are not
finite, and those the file calls missing, have no say. 8-bit pictures never come here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num, Shaped, UInt8

LOWEST, HIGHEST = 0.5, 99.5  # percentiles
SAMPLES = 1 << 20  # values the percentiles are taken from, spread evenly
MIDDLE = 128  # what a picture shows that has one value only


@dataclass(frozen=True)
class Window:
    """`low` is shown black, `high` white; they are equal where a picture has one value only."""

    low: float
    high: float


def window_of(blocks: Iterable[Num[np.ndarray, "..."]], *, total: int) -> Window:
    """The window of a picture with about `total` values, read in one pass.

    If nearly all values are the same, the few others decide: lowest to highest.
    """
    step = max(1, total // SAMPLES)
    parts: list[np.ndarray] = []
    low, high = np.inf, -np.inf
    for block in blocks:
        values = block[np.isfinite(block)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            parts.append(values[::step].astype(np.float64))
    if not parts:
        return Window(0.0, 0.0)
    first, last = np.percentile(np.concatenate(parts), (LOWEST, HIGHEST))
    return Window(float(first), float(last)) if first < last else Window(low, high)


def to_8_bits(values: Shaped[np.ndarray, "..."], window: Window) -> UInt8[np.ndarray, "..."]:
    """What lies below the window is black, as is what is no number; above it is white."""
    if window.low == window.high:
        return np.where(np.isnan(values), 0, MIDDLE).astype(np.uint8)
    inside = np.clip(values.astype(np.float64), window.low, window.high)
    # halves: the span of two extreme float64 numbers is not a float64 number
    share = (inside / 2 - window.low / 2) / (window.high / 2 - window.low / 2)
    return np.rint(np.nan_to_num(share, nan=0.0) * 255).astype(np.uint8)
