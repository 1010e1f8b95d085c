"""Tile by tile only the labels that may win there are enlarged; the result is the same.

What is interpolated never leaves the range of the cells it lies between, so the cells around a
tile of pixels say how much and how little a label claims in it, at the cost of the cells.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from .bilinear import between, taps

SMALLEST_SIDE = 48  # pixels of a tile
TILE_VALUES = 131_072  # of all labels in a tile; few labels get larger tiles, which are fewer
CELLS = 2  # of the maps along a tile, where they are large
SLACK = np.float32(1e-6)  # share by which rounding may pass the range


class Contenders:
    """Class maps over a picture. Values are those of `decide.upsampled_rows` to the bit."""

    def __init__(self, maps: Float[np.ndarray, "classes h w"], *, size_hw: tuple[int, int]) -> None:
        self._maps, self._size_hw = maps, size_hw
        self._down, self._across = taps(maps.shape[1], size_hw[0]), taps(maps.shape[2], size_hw[1])

    def values(
        self, labels: Int[np.ndarray, " some"], rows: slice, columns: slice
    ) -> Float[np.ndarray, "some rows columns"]:
        """The maps of some labels in a tile."""
        upper, lower, down = (part[rows] for part in self._down)
        left, right, across = (part[columns] for part in self._across)
        near = self._maps[labels, upper[0] : lower[-1] + 1, left[0] : right[-1] + 1]
        wide = between(near, left - left[0], right - left[0], across, axis=2)
        return between(wide, upper - upper[0], lower - upper[0], down[:, None], axis=1)

    def tiles(
        self,
    ) -> Iterator[
        tuple[slice, slice, Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]
    ]:
        """Rows and columns of every tile, and bounds from below and above of every label in it."""
        labels, h, w = self._maps.shape
        least = max(SMALLEST_SIDE, round((TILE_VALUES / labels) ** 0.5))
        for rows in _spans(self._size_hw[0], cells=h, least=least):
            band = self._maps[:, self._down[0][rows][0] : self._down[1][rows][-1] + 1]
            lowest, highest = band.min(axis=1), band.max(axis=1)
            lowest -= SLACK * np.abs(lowest)
            highest += SLACK * np.abs(highest)
            for columns in _spans(self._size_hw[1], cells=w, least=least):
                near = slice(self._across[0][columns][0], self._across[1][columns][-1] + 1)
                yield rows, columns, lowest[:, near].min(axis=1), highest[:, near].max(axis=1)

    def extremes(self) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
        """Smallest and largest value of every label over all pixels."""
        flat = self._maps.reshape(len(self._maps), -1)
        smallest, largest = self._near(flat.argmin(axis=1)), self._near(flat.argmax(axis=1))
        for rows, columns, lowest, highest in self.tiles():
            asked = np.flatnonzero((highest > largest) | (lowest < smallest))
            if len(asked):
                block = self.values(asked, rows, columns)
                smallest[asked] = np.minimum(smallest[asked], block.min(axis=(1, 2)))
                largest[asked] = np.maximum(largest[asked], block.max(axis=(1, 2)))
        return smallest, largest

    def _near(self, cells: Int[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
        """Each label at the pixel nearest to one of its cells."""
        _, h, w = self._maps.shape
        rows, columns = (
            ((cell + 0.5) * large / small).astype(np.int64).clip(0, large - 1)
            for cell, small, large in zip(np.divmod(cells, w), (h, w), self._size_hw, strict=True)
        )
        each = np.arange(len(cells))
        left, right, across = (part[columns] for part in self._across)
        upper, lower, down = (part[rows] for part in self._down)
        over, under = (
            self._maps[each, row, left] * (1 - across) + self._maps[each, row, right] * across
            for row in (upper, lower)
        )
        return np.asarray(over * (1 - down) + under * down, self._maps.dtype)


def _spans(length: int, *, cells: int, least: int) -> Iterator[slice]:
    side = max(least, CELLS * length // cells)
    for start in range(0, length, side):
        yield slice(start, min(start + side, length))
