"""Draw a picture and its exact masks at once, in flat colours; a style makes a picture of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .names import LABEL_IDS
from .palette import Colour

Point = tuple[float, float]
"""(x, y) with y down; the whole canvas is the unit square."""


class Item(NamedTuple):
    """One thing or ground; every word is None where it has no name. A plain ground has none."""

    label: str | None = None
    colour: str | None = None  # a key of `palette.COLOURS`
    pattern: str | None = None  # one of `PATTERNS`, where it is bold enough to be seen
    hour: str | None = None  # one of `HOURS`, for grounds under the open sky


PATTERNS: Final = ("striped", "dotted")
"""Words for bold patterns; the position is the kind of the texture."""

HOURS: Final = ("day", "night")

SUPERSAMPLING = 2  # drawn at twice the size, so that edges are soft


@dataclass(frozen=True)
class Scene:
    """One picture with its truth. Value `k` in `instances` belongs to `items[k - 1]`; 0 to none."""

    image: NDArray[np.uint8]  # [H, W, 3]
    instances: NDArray[np.uint8]  # [H, W]
    items: tuple[Item, ...]

    def label_map(self) -> NDArray[np.uint8]:
        """0 where nothing is labelled, else 1 + index of the label in `LABELS`, `[H, W]`."""
        return label_table(self.items)[self.instances]

    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """One bool mask `[H, W]` for every label that is visible."""
        label_map = self.label_map()
        return {label: label_map == k for label, k in LABEL_IDS.items() if (label_map == k).any()}


def label_table(items: Sequence[Item]) -> NDArray[np.uint8]:
    """`table[instance] = label id`, `[256]`."""
    table = np.zeros(256, np.uint8)
    for instance, item in enumerate(items, 1):
        table[instance] = 0 if item.label is None else LABEL_IDS[item.label]
    return table


@dataclass(frozen=True)
class Texture:
    """A pattern laid over one item: 0 stripes, 1 dots, 2 cloudiness, 3 a slow ramp."""

    kind: int
    strength: float  # grey levels
    period: float  # pixels
    angle: float  # radians


@dataclass(frozen=True)
class Drawing:
    """Flat colours and exact items, `SUPERSAMPLING` times as fine as the picture."""

    colours: NDArray[np.uint8]  # [h, w, 3]
    numbers: NDArray[np.uint8]  # [h, w], as `Scene.instances`
    items: tuple[Item, ...]
    textures: dict[int, Texture]  # by item number

    @property
    def instances(self) -> NDArray[np.uint8]:
        """`numbers` in the size of the picture, `[H, W]`."""
        height, width = (
            self.numbers.shape[0] // SUPERSAMPLING,
            self.numbers.shape[1] // SUPERSAMPLING,
        )
        fine = Image.fromarray(self.numbers)
        return np.asarray(fine.resize((width, height), Image.Resampling.NEAREST))


class Canvas:
    """A picture being drawn. Every polygon goes into the image and into the instance map."""

    def __init__(
        self, rng: np.random.Generator, size_hw: tuple[int, int], *, bands: int = 24
    ) -> None:
        self.rng, self.size_hw = rng, size_hw
        self.bands = bands  # most colours of one gradient
        height, width = size_hw
        self._wide, self._high = width * SUPERSAMPLING, height * SUPERSAMPLING
        self._image = Image.new("RGB", (self._wide, self._high))
        self._instances = Image.new("L", (self._wide, self._high), 0)
        self._paint, self._mark = ImageDraw.Draw(self._image), ImageDraw.Draw(self._instances)
        self.items: list[Item] = []
        self.textures: dict[int, Texture] = {}
        # sizes of things count in short sides, so that a circle stays round on a wide canvas
        self.unit_x, self.unit_y = min(size_hw) / width, min(size_hw) / height

    def new_item(
        self,
        label: str | None,
        colour: str | None = None,
        *,
        hour: str | None = None,
        textured: float = 0.35,
        bold: float = 0.0,
    ) -> int:
        """Begin an item. Returns its number.

        With probability `textured` it gets a faint pattern that has no name, and with
        probability `bold` stripes or dots that have one.
        """
        self.items.append(Item(label, colour, None, hour))
        item = len(self.items)
        if self.rng.random() < textured:
            self.textures[item] = Texture(
                kind=int(self.rng.integers(0, 4)),
                strength=self.rng.uniform(6, 22),
                period=self.rng.uniform(3, 9),
                angle=self.rng.uniform(0, math.pi),
            )
        if self.rng.random() < bold:
            self.pattern(item, PATTERNS[int(self.rng.integers(len(PATTERNS)))])
        return item

    def pattern(self, item: int, word: str) -> None:
        """Lay bold stripes or dots over an item, in place of the pattern it has."""
        self.textures[item] = Texture(
            kind=PATTERNS.index(word),
            strength=self.rng.uniform(40, 64),
            period=self.rng.uniform(2.8, 5.6),
            angle=self.rng.uniform(0, math.pi),
        )
        self.items[item - 1] = self.items[item - 1]._replace(pattern=word)

    def polygon(self, item: int, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon, in picture and mask."""
        corners = [(float(x) * self._wide, float(y) * self._high) for x, y in points]
        self._paint.polygon(corners, fill=colour)
        self._mark.polygon(corners, fill=item)

    def item_at(self, point: Point) -> int:
        """Number of the item drawn last at a point inside the unit square, 0 for none."""
        x = min(self._wide - 1, int(point[0] * self._wide))
        y = min(self._high - 1, int(point[1] * self._high))
        return cast(int, self._instances.getpixel((x, y)))

    def drawing(self) -> Drawing:
        """What was drawn so far."""
        return Drawing(
            np.array(self._image), np.array(self._instances), tuple(self.items), dict(self.textures)
        )


def shrink(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fine pixels averaged to the size of the picture, `[h, w, 3]` or `[h, w]`."""
    height, width = pixels.shape[0] // SUPERSAMPLING, pixels.shape[1] // SUPERSAMPLING
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float32)
