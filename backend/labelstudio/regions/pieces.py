"""A mask -> its connected pieces, for formats whose regions hold one shape each.

Pixels belong together where they share a side (4-connected). Pixels that only share a corner
would make a ring that touches itself there, which no valid polygon may.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool

SIDES = 4
MOST_PIECES = 300  # per mask: the editor gets slow and the region list useless long before


class Piece(NamedTuple):
    """One connected part: its box in the mask's pixels, and its pixels within the box.

    The box is left, top, right, bottom; right and bottom are the first pixels outside.
    """

    box_xyxy: tuple[int, int, int, int]
    crop: Bool[np.ndarray, "box_h box_w"]


def pieces(mask: Bool[np.ndarray, "height width"], *, most: int = MOST_PIECES) -> Iterator[Piece]:
    """The largest first, equal ones from top to bottom, then left to right; `most` at most.

    Takes 5 bytes per pixel of the mask while it runs.
    """
    seen = np.ascontiguousarray(mask).view(np.uint8)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(seen, connectivity=SIDES)
    left, top, area = (
        stats[1:count, column] for column in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_AREA)
    )
    for index in np.lexsort((left, top, -area))[:most]:
        x, y, width, height, _ = (int(value) for value in stats[index + 1])
        box_xyxy = (x, y, x + width, y + height)
        yield Piece(box_xyxy, numbers[y : y + height, x : x + width] == index + 1)
