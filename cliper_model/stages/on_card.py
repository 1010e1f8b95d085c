"""Pixels labelled on the graphics card that made the maps: what `decide` computes, to the bit.

Every operation is rounded by itself, and in the order numpy has, so a card finds the same numbers.
What comes back to the processor is a label and a certainty per pixel.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .bilinear import taps

BLOCK_VALUES = 16_000_000  # in memory at once and step, 4 bytes each
PER_PIXEL = 8  # values beside those of the labels: numbers of the winner, in 8 bytes, and its share


class OnCard:
    """Class maps over a picture, as `decide.upsampled_rows` enlarges them."""

    def __init__(
        self,
        maps: Float[np.ndarray, "classes h w"],
        *,
        size_hw: tuple[int, int],
        device: str,
    ) -> None:
        """`device` is torch's name of one; any will do."""
        self._device, self._size_hw = torch.device(device), size_hw
        self._maps = self._there(maps)
        self._down, self._across = taps(maps.shape[1], size_hw[0]), taps(maps.shape[2], size_hw[1])
        source_rows = max(1.0, maps.shape[1] / size_hw[0])  # per row, where maps are the finer
        rows = max(1, int(BLOCK_VALUES / ((len(maps) + PER_PIXEL) * size_hw[1] * source_rows)))
        self._blocks = [
            slice(start, min(start + rows, size_hw[0])) for start in range(0, size_hw[0], rows)
        ]
        self._whole = self._enlarged(self._blocks[0]) if len(self._blocks) == 1 else None

    def extremes(self) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
        """Smallest and largest value of every label over all pixels."""
        smallest, largest = [], []
        for _, block in self._enlarged_blocks():
            flat = block.flatten(1)
            smallest.append(flat.amin(dim=1))
            largest.append(flat.amax(dim=1))
        lows, highs = torch.stack(smallest).amin(dim=0), torch.stack(largest).amax(dim=0)
        found: Any = torch.stack([lows, highs]).cpu().numpy()  # one way back, not two
        return found[0], found[1]

    def labelled(
        self,
        *,
        floors: Float[np.ndarray, " classes"],
        factor: Float[np.ndarray, " classes"],
        span: tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]] | None,
        largest: Float[np.ndarray, " classes"],
        background: str,
        background_threshold: float,
    ) -> tuple[Int[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
        """0 for background, else index + 1 of the winning label; and its share of `largest`,
        anything where none wins.

        Values below `floors` do not count; the others are compared times `factor`, and with `span`
        minus its first and over its second. The rules of `background`: see `decide.label_block`.
        """
        few = len(self._maps) < np.iinfo(np.uint8).max
        numbers = np.empty(self._size_hw, np.int32)
        sure = np.empty(self._size_hw, np.float32)
        lowest, times, whole = map(self._per_label, (floors, factor, largest))
        spans = None if span is None else tuple(map(self._per_label, span))
        for rows, block in self._enlarged_blocks():
            scaled = block * times
            if spans is not None:
                scaled = scaled.sub_(spans[0]).div_(spans[1])
            beaten = block < lowest
            if background == "none":
                best, winner = scaled.masked_fill_(beaten, -torch.inf).max(dim=0)
                wins = torch.isfinite(best)
            else:
                if background == "threshold":
                    beaten |= scaled < background_threshold
                best, winner = scaled.masked_fill_(beaten, 0.0).max(dim=0)
                wins = best > 0 if background == "threshold" else (1 - best) ** 2 < best
            label = torch.where(wins, winner + 1, 0).to(torch.uint8 if few else torch.int32)
            share = block.gather(0, winner[None])[0].div_(whole[:, 0, 0][winner])
            numbers[rows], sure[rows] = label.cpu().numpy(), share.clamp_(0.0, 1.0).cpu().numpy()
        return numbers, sure

    def _enlarged_blocks(self) -> Iterator[tuple[slice, Float[Tensor, "classes rows width"]]]:
        for rows in self._blocks:
            yield rows, self._enlarged(rows) if self._whole is None else self._whole

    def _enlarged(self, rows: slice) -> Float[Tensor, "classes rows width"]:
        left, right, across = map(self._there, self._across)
        upper, lower, down = (part[rows] for part in self._down)
        first = int(upper[0])
        near = self._maps[:, first : int(lower[-1]) + 1]
        wide = _between(near, left, right, across, axis=2)
        over, under = self._there(upper - first), self._there(lower - first)
        return _between(wide, over, under, self._there(down)[:, None], axis=1)

    def _per_label(self, values: Float[np.ndarray, " classes"]) -> Float[Tensor, "classes 1 1"]:
        return self._there(values)[:, None, None]

    def _there(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)


def _between(
    maps: Float[Tensor, "classes h w"],
    before: Int[Tensor, " n"],
    after: Int[Tensor, " n"],
    share: Float[Tensor, " n"] | Float[Tensor, "n 1"],
    *,
    axis: int,
) -> Float[Tensor, "classes h2 w2"]:
    """`bilinear.between`."""
    mixed = maps.index_select(axis, before).mul_(1 - share)
    return mixed.add_(maps.index_select(axis, after).mul_(share))
