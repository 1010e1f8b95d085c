"""Large pictures: a grid of overlapping tiles, and their maps blended on one canvas.

Every tile counts most at its middle and nothing at an edge that another tile covers; at every
place the weights of all tiles add up to one, so that no edge of a tile shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PilImage

from . import canvas

Span = tuple[int, int]  # first pixel, and the one after the last
SMALLEST_SIDE = 16  # pixels of a tile
BAND_VALUES = 4_000_000  # pixels, or values of maps, that are worked on at once


@dataclass(frozen=True)
class Grid:
    """Tiles of a picture: every span of rows with every span of columns, in reading order."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def boxes(self) -> tuple[canvas.Box, ...]:
        """Top, left, bottom, right in pixels."""
        return tuple(
            (top, left, bottom, right) for top, bottom in self.rows for left, right in self.columns
        )


def plan(size_hw: tuple[int, int], *, side: int, overlap: float, most: int) -> Grid:
    """At most `most` square tiles over the picture, evenly spaced, neighbours sharing `overlap`.

    side     pixels; tiles are larger where so many of this side would not cover the picture,
             and cut to the picture where it is smaller
    overlap  smallest share of a tile's side that it has in common with its neighbour
    """
    height, width = size_hw
    fitting = (
        max(_side_for(height, rows, overlap), _side_for(width, most // rows, overlap))
        for rows in range(1, most + 1)
    )
    chosen = max(side, min(fitting))
    return Grid(spans(height, chosen, overlap), spans(width, chosen, overlap))


def spans(length: int, side: int, overlap: float) -> tuple[Span, ...]:
    """As few spans of `side` pixels as cover `length` with this overlap, evenly spaced."""
    if side >= length:
        return ((0, length),)
    count = 1 + math.ceil((length - side) / _stride(side, overlap))
    starts = [(length - side) * index // (count - 1) for index in range(count)]
    return tuple((start, start + side) for start in starts)


def _stride(side: int, overlap: float) -> int:
    return max(1, math.floor(side * (1 - overlap)))


def _side_for(length: int, count: int, overlap: float) -> int:
    """Smallest side with which `count` spans cover `length`."""
    side = max(SMALLEST_SIDE, math.floor(length / (1 + (count - 1) * (1 - overlap))))
    while side + (count - 1) * _stride(side, overlap) < length:
        side += 1
    return side


def weights(spans: Sequence[Span], *, length: int, cells: int) -> Float[np.ndarray, "spans cells"]:
    """How much each span counts at every one of `cells` cells along `length` pixels.

    A raised cosine over what two neighbours share, one where a span is alone; every column
    adds up to one.
    """
    centres = (np.arange(cells) + 0.5) * (length / cells)
    rows = []
    for index, (start, end) in enumerate(spans):
        weight = ((centres >= start) & (centres < end)).astype(np.float64)
        if index:
            weight *= _rise(centres - start, spans[index - 1][1] - start)
        if index + 1 < len(spans):
            weight *= _rise(end - centres, end - spans[index + 1][0])
        rows.append(weight)
    return (np.stack(rows) / np.sum(rows, axis=0)).astype(np.float32)


def _rise(distance: Float[np.ndarray, " cells"], over: int) -> Float[np.ndarray, " cells"]:
    """From 0 at the edge to 1 after `over` pixels, flat at both ends."""
    return np.sin(np.pi / 2 * np.clip(distance / over, 0.0, 1.0)) ** 2


class Blend:
    """Maps of tiles and of the whole picture, added up on a canvas over the picture.

    Belongs to one call of one thread. `picture_hw` in pixels, `canvas_hw` in cells.
    """

    def __init__(
        self, maps: int, *, picture_hw: tuple[int, int], canvas_hw: tuple[int, int], grid: Grid
    ) -> None:
        self._total = torch.zeros(maps, *canvas_hw)
        self._picture_hw, self._canvas_hw, self._grid = picture_hw, canvas_hw, grid
        height, width = picture_hw
        self._down = weights(grid.rows, length=height, cells=canvas_hw[0])
        self._across = weights(grid.columns, length=width, cells=canvas_hw[1])

    def add_tile(self, number: int, maps: Float[np.ndarray, "maps h w"], *, share: float) -> None:
        """Add what tile `number` (reading order) says, `share` times its weight at each place."""
        row, column = divmod(number, len(self._grid.columns))
        self._add(
            maps,
            (self._grid.rows[row], self._grid.columns[column]),
            (share * self._down[row], self._across[column]),
        )

    def add_whole(self, maps: Float[np.ndarray, "maps h w"], *, share: float) -> None:
        """Add what the look at the whole picture says, `share` of it everywhere."""
        height, width = self._picture_hw
        ones = [np.ones(cells, np.float32) for cells in self._canvas_hw]
        self._add(maps, ((0, height), (0, width)), (share * ones[0], ones[1]))

    @property
    def maps(self) -> Float[np.ndarray, "maps canvas_h canvas_w"]:
        return self._total.numpy()

    def _add(
        self,
        maps: Float[np.ndarray, "maps h w"],
        box: tuple[Span, Span],
        weight: tuple[Float[np.ndarray, " canvas_h"], Float[np.ndarray, " canvas_w"]],
    ) -> None:
        slices, places, shares = [], [], []
        for axis in (0, 1):
            start, end = box[axis]
            per_cell = self._picture_hw[axis] / self._canvas_hw[axis]
            cells = np.flatnonzero(weight[axis])
            if not len(cells):
                return
            slices.append(slice(int(cells[0]), int(cells[-1]) + 1))
            centres = (np.arange(cells[0], cells[-1] + 1) + 0.5) * per_cell - start
            inside = torch.from_numpy(centres * (maps.shape[axis + 1] / (end - start)))
            places.append(inside.float())
            shares.append(torch.from_numpy(weight[axis][slices[axis]]))
        mask = shares[0][:, None] * shares[1]
        step = max(1, BAND_VALUES // mask.numel())
        for first in range(0, len(maps), step):
            some = torch.from_numpy(np.ascontiguousarray(maps[first : first + step]))
            seen = canvas.sample(some, down=places[0], across=places[1])
            self._total[first : first + step, slices[0], slices[1]] += seen * mask


def within(size_hw: tuple[int, int], *, most_pixels: int) -> tuple[int, int]:
    """`size_hw`, or the size of the same shape with at most `most_pixels`; never below one."""
    height, width = size_hw
    share = math.sqrt(most_pixels / (height * width))
    if share >= 1:
        return size_hw
    fewer_rows = max(1, math.floor(height * share))
    fewer_columns = max(1, min(math.floor(width * share), most_pixels // fewer_rows))
    return min(fewer_rows, most_pixels // fewer_columns), fewer_columns


def shrink(
    image: UInt8[np.ndarray, "height width 3"], *, most_pixels: int
) -> UInt8[np.ndarray, "height2 width2 3"]:
    """A picture of at most `most_pixels` by averaging areas; a small one is returned as it is.

    Works through bands of rows, so that nothing of the picture's own size is copied.
    """
    height, width = image.shape[:2]
    rows, columns = within((height, width), most_pixels=most_pixels)
    if (rows, columns) == (height, width):
        return image
    small = np.empty((rows, columns, 3), np.uint8)
    step = max(1, rows * BAND_VALUES // (height * width))
    for start in range(0, rows, step):
        end = min(start + step, rows)
        top, bottom = start * height / rows, end * height / rows
        first, last = math.floor(top), math.ceil(bottom)
        band = PilImage.fromarray(np.ascontiguousarray(image[first:last]))
        box = (0, top - first, width, bottom - first)
        few = band.resize((columns, end - start), PilImage.Resampling.BOX, box=box)
        small[start:end] = np.asarray(few)
    return small
