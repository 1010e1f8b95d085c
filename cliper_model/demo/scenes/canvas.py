"""Draw a picture and its exact masks at once; texture and noise come last."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

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


class Canvas:
    """A picture being drawn. Every polygon goes into the image and into the instance map."""

    def __init__(self, rng: np.random.Generator, size_hw: tuple[int, int]) -> None:
        self.rng, self.size_hw = rng, size_hw
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
            strength=self.rng.uniform(32, 56),
            period=self.rng.uniform(2.2, 4.2),
            angle=self.rng.uniform(0, math.pi),
        )
        self.items[item - 1] = self.items[item - 1]._replace(pattern=word)

    def polygon(self, item: int, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon, in picture and mask."""
        corners = [(float(x) * self._wide, float(y) * self._high) for x, y in points]
        self._paint.polygon(corners, fill=colour)
        self._mark.polygon(corners, fill=item)

    def finish(self) -> Scene:
        """Shrink, add textures, unevenness, grain, contrast and brightness."""
        rng, (height, width) = self.rng, self.size_hw
        pixels = np.asarray(self._image.resize((width, height), Image.Resampling.BOX))
        pixels = pixels.astype(np.float32)
        instances = np.asarray(self._instances.resize((width, height), Image.Resampling.NEAREST))
        for item, texture in self.textures.items():
            inside = instances == item
            if inside.any():
                pattern = _pattern(rng, texture, inside)
                pixels += (pattern * inside * texture.strength)[..., None]
        pixels += _smooth_noise(rng, self.size_hw, coarseness=8)[..., None] * rng.uniform(0, 5)
        pixels += rng.standard_normal(pixels.shape).astype(np.float32) * rng.uniform(0, 6)
        pixels = (pixels - 128) * rng.uniform(0.85, 1.1) + 128 + rng.uniform(-14, 14)
        return Scene(pixels.clip(0, 255).astype(np.uint8), instances, tuple(self.items))


def _pattern(
    rng: np.random.Generator, texture: Texture, inside: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Values of about [-1, 1] over the whole canvas, `[H, W]`."""
    height, width = inside.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = x * math.cos(texture.angle) + y * math.sin(texture.angle)
    if texture.kind == 0:
        return np.asarray(np.sign(np.sin(along * 2 * math.pi / (texture.period * 2))))
    if texture.kind == 1:
        wave = np.sin(x * math.pi / texture.period) * np.sin(y * math.pi / texture.period)
        return (wave > 0.45) * 2.0 - 0.7
    if texture.kind == 2:
        return _smooth_noise(rng, (height, width), coarseness=4)
    return (along - along[inside].min()) / (np.ptp(along[inside]) + 1e-3) * 2 - 1


def _smooth_noise(
    rng: np.random.Generator, size_hw: tuple[int, int], *, coarseness: int
) -> NDArray[np.float32]:
    """Gaussian noise on a coarse grid, enlarged smoothly, `[H, W]`."""
    height, width = size_hw
    grid = (max(1, height // coarseness), max(1, width // coarseness))
    noise = rng.standard_normal(grid).astype(np.float32)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
