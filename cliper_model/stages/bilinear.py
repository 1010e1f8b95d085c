"""Bilinear enlargement with half-pixel centres and no antialias, one axis after the other."""

import numpy as np
from jaxtyping import Float, Int


def taps(
    small: int, large: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Neighbours and weight of bilinear sampling with half-pixel centres along one axis."""
    centres = np.maximum((np.arange(large) + 0.5) * (small / large) - 0.5, 0.0)
    lower = np.minimum(centres.astype(np.int64), small - 1)
    return lower, np.minimum(lower + 1, small - 1), (centres - lower).astype(np.float32)


def between(
    maps: Float[np.ndarray, "classes h w"],
    before: Int[np.ndarray, " n"],
    after: Int[np.ndarray, " n"],
    share: Float[np.ndarray, " n"] | Float[np.ndarray, "n 1"],
    *,
    axis: int,
) -> Float[np.ndarray, "classes h2 w2"]:
    """Linear interpolation along one axis, `share` of the way from `before` to `after`."""
    mixed = np.take(maps, before, axis=axis)
    mixed *= 1 - share
    rest = np.take(maps, after, axis=axis)
    rest *= share
    mixed += rest
    return mixed
