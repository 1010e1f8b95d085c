"""Seen from above: fields, water and roads; small things with their shadows, turned anyhow.

A layout of its own. Lengths are in short sides of the picture, so that nothing is stretched on a
wide canvas; only the labels of `TABLE` and five grounds occur.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..canvas import Canvas, Drawing, Point, Texture
from ..grounds import GROUNDS
from ..palette import Colour, jitter, shade
from ..things import place
from .from_above import TABLE
from .geometry import area, beside, cut, moved, strip, winding
from .storybook import render as storybook

_ON: Final[dict[str, tuple[str, ...]]] = {  # one entry = one ticket
    "grass": ("tree", "tree", "tree", "house", "house", "tent"),
    "sand": ("umbrella", "umbrella", "tent", "tree", "house"),
    "snow": ("tree", "tree", "house", "house", "tent"),
    "sea": ("boat",),
    "road": ("car", "car", "car", "bus"),
}
_IN_THE_AIR: Final = ("plane", "bird", "cloud")
_ON_HIGH: Final = frozenset({"plane", "bird", "cloud"})
_SHADE = 0.62  # of the ground's own brightness
_MARKING: Colour = (238, 234, 205)


@dataclass(frozen=True)
class Land:
    """A kind of country: its fields (one entry = one ticket), and what may cross them."""

    fields: tuple[str, ...]
    river: float  # chance
    coast: float  # chance, instead of a river


_LANDS: Final = (
    Land(("grass", "grass", "grass", "sand"), 0.5, 0.1),
    Land(("grass", "grass", "sand", "sand"), 0.1, 0.9),
    Land(("grass",), 0.5, 0.3),
    Land(("snow", "snow", "snow", "grass"), 0.5, 0.2),
)


def draw(canvas: Canvas) -> None:
    """Fill the canvas: fields first, water and roads across them, then what stands there."""
    rng = canvas.rng
    land = _LANDS[rng.integers(len(_LANDS))]
    direction = rng.uniform(0, math.pi)
    _fields(canvas, land, direction)
    chance = rng.random()
    if chance < land.coast:
        _coast(canvas, direction)
    elif chance < land.coast + land.river:
        _river(canvas, rng.uniform(0, math.pi))
    roads = [_road(canvas, direction + rng.normal(0, 0.06))]
    if rng.random() < 0.45:
        roads.append(_road(canvas, direction + math.pi / 2 + rng.normal(0, 0.06)))
    taken: list[Point] = []
    for road in roads:
        _traffic(canvas, road, taken)
    if rng.random() < 0.6:
        _wood(canvas, taken)
    _settle(canvas, direction, taken)
    if rng.random() < 0.5:
        _fly(canvas)


def render(drawing: Drawing, rng: np.random.Generator) -> NDArray[np.uint8]:
    """As the storybook, with the shadows of an afternoon, `[H, W, 3]`."""
    names = np.array(["", *(item.label or "" for item in drawing.items)])[drawing.numbers]
    high, low = np.isin(names, list(_ON_HIGH)), np.isin(names, list(set(TABLE) - _ON_HIGH))
    short_side = min(drawing.numbers.shape)
    shadow = moved(low, round(short_side * 0.016)) & ~low
    shadow = (shadow | moved(high, round(short_side * 0.07))) & ~high
    colours = drawing.colours.copy()
    colours[shadow] = np.uint8(colours[shadow] * _SHADE)
    return storybook(replace(drawing, colours=colours), rng)


# ---- grounds


def _fields(canvas: Canvas, land: Land, direction: float) -> None:
    """Cut the picture into fields along one direction and across it."""
    rng, (wide, high) = canvas.rng, _extent(canvas)
    everything: list[Point] = [(0, 0), (wide, 0), (wide, high), (0, high)]
    pieces = [everything]
    for _ in range(int(rng.integers(6, 12))):
        largest = max(range(len(pieces)), key=lambda k: area(pieces[k]))
        piece = pieces.pop(largest)
        x, y = np.array(piece).mean(0) + rng.normal(0, 0.04, 2)
        turn = direction + rng.choice([0, math.pi / 2]) + rng.normal(0, 0.05)
        pieces += [part for part in cut(piece, (float(x), float(y)), float(turn)) if len(part) > 2]
    for piece in [everything, *pieces[1:]]:  # so that no pixel between two fields stays empty
        label = land.fields[rng.integers(len(land.fields))]
        item, _ = _ground(canvas, label, piece)
        canvas.textures[item] = Texture(
            kind=int(rng.choice([0, 0, 2])),
            strength=rng.uniform(2, 9),
            period=rng.uniform(1.6, 4),
            angle=direction + rng.choice([0, math.pi / 2]),
        )


def _coast(canvas: Canvas, direction: float) -> None:
    """The sea on one side, behind a beach, with surf between them."""
    rng = canvas.rng
    turn = direction + rng.choice([0, 1, 2, 3]) * math.pi / 2
    seaward = (math.cos(turn), math.sin(turn))
    line = _across(canvas, turn + math.pi / 2, 0.05, spread=0.12)
    _ground(canvas, "sand", beside(line, seaward, 0))
    width = rng.uniform(0.06, 0.16)
    item, colour = _ground(canvas, "sea", beside(line, seaward, width))
    _polygon(canvas, item, beside(line, seaward, width - 0.01), shade(colour, 1.5))
    _polygon(canvas, item, beside(line, seaward, width + 0.012), colour)


def _river(canvas: Canvas, direction: float) -> None:
    line, width = _across(canvas, direction, 0.09), canvas.rng.uniform(0.09, 0.2)
    item, colour = _ground(canvas, "sea", strip(line, width))
    _polygon(canvas, item, strip(line, width * 0.7), shade(colour, 0.9))


def _road(canvas: Canvas, direction: float) -> list[Point]:
    """A road across the picture, perhaps with a dashed line. Returns its middle."""
    rng = canvas.rng
    line = _across(canvas, direction, rng.choice([0, 0.03]))
    item, _ = _ground(canvas, "road", strip(line, rng.uniform(0.085, 0.12)))
    if rng.random() < 0.75:
        for start in range(0, len(line) - 1, 2):
            _polygon(canvas, item, strip(line[start : start + 2], 0.009), _MARKING)
    return line


def _across(canvas: Canvas, turn: float, bend: float, *, spread: float = 0.2) -> list[Point]:
    """A winding line from outside of the picture to outside, through about its middle."""
    wide, high = _extent(canvas)
    x, y = canvas.rng.uniform(0.5 - spread, 0.5 + spread, 2)
    return winding(canvas.rng, (wide * x, high * y), turn, bend, reach=wide + high)


def _ground(canvas: Canvas, label: str, points: Sequence[Point]) -> tuple[int, Colour]:
    """A ground of one colour. Returns its item number and the colour."""
    rng = canvas.rng
    colours, amount = GROUNDS[label], 5 if label == "road" else 16
    colour = jitter(rng, colours[rng.integers(len(colours))], amount)
    item = canvas.new_item(label, textured=0)
    _polygon(canvas, item, points, colour)
    return item, colour


# ---- things


def _traffic(canvas: Canvas, road: Sequence[Point], taken: list[Point]) -> None:
    """Cars and buses along the middle of a road, each on its side of it."""
    rng, (wide, high) = canvas.rng, _extent(canvas)
    for _ in range(int(rng.integers(2, 6))):
        k = int(rng.integers(len(road) - 1))
        (x0, y0), (x1, y1) = road[k], road[k + 1]
        turn, side = math.atan2(y1 - y0, x1 - x0), rng.choice([-1, 1])
        x, y = x0 - math.sin(turn) * 0.022 * side, y0 + math.cos(turn) * 0.022 * side
        if 0.03 < x < wide - 0.03 and 0.03 < y < high - 0.03 and _apart((x, y), taken, 0.13):
            things = _ON["road"]
            _put(canvas, things[rng.integers(len(things))], (x, y), turn + (side < 0) * math.pi)
            taken.append((x, y))


def _settle(canvas: Canvas, direction: float, taken: list[Point]) -> None:
    """Things on the fields and the water, where there is room for them."""
    rng, (wide, high) = canvas.rng, _extent(canvas)
    wanted = len(taken) + int(rng.integers(8, 20))
    for _ in range(240):
        x, y = rng.uniform(0.04, wide - 0.04), rng.uniform(0.04, high - 0.04)
        label = _same_ground(canvas, (x, y), 0.055)
        if len(taken) >= wanted:
            return
        if label in (None, "road") or not _apart((x, y), taken, 0.14):
            continue
        things = _ON[label]
        thing = things[rng.integers(len(things))]
        along = direction + rng.integers(4) * math.pi / 2 + rng.normal(0, 0.08)
        _put(canvas, thing, (x, y), along if thing == "house" else rng.uniform(0, 2 * math.pi))
        taken.append((x, y))


def _fly(canvas: Canvas) -> None:
    """Something high above everything."""
    rng, (wide, high) = canvas.rng, _extent(canvas)
    for _ in range(int(rng.integers(1, 3))):
        thing = _IN_THE_AIR[rng.integers(len(_IN_THE_AIR))]
        centre = (wide * rng.uniform(0.12, 0.88), high * rng.uniform(0.12, 0.88))
        _put(canvas, thing, centre, rng.uniform(0, 2 * math.pi))


def _wood(canvas: Canvas, taken: list[Point]) -> None:
    """Trees close together on one field."""
    rng, (wide, high) = canvas.rng, _extent(canvas)
    middle = (wide * rng.uniform(0.1, 0.9), high * rng.uniform(0.1, 0.9))
    for _ in range(int(rng.integers(8, 26))):
        x, y = middle[0] + rng.normal(0, 0.09), middle[1] + rng.normal(0, 0.09)
        near = _same_ground(canvas, (x, y), 0.05)
        if near in ("grass", "snow") and _apart((x, y), taken, 0.07):
            _put(canvas, "tree", (x, y), rng.uniform(0, 2 * math.pi))
            taken.append((x, y))


def _put(canvas: Canvas, thing: str, centre: Point, turn: float) -> None:
    height = canvas.rng.uniform(*TABLE[thing].height)
    x, y = centre[0] * canvas.unit_x, centre[1] * canvas.unit_y
    item = place(canvas, thing, x, y + height / 2 * canvas.unit_y, height, turn, table=TABLE)
    canvas.textures.pop(item, None)  # too small for one


def _same_ground(canvas: Canvas, centre: Point, radius: float) -> str | None:
    """The label at a point, if it is the same all around."""
    (x, y), (wide, high) = centre, _extent(canvas)
    around = [(x + dx * radius, y + dy * radius) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    inside = [(a / wide, b / high) for a, b in around if 0 <= a < wide and 0 <= b < high]
    labels = {canvas.items[canvas.item_at(point) - 1].label for point in inside}
    return labels.pop() if len(labels) == 1 else None


def _apart(point: Point, taken: Sequence[Point], distance: float) -> bool:
    return all(math.dist(point, other) > distance for other in taken)


def _extent(canvas: Canvas) -> tuple[float, float]:
    """Width and height of the picture."""
    return 1 / canvas.unit_x, 1 / canvas.unit_y


def _polygon(canvas: Canvas, item: int, points: Sequence[Point], colour: Colour) -> None:
    canvas.polygon(item, [(x * canvas.unit_x, y * canvas.unit_y) for x, y in points], colour)
