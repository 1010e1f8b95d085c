"""A picture four times, small: as it is, as predicted, as it is right, and the difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import ImageColor

from .. import overlay
from ..overlay import Colour
from ..prelabel.tiles import Small, scaled
from .comparing import Mask, Name, Sides, masks_of

ADD: Final = (0, 158, 115)  # green and red that people with any eyes tell apart (Okabe, Ito)
REMOVE: Final = (213, 62, 0)
SWAP: Final = (240, 178, 40)  # one label had to go and another to come
VISIBLE: Final = 0.25  # share of a small pixel that has to be covered; thin strips must show
PAPER: Final = 200  # grey where there is no picture


@dataclass(frozen=True, kw_only=True)
class Panels:
    """Small pictures of one size. `picture` None: it could not be had, `reason` says why."""

    picture: Small | None
    predicted: Small
    right: Small
    difference: Small
    reason: str = ""


class Palette:
    """Colours of labels: the config's, else one of ours; the same in all pictures of a report."""

    def __init__(self, given: Mapping[Name, str]) -> None:
        self._given = given
        self._chosen: dict[Name, Colour] = {}

    def colour(self, name: Name) -> Colour:
        if name not in self._chosen:
            ours = overlay.colours(len(self._chosen) + 1)[-1]
            self._chosen[name] = _colour(self._given.get(name, "")) or ours
        return self._chosen[name]


def panels(
    image: UInt8[np.ndarray, "height width 3"] | None,
    labels: Mapping[Name, Sides],
    palette: Palette,
    reason: str = "",
) -> Panels | None:
    """None where neither side painted anything. Raises BadMask."""
    small = None if image is None else scaled(image)
    base = small
    predicted: list[tuple[Mask, Colour]] = []
    right: list[tuple[Mask, Colour]] = []
    add: Mask | None = None
    remove: Mask | None = None
    for name, sides in labels.items():
        truth, given = masks_of(sides)
        if base is None:
            height, width = truth.shape
            base = scaled(np.full((height, width, 3), PAPER, np.uint8))
        tile_hw = (base.shape[0], base.shape[1])
        colour = palette.colour(name)
        right.append((_small(truth, tile_hw), colour))
        predicted.append((_small(given, tile_hw), colour))
        missing, wrong = _small(truth & ~given, tile_hw), _small(given & ~truth, tile_hw)
        add = missing if add is None else add | missing
        remove = wrong if remove is None else remove | wrong
    if base is None or add is None or remove is None:
        return None
    return Panels(
        picture=small,
        predicted=overlay.on_grey(base, _painted(predicted)),
        right=overlay.on_grey(base, _painted(right)),
        difference=overlay.on_grey(
            base, [(remove & ~add, REMOVE), (add & ~remove, ADD), (add & remove, SWAP)]
        ),
        reason=reason,
    )


def _painted(masks: Sequence[tuple[Mask, Colour]]) -> list[tuple[Mask, Colour]]:
    return [(mask, colour) for mask, colour in masks if mask.any()]


def _small(
    mask: Bool[np.ndarray, "height width"], tile_hw: tuple[int, int]
) -> Bool[np.ndarray, "tile_h tile_w"]:
    kind = cv2.INTER_AREA if mask.shape[0] > tile_hw[0] else cv2.INTER_NEAREST
    whole = np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255)
    cover = cv2.resize(whole, tile_hw[::-1], interpolation=kind)
    return np.asarray(cover >= VISIBLE * 255, bool)


def _colour(text: str) -> Colour | None:
    try:
        found = ImageColor.getrgb(text)
    except ValueError:
        return None
    return (found[0], found[1], found[2])
