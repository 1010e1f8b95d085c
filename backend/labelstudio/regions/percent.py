"""Numbers of a region's value: percent of the displayed picture <-> its pixels.

Pixel column `c` reaches from `c` to `c + 1`; so the picture's left side is 0, its right side
the width.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from ...errors import BadMask
from ..tasks import Region

DECIMALS = 5  # a thousandth of a pixel in pictures of 10,000; shorter JSON than a float's 17
MOST_POINTS = 20_000  # of one shape that is read; people draw some dozens
FARTHEST = 1e6  # percent or degrees; what people draw lies within some hundreds


def value_of(region: Region, *needed: str) -> Mapping[str, Any]:
    """The region's value, which holds everything needed. Raises BadMask."""
    value = region.get("value")
    if not isinstance(value, Mapping):
        raise BadMask("the region has no value")
    missing = [name for name in needed if name not in value]
    if missing:
        raise BadMask(f"the region's value has no {' and no '.join(missing)}")
    return value


def number(value: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    """One finite number; `default` where it is missing or null. Raises BadMask."""
    found = value.get(name)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not _finite(found):
        raise BadMask(f"{name} of the region is not a number")
    return float(found)


def points(listed: object) -> Float[np.ndarray, "points 2"]:
    """A list of pairs [x, y]. Raises BadMask for anything else, and for far too many."""
    if not isinstance(listed, list) or len(listed) > MOST_POINTS:
        raise BadMask(f"the region's points are not a list of at most {MOST_POINTS}")
    for pair in listed:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise BadMask("a point of the region is not a pair of numbers")
        if any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in pair) or not (
            _finite(pair[0]) and _finite(pair[1])
        ):
            raise BadMask("a point of the region is not a pair of numbers")
    return np.asarray(listed, np.float64).reshape(-1, 2)


def to_pixels(
    percent: Float[np.ndarray, "points 2"], size_hw: tuple[int, int]
) -> Float[np.ndarray, "points 2"]:
    return percent * (size_hw[1] / 100, size_hw[0] / 100)


def from_pixels(
    pixels: Float[np.ndarray, "points 2"], size_hw: tuple[int, int]
) -> Float[np.ndarray, "points 2"]:
    """Rounded, and never outside of the picture."""
    percent = pixels * (100 / size_hw[1], 100 / size_hw[0])
    return np.clip(percent, 0.0, 100.0).round(DECIMALS) + 0.0  # + 0.0: no minus zero


def _finite(one: float) -> bool:
    """Whether it can be reckoned with; NaN cannot."""
    return -FARTHEST <= one <= FARTHEST
