"""Every thing that can stand in a scene: how it is drawn, how large, in which colours.

To add one, write its drawing function in the file of its subject, add its name to `names.THINGS`
and one line to the table below.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..canvas import Canvas
from ..palette import COLOURS, Colour, jitter
from ..pen import Pen
from . import living, made, sky, vehicles

Draw = Callable[[Pen, np.random.Generator, Colour], None]
"""Draws one thing into its unit box."""


@dataclass(frozen=True)
class Thing:
    """A row of the table."""

    draw: Draw
    aspect: float  # width / height
    height: tuple[float, float]  # smallest and largest, in short sides of the picture
    colours: tuple[str, ...] | tuple[Colour, ...]  # words, or colours that have no word here
    named: bool = True  # whether a caption may say the colour
    bold: float = 0.0  # how often it has bold stripes or dots


_BOLD = 0.22
_ANY = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
_SUN = ((250, 205, 60), (250, 160, 60), (255, 225, 120), (240, 90, 60))
_MOON = ((245, 240, 205), (250, 250, 250), (245, 215, 120))
_CLOUD = ((250, 250, 252), (225, 230, 238), (190, 195, 205), (250, 225, 225))
_STAR = ((250, 220, 80), (255, 255, 230), (245, 170, 60))
_LEAVES = (
    (50, 140, 60), (90, 170, 60), (30, 105, 60), (210, 120, 40), (235, 150, 180), (160, 60, 50),
)  # fmt: skip
_WALLS = ("white", "yellow", "red", "blue", "pink", "gray", "orange", "brown", "green")
_COACH = ("red", "yellow", "blue", "green", "orange", "white", "pink")
_HULL = ("red", "brown", "blue", "white", "green", "black", "orange")
_SCALES = ("red", "orange", "yellow", "blue", "purple", "pink", "green")
_PETALS = ("red", "orange", "yellow", "blue", "purple", "pink", "white")
_FEATHERS = ("red", "blue", "yellow", "black", "white", "brown", "green")
_CAPS = ("red", "brown", "orange", "purple", "white")
_DOG = ("brown", "black", "white", "gray", "orange")
_CAT = ("orange", "black", "white", "gray", "brown")
_WINGS = ("orange", "blue", "yellow", "purple", "pink", "red")
_JET = ("white", "gray", "red", "blue", "yellow")
_POST = ("black", "gray", "green", "brown")
_SCARF = ("red", "blue", "green", "purple")
_CANVAS = ("red", "orange", "green", "blue", "yellow", "purple")
_FINS = ("red", "blue", "orange", "green", "black")
_TOY = ("red", "blue", "yellow", "green", "orange", "purple", "pink")

TABLE: Final[dict[str, Thing]] = {
    "sun": Thing(sky.sun, 1.0, (0.16, 0.34), _SUN, named=False),
    "moon": Thing(sky.moon, 1.0, (0.14, 0.28), _MOON, named=False),
    "cloud": Thing(sky.cloud, 2.0, (0.1, 0.2), _CLOUD, named=False),
    "star": Thing(sky.star, 1.0, (0.07, 0.18), _STAR, named=False),
    "tree": Thing(living.tree, 0.68, (0.3, 0.62), _LEAVES, named=False),
    "house": Thing(made.house, 1.1, (0.3, 0.55), _WALLS, bold=_BOLD),
    "car": Thing(vehicles.car, 2.1, (0.13, 0.27), _ANY, bold=_BOLD),
    "bus": Thing(vehicles.bus, 2.1, (0.2, 0.34), _COACH, bold=_BOLD),
    "boat": Thing(vehicles.boat, 1.0, (0.22, 0.45), _HULL, bold=_BOLD),
    "fish": Thing(living.fish, 1.7, (0.1, 0.24), _SCALES, bold=_BOLD),
    "flower": Thing(living.flower, 0.62, (0.16, 0.38), _PETALS),
    "person": Thing(living.person, 0.52, (0.26, 0.5), _ANY, named=False),
    "bird": Thing(living.bird, 1.3, (0.1, 0.24), _FEATHERS),
    "balloon": Thing(vehicles.balloon, 0.72, (0.26, 0.46), _ANY[:7], bold=_BOLD),
    "rainbow": Thing(sky.rainbow, 2.0, (0.28, 0.46), ((0, 0, 0),), named=False),
    "mushroom": Thing(living.mushroom, 0.95, (0.14, 0.3), _CAPS, bold=_BOLD),
    "dog": Thing(living.dog, 1.25, (0.16, 0.3), _DOG, bold=_BOLD),
    "cat": Thing(living.cat, 0.85, (0.2, 0.34), _CAT, bold=_BOLD),
    "butterfly": Thing(living.butterfly, 1.0, (0.1, 0.24), _WINGS, bold=_BOLD),
    "plane": Thing(vehicles.plane, 2.2, (0.12, 0.23), _JET),
    "lamp": Thing(made.lamp, 0.28, (0.38, 0.62), _POST, named=False),
    "snowman": Thing(made.snowman, 0.66, (0.28, 0.5), _SCARF, named=False),
    "tent": Thing(made.tent, 1.35, (0.2, 0.38), _CANVAS, bold=_BOLD),
    "rocket": Thing(vehicles.rocket, 0.55, (0.28, 0.5), _FINS, bold=_BOLD),
    "umbrella": Thing(made.umbrella, 1.0, (0.2, 0.4), _ANY, bold=_BOLD),
    "ball": Thing(made.ball, 1.0, (0.09, 0.22), _TOY, bold=_BOLD),
    "fence": Thing(made.fence, 2.6, (0.12, 0.24), ("white", "brown", "gray")),
}


def place(
    canvas: Canvas,
    label: str,
    x: float,
    foot: float,
    height: float,
    turn: float = 0.0,
    *,
    colour_word: str | None = None,
    table: Mapping[str, Thing] = TABLE,
) -> int:
    """Draw a `label` whose box is centred at `x` and stands on `foot`. Returns its item number.

    Its colour is a random one of the `table`, unless `colour_word` is given.
    """
    rng, thing = canvas.rng, table[label]
    choice = colour_word or thing.colours[rng.integers(len(thing.colours))]
    word = choice if isinstance(choice, str) and thing.named else None
    colour = jitter(rng, COLOURS[choice] if isinstance(choice, str) else choice, 18)
    item = canvas.new_item(label, word, bold=thing.bold)
    size_wh = (height * thing.aspect * rng.uniform(0.88, 1.14), height)
    centre = (x, foot - height / 2 * canvas.unit_y)
    turn = turn + rng.normal(0, 0.03)
    pen = Pen(canvas, item, centre, size_wh, turn=turn, mirrored=bool(rng.random() < 0.5))
    thing.draw(pen, rng, colour)
    return item
