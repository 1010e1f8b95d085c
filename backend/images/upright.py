"""EXIF orientations as views: a stored picture is written, an upright one is there."""

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

LYING = (5, 6, 7, 8)  # stored with width and height exchanged


def orientation_of(image: Image.Image) -> int:
    """1 to 8, from EXIF or XMP; 1 where there is none, or none that can be read: so do browsers."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the reader of damaged EXIF raises whatever comes to it
        return 1
    return found if found in range(1, 9) else 1


def blank(size_hw: tuple[int, int], orientation: int) -> UInt8[np.ndarray, "height width 3"]:
    """Memory for the upright picture; `size_hw` is its size as stored."""
    height, width = size_hw[::-1] if orientation in LYING else size_hw
    return np.empty((height, width, 3), np.uint8)


def as_stored(
    upright: UInt8[np.ndarray, "height width 3"], orientation: int
) -> UInt8[np.ndarray, "stored_height stored_width 3"]:
    """A view of the same memory, in which pixels lie as they are stored."""
    if orientation in LYING:
        upright = upright.transpose(1, 0, 2)
    if orientation in (3, 4, 6, 7):  # the last row comes first
        upright = upright[::-1]
    if orientation in (2, 3, 7, 8):  # the last column comes first
        upright = upright[:, ::-1]
    return upright
