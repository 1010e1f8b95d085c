"""Put a scene together: choose a place, lay the grounds, set things where they belong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .canvas import Canvas, Item, Point, Texture
from .grounds import (
    DAY_SKIES,
    EVERYWHERE,
    GROUNDS,
    gradient,
    ground,
    mountains,
    road_markings,
    sky,
    wavy,
)
from .names import THINGS
from .palette import Colour, jitter
from .things import TABLE, place

# one entry = one ticket: a thing named twice is drawn twice as often
_DAY_AIR = (
    "sun", "cloud", "cloud", "bird", "balloon", "plane", "rainbow", "butterfly", "rocket", "star",
)  # fmt: skip
_NIGHT_AIR = ("moon", "star", "star", "cloud", "plane", "rocket", "bird")
_ANY_AIR = (
    "sun", "moon", "star", "cloud", "bird", "balloon", "plane", "rocket", "rainbow", "butterfly",
)  # fmt: skip
_ON_MEADOW = (
    "tree", "tree", "house", "house", "person", "person", "dog", "cat", "flower", "flower",
    "mushroom", "lamp", "tent", "umbrella", "ball", "fence", "butterfly", "snowman", "bird",
)  # fmt: skip
_ON_SNOW = (
    "tree", "tree", "house", "person", "dog", "cat", "snowman", "snowman", "fence", "lamp",
    "tent", "bird", "car",
)  # fmt: skip
_ON_BEACH = (
    "umbrella", "umbrella", "person", "person", "ball", "ball", "dog", "tent", "cat", "boat",
    "bird", "tree", "house",
)  # fmt: skip
_ON_SEA = ("boat", "boat", "boat", "fish", "fish", "bird", "ball", "balloon")
_ALONG_STREET = (
    "house", "house", "house", "tree", "tree", "lamp", "person", "fence", "flower", "dog",
)  # fmt: skip
_ON_STREET = ("car", "car", "car", "bus", "bus", "person", "dog", "lamp", "cat", "ball")


@dataclass(frozen=True)
class Stand:
    """Room for `count` things, one of `choices` each, standing between `top` and `bottom`."""

    choices: Sequence[str]
    top: float
    bottom: float
    count: int


@dataclass(frozen=True)
class Outdoors:
    """What the layouts of open air share."""

    canvas: Canvas
    horizon: float
    edge: list[Point]  # the horizon as a line, straight or wavy
    night: bool

    def ground(self, label: str, edge: Sequence[Point], bottom: float = 1.02) -> int:
        return ground(self.canvas, label, edge, bottom=bottom, night=self.night)


def sticker(canvas: Canvas) -> None:
    """One to three things on a plain ground that has no label."""
    rng = canvas.rng
    colour = _random_colour(canvas, 30, 250)
    other = jitter(rng, colour, 45)
    canvas.items.append(Item())
    canvas.textures[1] = Texture(
        kind=int(rng.integers(0, 4)),
        strength=rng.uniform(0, 25),
        period=rng.uniform(3, 12),
        angle=rng.uniform(0, 3.1),
    )
    gradient(canvas, 1, 0, 1.01, colour, other)
    _large_things(canvas)


def closeup(canvas: Canvas) -> None:
    """One to three large things before one ground or the sky."""
    rng = canvas.rng
    jitter(rng, _random_colour(canvas, 30, 250), 45)  # keeps the same stream as `sticker`
    label = str(rng.choice(["sky", "grass", "sea", "sand", "snow", "road"]))
    if label == "sky":
        item = canvas.new_item("sky", hour="day")
        top, bottom = DAY_SKIES[rng.integers(len(DAY_SKIES))]
        gradient(canvas, item, 0, 1.01, jitter(rng, top), jitter(rng, bottom))
    else:
        ground(canvas, label, EVERYWHERE)
    _large_things(canvas)


def underwater(canvas: Canvas) -> None:
    """Fish in the sea, perhaps a sandy bottom, perhaps a boat."""
    rng = canvas.rng
    ground(canvas, "sea", EVERYWHERE, open_air=False)
    if rng.random() < 0.7:
        ground(canvas, "sand", wavy(rng, rng.uniform(0.75, 0.9), 0.03), open_air=False)
    for _ in range(int(rng.integers(2, 6))):
        x, foot, height = rng.uniform(0.1, 0.9), rng.uniform(0.25, 0.9), rng.uniform(0.12, 0.32)
        place(canvas, "fish", x, foot, height, rng.normal(0, 0.15))
    if rng.random() < 0.35:
        x, foot, height = rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.5), rng.uniform(0.25, 0.4)
        place(canvas, "boat", x, foot, height)


def meadow(view: Outdoors) -> Stand:
    view.ground("grass", view.edge)
    return _stand(view, _ON_MEADOW, view.horizon + 0.05, 0.98, (2, 6))


def snow(view: Outdoors) -> Stand:
    view.ground("snow", view.edge)
    return _stand(view, _ON_SNOW, view.horizon + 0.05, 0.98, (2, 6))


def beach(view: Outdoors) -> Stand:
    """The sea, and before it sand or grass."""
    canvas, rng, horizon = view.canvas, view.canvas.rng, view.horizon
    view.ground("sea", [(0, horizon), (1, horizon)])
    shore = rng.uniform(horizon + 0.12, min(0.85, horizon + 0.3))
    if rng.random() < 0.6:
        x, foot = rng.uniform(0.15, 0.85), rng.uniform(horizon + 0.03, shore - 0.02)
        place(canvas, "boat", x, foot, rng.uniform(0.16, 0.36))
    label = str(rng.choice(["sand", "sand", "sand", "grass"]))
    view.ground(label, wavy(rng, shore, 0.03))
    return _stand(view, _ON_BEACH, shore + 0.04, 0.98, (1, 4))


def sea(view: Outdoors) -> Stand:
    straight = [(0.0, view.horizon), (1.0, view.horizon)]
    view.ground("sea", view.edge if view.canvas.rng.random() < 0.3 else straight)
    return _stand(view, _ON_SEA, view.horizon + 0.05, 0.98, (1, 5))


def city(view: Outdoors) -> Stand:
    """Houses and trees along a road, traffic in front."""
    canvas, rng = view.canvas, view.canvas.rng
    label = str(rng.choice(["grass", "grass", "snow", "sand", "road"]))
    view.ground(label, view.edge)
    kerb = rng.uniform(max(view.horizon + 0.08, 0.6), 0.82)
    for _ in range(int(rng.integers(1, 4))):
        thing = str(rng.choice(_ALONG_STREET))
        x, foot = rng.uniform(0.08, 0.92), rng.uniform(view.horizon + 0.04, kerb)
        place(canvas, thing, x, foot, rng.uniform(*TABLE[thing].height))
    if label != "road" or rng.random() < 0.5:
        bottom = rng.uniform(kerb + 0.14, 1.1)
        road = view.ground("road", [(0, kerb), (1, kerb)], bottom)
        if rng.random() < 0.6:
            road_markings(canvas, road, (kerb + min(bottom, 1)) / 2)
    return _stand(view, _ON_STREET, kerb + 0.06, 0.97, (1, 4))


def chaos(view: Outdoors) -> Stand:
    """Anything anywhere."""
    view.ground(str(view.canvas.rng.choice(list(GROUNDS))), view.edge)
    return _stand(view, THINGS, 0.3, 0.98, (3, 6))


INDOORS: Final[dict[str, Callable[[Canvas], None]]] = {
    "sticker": sticker,
    "closeup": closeup,
    "underwater": underwater,
}
"""Layouts without a horizon."""

OUTDOORS: Final[dict[str, Callable[[Outdoors], Stand]]] = {
    "meadow": meadow,
    "sea": sea,
    "city": city,
    "snow": snow,
    "beach": beach,
    "chaos": chaos,
}
"""Layouts with sky, horizon and ground."""

FREQUENCIES: Final[dict[str, float]] = {
    "meadow": 0.24,
    "sea": 0.15,
    "city": 0.17,
    "snow": 0.1,
    "beach": 0.1,
    "underwater": 0.05,
    "sticker": 0.08,
    "closeup": 0.05,
    "chaos": 0.06,
}
"""How often each layout is drawn; sums to 1."""


def draw(canvas: Canvas) -> None:
    """Fill the canvas with one randomly chosen layout."""
    rng = canvas.rng
    kind = str(rng.choice(list(FREQUENCIES), p=list(FREQUENCIES.values())))
    if kind in ("sticker", "closeup"):
        INDOORS[kind](canvas)
        return
    night = bool(rng.random() < 0.2)
    horizon = rng.uniform(0.36, 0.66)
    if kind == "underwater":
        underwater(canvas)
        return
    _outdoors(canvas, kind, horizon, night=night)


def _outdoors(canvas: Canvas, kind: str, horizon: float, *, night: bool) -> None:
    rng = canvas.rng
    if rng.random() < 0.93:
        sky(canvas, horizon, night=night)
    else:
        canvas.items.append(Item())
        gradient(canvas, 1, 0, 1, _random_colour(canvas, 60, 240), (230, 225, 215))
    choices: Sequence[str] = _NIGHT_AIR if night else _DAY_AIR
    if rng.random() < 0.12:
        choices = _ANY_AIR
    in_the_air = int(rng.integers(1, 5))
    behind_mountains = rng.random() < 0.5
    if behind_mountains:
        _fill_sky(canvas, choices, in_the_air, horizon)
    if rng.random() < (0.25 if kind == "sea" else 0.4):
        mountains(canvas, horizon, night=night)
    if not behind_mountains:
        _fill_sky(canvas, choices, in_the_air, horizon)
    roughness = rng.choice([0, 0, 0.02, 0.035])
    view = Outdoors(canvas, horizon, wavy(rng, horizon, roughness), night)
    _fill_stand(canvas, OUTDOORS[kind](view), horizon)


def _fill_sky(canvas: Canvas, choices: Sequence[str], count: int, horizon: float) -> None:
    """Hang things above the horizon, apart from each other where that is possible."""
    rng, seen, taken = canvas.rng, set[str](), list[Point]()
    for _ in range(count):
        thing = choices[int(rng.integers(len(choices)))]
        height = rng.uniform(*TABLE[thing].height) * rng.uniform(0.8, 1.1)
        if thing in ("sun", "moon", "rainbow") and thing in seen:
            continue
        for _attempt in range(6):
            x, y = rng.uniform(0.08, 0.92), rng.uniform(0.05, max(0.12, horizon - 0.05))
            if all(abs(x - a) > 0.18 or abs(y - b) > 0.15 for a, b in taken):
                break
        seen.add(thing)
        taken.append((x, y))
        foot = horizon + 0.02 if thing == "rainbow" else y + height / 2 * canvas.unit_y
        tilts = thing in ("plane", "bird", "rocket", "butterfly")
        place(canvas, thing, x, foot, height, rng.normal(0, 0.08) if tilts else 0.0)


def _fill_stand(canvas: Canvas, stand: Stand, horizon: float) -> None:
    """Set things on the ground, back to front, larger towards the front."""
    rng = canvas.rng
    feet = sorted(rng.uniform(stand.top, stand.bottom) for _ in range(stand.count))
    columns = list(rng.permutation(stand.count))
    for column, foot in zip(columns, feet, strict=True):
        thing = stand.choices[int(rng.integers(len(stand.choices)))]
        if rng.random() < 0.06:
            thing = THINGS[rng.integers(len(THINGS))]
        nearness = (foot - horizon) / (1 - horizon + 1e-3)
        height = rng.uniform(*TABLE[thing].height) * (0.75 + 0.4 * nearness)
        x = (column + 0.5 + rng.uniform(-0.35, 0.35)) / stand.count
        lifted = thing in ("butterfly", "balloon") and rng.random() < 0.7
        y = foot - rng.uniform(0.05, 0.25) if lifted else foot
        place(canvas, thing, x, y, height, rng.normal(0, 0.12) if _floats(thing) else 0.0)


def _floats(thing: str) -> bool:
    return thing in ("fish", "butterfly")


def _large_things(canvas: Canvas) -> None:
    """One to three large things side by side."""
    rng = canvas.rng
    count = int(rng.integers(1, 4))
    for i in range(count):
        thing = THINGS[rng.integers(len(THINGS))]
        height = rng.uniform(0.35, 0.8) if count == 1 else rng.uniform(0.2, 0.45)
        height = min(height, 0.9 / TABLE[thing].aspect)
        x = (i + 0.5) / count + rng.normal(0, 0.04)
        foot = 0.5 + height / 2 * canvas.unit_y + rng.uniform(-0.15, 0.15)
        place(canvas, thing, x, foot, height, rng.normal(0, 0.2))


def _stand(
    view: Outdoors, choices: Sequence[str], top: float, bottom: float, counts: tuple[int, int]
) -> Stand:
    return Stand(choices, top, bottom, int(view.canvas.rng.integers(*counts)))


def _random_colour(canvas: Canvas, low: int, high: int) -> Colour:
    red, green, blue = (int(v) for v in canvas.rng.uniform(low, high, 3))
    return red, green, blue
