"""Classes that the training never draws, asked for by descriptions made of trained words.

They are drawn here and nowhere else, in the manner of `scenes.things`. Nothing is expected of
them: their figures say how far known words carry.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .described import finished
from .evaluation import Sight, winners, without_refinement
from .scene_sources import SIZE
from .scenes.canvas import Canvas
from .scenes.grounds import EVERYWHERE, ground, sky
from .scenes.palette import COLOURS, GLASS, INK, Colour, jitter, shade
from .scenes.pen import Pen
from .scenes.things import TABLE, place

SEED: Final = 5  # with the position of the class and of its picture

_BEAK: Final[Colour] = (240, 140, 40)
_WHITE: Final[Colour] = (244, 243, 238)


def duck(pen: Pen, rng: np.random.Generator) -> None:
    """Swimming, so without legs; a flat bill."""
    yellow = jitter(rng, COLOURS["yellow"], 14)
    pen.ellipse(0.55, 0.72, 0.42, 0.26, yellow)
    pen.polygon([(0.85, 0.62), (1.0, 0.4), (0.98, 0.75)], shade(yellow, 0.9))
    pen.ellipse(0.58, 0.68, 0.22, 0.14, shade(yellow, 0.85))
    pen.ellipse(0.26, 0.32, 0.2, 0.24, yellow)
    pen.ellipse(0.06, 0.38, 0.1, 0.05, _BEAK)
    pen.ellipse(0.22, 0.26, 0.03, 0.035, INK)


def cactus(pen: Pen, rng: np.random.Generator) -> None:
    """A thick stem with two arms that turn up."""
    green = jitter(rng, (60, 140, 70), 14)
    pen.box(0.38, 0.12, 0.62, 1, green)
    pen.ellipse(0.5, 0.13, 0.12, 0.11, green)
    for x, y, top in ((0.16, 0.6, 0.32), (0.84, 0.48, 0.2)):
        pen.line(0.5, y, x, y, 0.12, shade(green, 0.92))
        pen.line(x, y + 0.05, x, top, 0.17, shade(green, 0.92))
        pen.ellipse(x, top, 0.085, 0.06, shade(green, 0.92))
    for x in (0.45, 0.55):
        pen.line(x, 0.12, x, 1, 0.015, shade(green, 0.7))


def lighthouse(pen: Pen, rng: np.random.Generator) -> None:
    """A tower in red and white rings with a lantern."""
    red = jitter(rng, COLOURS["red"], 14)
    rings = 5
    for i in range(rings):
        top, bottom = 0.25 + 0.75 * i / rings, 0.25 + 0.75 * (i + 1) / rings
        upper, lower = 0.2 + 0.14 * i / rings, 0.2 + 0.14 * (i + 1) / rings
        corners = [(0.5 - upper, top), (0.5 + upper, top), (0.5 + lower, bottom)]
        pen.polygon([*corners, (0.5 - lower, bottom)], (red, _WHITE)[i % 2])
    pen.box(0.24, 0.21, 0.76, 0.26, INK)
    pen.box(0.34, 0.1, 0.66, 0.21, (252, 235, 150))
    pen.polygon([(0.28, 0.1), (0.5, 0.0), (0.72, 0.1)], shade(red, 0.7))


def truck(pen: Pen, rng: np.random.Generator) -> None:
    """A cab in front of a long box."""
    words = [word for word in COLOURS if word not in ("black", "gray", "brown")]
    cab, box = (jitter(rng, COLOURS[str(rng.choice(words))]) for _ in range(2))
    pen.box(0.3, 0.05, 1, 0.8, box)
    pen.polygon([(0.02, 0.8), (0.02, 0.45), (0.1, 0.2), (0.28, 0.2), (0.28, 0.8)], cab)
    pen.polygon([(0.06, 0.46), (0.12, 0.26), (0.22, 0.26), (0.22, 0.46)], GLASS)
    pen.box(0, 0.76, 1, 0.84, INK)
    for x in (0.16, 0.55, 0.86):
        pen.ellipse(x, 0.85, 0.075, 0.15, INK)
        pen.ellipse(x, 0.85, 0.035, 0.07, (180, 180, 185))


def submarine(pen: Pen, rng: np.random.Generator) -> None:
    """A long hull with a tower and round windows."""
    yellow = jitter(rng, COLOURS["yellow"], 14)
    pen.box(0.42, 0.14, 0.62, 0.45, shade(yellow, 0.9))
    pen.line(0.56, 0.0, 0.56, 0.16, 0.03, INK)
    pen.line(0.54, 0.02, 0.64, 0.02, 0.05, INK)
    pen.ellipse(0.48, 0.64, 0.46, 0.34, yellow)
    pen.polygon([(0.88, 0.64), (1, 0.36), (1, 0.92)], shade(yellow, 0.75))
    for x in (0.24, 0.44, 0.64):
        pen.ellipse(x, 0.6, 0.06, 0.1, INK)
        pen.ellipse(x, 0.6, 0.045, 0.075, GLASS)


@dataclass(frozen=True)
class Unseen:
    """A row of the table."""

    draw: Callable[[Pen, np.random.Generator], None]
    words: str  # what it is asked for as; every word is trained
    aspect: float  # width / height
    height: tuple[float, float]  # in short sides of the picture
    ground: str
    beside: tuple[str, ...]  # trained things that share the picture


UNSEEN: Final[Mapping[str, Unseen]] = {
    "duck": Unseen(duck, "yellow bird", 1.25, (0.18, 0.32), "sea", ("boat", "cloud")),
    "cactus": Unseen(cactus, "green tree", 0.75, (0.3, 0.5), "sand", ("sun", "tent")),
    "lighthouse": Unseen(lighthouse, "striped house", 0.45, (0.5, 0.7), "sea", ("boat", "cloud")),
    "truck": Unseen(truck, "vehicle", 2.0, (0.2, 0.3), "road", ("tree", "person")),
    "submarine": Unseen(submarine, "yellow boat", 1.9, (0.2, 0.32), "sea", ("fish",)),
}
"""Classes outside of `scenes.LABELS`."""


@dataclass(frozen=True)
class Shown:
    """A picture with one unseen thing."""

    image: NDArray[np.uint8]  # [S, S, 3]
    mask: NDArray[np.bool_]  # [S, S]
    words: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """Pixels that answer and truth share, and pixels in either."""

    shared: int
    either: int


def picture(name: str, index: int) -> Shown:
    """Picture number `index` of one class, with grounds and trained things beside it."""
    unseen = UNSEEN[name]
    rng = np.random.default_rng((SEED, list(UNSEEN).index(name), index))
    canvas = Canvas(rng, (SIZE, SIZE))
    horizon = rng.uniform(0.35, 0.5)
    if name == "submarine":
        ground(canvas, "sea", EVERYWHERE, open_air=False)
    else:
        sky(canvas, horizon, night=False)
        ground(canvas, unseen.ground, [(0, horizon), (1, horizon)])
    middle = rng.uniform(0.3, 0.7)
    for label in unseen.beside:
        x = (middle + rng.uniform(0.35, 0.65)) % 1
        height = rng.uniform(*TABLE[label].height)
        aloft = label in ("sun", "cloud")
        foot = max(height, rng.uniform(0.1, horizon - 0.02)) if aloft else rng.uniform(0.6, 0.75)
        place(canvas, label, x, foot, height)
    others = tuple(dict.fromkeys(item.label for item in canvas.items if item.label))
    height = rng.uniform(*unseen.height)
    item = canvas.new_item(None)
    centre = (middle, rng.uniform(0.78, 0.92) - height / 2)
    size_wh = (height * unseen.aspect, height)
    pen = Pen(canvas, item, centre, size_wh, mirrored=bool(rng.random() < 0.5))
    unseen.draw(pen, rng)
    scene = finished(canvas)
    return Shown(scene.image, scene.instances == item, unseen.words, others)


def look(sight: Sight, shown: Shown) -> tuple[Overlap, Overlap]:
    """What the description covers, without and with refinement."""
    words = sight.method.read((shown.words, *shown.others), background=())
    state = sight.method.observe(shown.image)
    found = [winners(sight.score(seen, words)) == 1 for seen in (without_refinement(state), state)]
    coarse, refined = (
        Overlap(int((mask & shown.mask).sum()), int((mask | shown.mask).sum())) for mask in found
    )
    return coarse, refined


def unseen_figures(
    overlaps: Mapping[str, Sequence[tuple[Overlap, Overlap]]],
) -> dict[str, dict[str, float]]:
    """IoU in percent over all pictures of a class, by class and description."""
    titles = {name: f"{name}, asked for as '{UNSEEN[name].words}'" for name in overlaps}
    rows = {}
    for row, way in (("unseen", 0), ("unseen refined", 1)):
        rows[row] = {titles[name]: _iou([p[way] for p in o]) for name, o in overlaps.items()}
    return rows


def _iou(parts: Sequence[Overlap]) -> float:
    return 100 * sum(p.shared for p in parts) / max(1, sum(p.either for p in parts))
