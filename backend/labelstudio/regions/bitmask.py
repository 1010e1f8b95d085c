"""BitmaskLabels and Bitmask: a mask as PNG whose opacity is the mask (protocol notes §6).

The editor ignores colours, and scales a PNG of any size over the picture. It draws a smaller one
rightly, but strokes of a person on it land elsewhere (protocol notes §6), so a mask keeps its size
as long as the editor can bear it.
"""

import base64
import binascii
import io
import struct

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, PngImagePlugin

from ...errors import BadMask
from ..tasks import Region
from . import percent
from .base import RegionControl, results

FULL_PIXELS = 13_000_000  # up to here masks can be corrected; ten larger take the editor minutes
LONGEST_SIDE = 2048  # pixels of a larger one: about what a screen shows
VISIBLE = 128  # strokes of the editor have soft edges; half opacity counts as painted
PREFIX = "data:image/png;base64,"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(mask: Bool[np.ndarray, "height width"], control: RegionControl) -> list[Region]:
    """One region for everything the label covers; none for an empty mask.

    Masks of pictures above FULL_PIXELS are reduced: a pixel is opaque where at least half of it
    was. A smaller mask is sent as it is.
    """
    if not mask.any():
        return []
    png = _png(_reduced(mask) if mask.size > FULL_PIXELS else mask)
    value = {"imageDataURL": PREFIX + base64.b64encode(png).decode("ascii")}
    size_hw = control.size_hw or (mask.shape[0], mask.shape[1])
    return results(control, value, size_hw=size_hw)


def decode(region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Where the PNG is opaque, scaled to the picture. Raises BadMask.

    A PNG without any transparency covers the picture, as it does in the editor.
    """
    most = max(FULL_PIXELS, 2 * size_hw[0] * size_hw[1])
    opacity = _opacity(percent.value_of(region, "imageDataURL")["imageDataURL"], most=most)
    if opacity.shape != size_hw:
        smaller = opacity.shape[0] > size_hw[0] or opacity.shape[1] > size_hw[1]
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        opacity = np.asarray(cv2.resize(opacity, size_hw[::-1], interpolation=how), np.uint8)
    return opacity >= VISIBLE


def _reduced(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "h w"]:
    longest = max(mask.shape)
    height, width = (max(1, round(side * LONGEST_SIDE / longest)) for side in mask.shape)
    painted = np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255)
    share = cv2.resize(painted, (width, height), interpolation=cv2.INTER_AREA)
    large = share >= VISIBLE
    return large if large.any() else share > 0  # what is thinner than a pixel is kept all the same


def _png(mask: Bool[np.ndarray, "height width"]) -> bytes:
    """One bit per pixel: a palette of two colours, the first of them transparent."""
    height, width = mask.shape
    picture = Image.frombytes("P", (width, height), mask.astype(np.uint8).tobytes())
    picture.putpalette([0, 0, 0, 0, 0, 0])
    file = io.BytesIO()
    picture.save(file, "PNG", bits=1, transparency=b"\x00\xff", compress_level=9)
    return file.getvalue()


def _opacity(url: object, *, most: int) -> UInt8[np.ndarray, "height width"]:
    if not isinstance(url, str) or not url.startswith(PREFIX):
        raise BadMask("the region's bitmask is not a PNG as data URL")
    try:
        data = base64.b64decode(url[len(PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        raise BadMask("the region's bitmask is not base64") from None
    if not data.startswith(SIGNATURE) or len(data) < 24:
        raise BadMask("the region's bitmask is not a PNG")
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= most:
        raise BadMask(
            f"the region's bitmask has {width} x {height} pixels, at most {most} are read"
        )
    try:
        with PngImagePlugin.PngImageFile(io.BytesIO(data), "") as picture:  # no limit but ours
            if picture.size != (width, height):
                raise BadMask("the region's bitmask says twice how large it is")
            if not picture.has_transparency_data:
                picture.load()
                return np.full((height, width), 255, np.uint8)
            return np.array(picture.convert("RGBA").getchannel("A"))
    except (BadMask, MemoryError):
        raise
    except Exception:  # decoders of damaged files raise whatever comes to them
        raise BadMask("the region's bitmask is a broken PNG") from None
