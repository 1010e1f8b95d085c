"""A data set of stripes, and the parts of a run over it; what a run needs is its label config."""

import json
from pathlib import Path

from backend.dataset.fetching import DatasetFetching
from backend.dataset.painter import Asked, Painter, views_plan
from backend.dataset.places import place_of
from backend.plan import Plan
from backend.settings import Settings
from backend.wiring import dataset_fetching, painter

from .colours import colour_source
from .pictures import brush_config, encoded, stripes

CONFIG = brush_config(("red", "green"))
COLOURS = ("red", "green", "blue", "white", "black")


def painter_of(spec: str, threads: int | None) -> Painter:
    return painter(Settings(), Asked(config=spec, extra={}), source=colour_source())


def fetching_of(spec: str, place: str = "/") -> tuple[DatasetFetching, Plan]:
    """Pictures lie on the file system of `place`."""
    plan = views_plan(Asked(config=spec, extra={}), {})
    return dataset_fetching(Settings(), place_of(place)), plan


def at(path: Path) -> str:
    """A file, as a task says where it is."""
    return json.dumps([str(path)])


def striped(number: int) -> bytes:
    """Another picture for every number, as far as there are colours and widths."""
    first, second = COLOURS[number % 5], COLOURS[(number // 5) % 5]
    return encoded(stripes(first, second, height=4 + number % 7, width=3 + number % 11))


def folder_of(root: Path, count: int, *, broken: tuple[int, ...] = ()) -> Path:
    """`count` pictures in two folders; `broken` ones are none."""
    for number in range(count):
        path = root / f"half-{number % 2}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture" if number in broken else striped(number))
    return root
