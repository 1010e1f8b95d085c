"""Where the labels of a label map lie: one pass over the map, however many labels there are."""

import numpy as np
from jaxtyping import Int

Box = tuple[slice, slice]  # rows, columns

BLOCK_PIXELS = 1_000_000  # looked at at once


def boxes_of(label_map: Int[np.ndarray, "height width"], *, labels: int) -> list[Box | None]:
    """Rows and columns that hold each number from 0 to `labels`; None without a pixel.

    Numbers change only where a run along a row begins, so runs are looked at, not pixels.
    """
    height, width = label_map.shape
    top, bottom = np.full(labels + 1, height), np.zeros(labels + 1, np.int64)
    left, right = np.full(labels + 1, width), np.zeros(labels + 1, np.int64)
    step = max(1, BLOCK_PIXELS // max(1, width))
    for start in range(0, height, step):
        block = label_map[start : start + step]
        begins = np.ones(block.shape, bool)
        np.not_equal(block[:, 1:], block[:, :-1], out=begins[:, 1:])
        rows, columns = np.nonzero(begins)
        ends = np.append(columns[1:], 0)
        ends[ends == 0] = width  # the next run begins a row
        numbers = block[rows, columns]
        np.minimum.at(top, numbers, rows + start)
        np.maximum.at(bottom, numbers, rows + start + 1)
        np.minimum.at(left, numbers, columns)
        np.maximum.at(right, numbers, ends)
    return [
        (slice(int(top[number]), int(bottom[number])), slice(int(left[number]), int(right[number])))
        if bottom[number]
        else None
        for number in range(labels + 1)
    ]
