"""What part of a picture is measured: the whole, a centre crop, or two halves. Pure.

A view takes picture and truth together, so that both are always cut alike.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image as PilImage

Rgb = UInt8[np.ndarray, "height width 3"]
LabelMap = Int[np.ndarray, "height width"]
Cut = tuple[UInt8[np.ndarray, "height2 width2 3"], Int[np.ndarray, "height2 width2"]]
View = Callable[[Rgb, LabelMap], Cut]


def whole(image: Rgb, truth: LabelMap) -> Cut:
    """Everything."""
    return image, truth


def right_half(image: Rgb, truth: LabelMap) -> Cut:
    """Columns from the middle on."""
    middle = image.shape[1] // 2
    return image[:, middle:], truth[:, middle:]


def left_half(image: Rgb, truth: LabelMap) -> Cut:
    """Columns before the middle."""
    middle = image.shape[1] // 2
    return image[:, :middle], truth[:, :middle]


def centre_crop(side: int) -> View:
    """Short side to `side` pixels, then the `side x side` centre (CLIPtrase §1).

    The picture is resized bicubically with antialias on 8-bit data, the truth by its nearest
    pixel, both to the same size: long side rounded down, crop offset rounded to the nearest.
    """

    def view(image: Rgb, truth: LabelMap) -> Cut:
        height, width = truth.shape
        short = min(height, width)
        size_wh = (side * width // short, side * height // short)
        left, top = round((size_wh[0] - side) / 2), round((size_wh[1] - side) / 2)
        box = (left, top, left + side, top + side)
        picture = PilImage.fromarray(image).resize(size_wh, PilImage.Resampling.BICUBIC)
        labels = PilImage.fromarray(truth.astype(np.int32))
        labels = labels.resize(size_wh, PilImage.Resampling.NEAREST)
        return np.asarray(picture.crop(box)), np.asarray(labels.crop(box))

    return view


WHOLE: Mapping[str, View] = MappingProxyType({"": whole})
HALVES: Mapping[str, View] = MappingProxyType({"right": right_half, "left": left_half})
"""Cityscapes as CLIPer measures it: two square halves, the right one first (CLIPer §9)."""


def centre(side: int) -> Mapping[str, View]:
    """One view, the centre crop."""
    return MappingProxyType({"centre": centre_crop(side)})
