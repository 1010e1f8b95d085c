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

    Takes 5 bytes per pixel of the box around the mask while it runs.
    """
    first_x, first_y, across, down = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    seen = np.ascontiguousarray(mask[first_y : first_y + down, first_x : first_x + across])
    if not seen.size:
        return
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(
        seen.view(np.uint8), connectivity=SIDES
    )
    left, top, area = (
        stats[1:count, column] for column in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_AREA)
    )
    for index in np.lexsort((left, top, -area))[:most]:
        x, y, width, height, _ = (int(value) for value in stats[index + 1])
        left_top = (first_x + x, first_y + y)
        box_xyxy = (*left_top, left_top[0] + width, left_top[1] + height)
        yield Piece(box_xyxy, numbers[y : y + height, x : x + width] == index + 1)
