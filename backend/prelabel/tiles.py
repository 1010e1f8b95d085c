"""Pictures of a sample, made small as they pass by, and painted with what was found in them."""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import ImageColor

from .. import overlay
from ..errors import BadMask
from ..labelstudio.label_config import ANSWERS
from ..labelstudio.regions import FORMATS
from ..labelstudio.tasks import Region, Task
from ..outcomes import Predicted
from ..overlay import Colour
from ..painting import written_name
from ..plan import View

TILE = 360  # pixels of the longer side
LARGEST = 8.0  # times a tiny picture is enlarged
PER_TASK = 4  # tiles of a task with a list of pictures
MOST = 200  # tiles, each with its masks: 155 MB at the largest
VISIBLE = 0.4  # share of a tile's pixel that has to be covered
DOT = 4  # pixels, radius of a key point

Small = UInt8[np.ndarray, "tile_h tile_w 3"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """One region or answer. `area` is a share of the picture, 0 for answers."""

    control: str
    label: str
    area: float


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of the sheet, or why there is none.

    picture  as it is, and `painted` with its masks
    index    its number in a list of `of` pictures, None for a single one
    labels   found in it, each once, answers included
    """

    task: int
    picture: Small | None = None
    painted: Small | None = None
    index: int | None = None
    of: int = 1
    regions: int = 0
    score: float | None = None
    labels: tuple[tuple[str, str], ...] = ()
    reason: str = ""


class Palette:
    """Colours of labels: the config's `background`, else one of ours."""

    def __init__(self) -> None:
        self._colours: dict[tuple[str, str], Colour] = {}

    def learn(self, view: View) -> None:
        """Labels that come up in a picture."""
        for one in view.wanted:
            for label in (*one.sought, *([one.rest] if one.rest else [])):
                key = (one.control.from_name, written_name(one.control, label))
                if key not in self._colours:
                    ours = overlay.colours(len(self._colours) + 1)[-1]
                    self._colours[key] = _colour(label.colour) or ours

    def colour(self, control: str, label: str) -> Colour:
        return self._colours.get((control, label), overlay.FAINT)


class Album:
    """Takes pictures from several threads; belongs to one thread otherwise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._small: dict[tuple[object, str], Small] = {}
        self._seen = 0
        self.tiles: list[Tile] = []

    def see(self, task: Task, view: View, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        """Keep a small copy, of a list's first pictures only, while there is room."""
        with self._lock:
            wanted = (view.index or 0) < PER_TASK and self._seen < MOST
            self._seen += wanted
        if wanted:
            small = scaled(pixels)
            with self._lock:
                self._small[task.id, view.place] = small

    def hang(
        self, task: Task, views: Sequence[View], outcome: Predicted, palette: Palette
    ) -> list[list[Found]]:
        """Tiles of a predicted task; returns what was found in each of its pictures."""
        told = []
        for view, written in zip(views, outcome.regions, strict=True):
            palette.learn(view)
            regions: list[Region] = json.loads(written)
            small = self._small.pop((task.id, view.place), None)
            masks: list[tuple[Bool[np.ndarray, "tile_h tile_w"], Colour]] = []
            found: list[Found] = []
            for region, labels in told_once(regions):
                mask = _mask(region)
                area = float(mask.mean()) if mask is not None and mask.size else 0.0
                control = str(region["from_name"])
                found += (Found(control=control, label=one, area=area) for one in labels)
                if mask is not None and small is not None and labels:
                    dot = str(region.get("type", "")).startswith("keypoint")
                    shown = _on_tile(mask, (small.shape[0], small.shape[1]), dot=dot)
                    masks.append((shown, palette.colour(control, labels[0])))
            told.append(found)
            if small is not None:
                self.tiles.append(
                    Tile(
                        task=int(task.id or 0),
                        picture=small,
                        painted=overlay.on_grey(small, masks),
                        index=view.index,
                        of=len(views),
                        regions=len({one["id"] for one in regions if one["type"] not in ANSWERS}),
                        score=outcome.score,
                        labels=tuple(dict.fromkeys((one.control, one.label) for one in found)),
                    )
                )
        return told

    def hang_failed(self, task: int, reason: str) -> None:
        with self._lock:
            for key in [key for key in self._small if key[0] == task]:
                del self._small[key]
        self.tiles.append(Tile(task=task, reason=reason))


def told_once(regions: Sequence[Region]) -> Iterator[tuple[Region, tuple[str, ...]]]:
    """Every region with its labels; of a pair the half with the shape, and the labels of both.

    Answers come likewise: choices, and paths of a taxonomy joined by strokes.
    """
    beside = {
        region["id"]: tuple(region["value"].get("labels", ()))
        for region in regions
        if region["type"] == "labels"
    }
    for region in regions:
        kind = region["type"]
        if kind == "labels":
            continue
        own = region["value"].get(kind, ()) if kind.endswith("labels") or kind in ANSWERS else ()
        if kind == "taxonomy":
            own = ["/".join(path) for path in own]
        yield region, tuple(own) or beside.get(region["id"], ())


def scaled(pixels: UInt8[np.ndarray, "height width 3"]) -> Small:
    """So that the longer side is a tile's; tiny ones grow no more than `LARGEST` times."""
    height, width = pixels.shape[:2]
    factor = min(TILE / max(height, width), LARGEST)
    size_wh = (max(round(width * factor), 1), max(round(height * factor), 1))
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size_wh, interpolation=kind), np.uint8)


def _mask(region: Region) -> Bool[np.ndarray, "height width"] | None:
    """Where the region is, at the picture's size; None where it has no place, or none to read."""
    kind = region["type"]
    if kind not in FORMATS:
        return None
    try:
        return FORMATS[kind].decode(region, (region["original_height"], region["original_width"]))
    except BadMask:
        return None


def _on_tile(
    mask: Bool[np.ndarray, "height width"], tile_hw: tuple[int, int], *, dot: bool
) -> Bool[np.ndarray, "tile_h tile_w"]:
    """The mask at a tile's size; a key point as a dot that can be seen."""
    size_wh = (tile_hw[1], tile_hw[0])
    if dot and mask.any():
        rows, columns = np.nonzero(mask)
        x = int(columns.mean() * tile_hw[1] / mask.shape[1])
        y = int(rows.mean() * tile_hw[0] / mask.shape[0])
        drawn = cv2.circle(np.zeros(tile_hw, np.uint8), (x, y), DOT, 1, -1)
        return np.asarray(drawn, bool)
    kind = cv2.INTER_AREA if mask.shape[0] > tile_hw[0] else cv2.INTER_LINEAR
    whole = np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255)
    cover = cv2.resize(whole, size_wh, interpolation=kind)
    return np.asarray(cover >= VISIBLE * 255, bool)


def _colour(text: str) -> Colour | None:
    """A colour as label configs write them; None for what is none."""
    try:
        found = ImageColor.getrgb(text)
    except ValueError:
        return None
    return (found[0], found[1], found[2])
