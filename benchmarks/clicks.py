"""Clicks and boxes through a real Label Studio: how fast, how right, and who takes the time.

    python -m benchmarks.clicks [--scenes 14] [--fresh 30] [--name proof-clicks]

A project of drawn scenes with masks, smart key points and smart rectangles of all demo
labels, predicted once; then for every thing in them a click on its innermost pixel, a
correction (the same click and one that takes away) and a box, one at a time in a drawn order,
through Label Studio's own endpoint and, for comparison, straight to `/predict`. Last, clicks on
pictures nobody looked at. Writes `results/proof-clicks.json`; exit status 1 if the 95th
percentile of the former is 300 ms or more, or a request got no region.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests
from jaxtyping import Bool

from backend.demo import projects
from backend.labelstudio.regions import FORMATS
from cliper_model.demo.scenes import LABELS, THINGS

from . import record
from .chain import Chain, chain, labels_of, summary, timed

LIMIT_MS = 300.0
SEED = 7  # of scenes, boxes and the order; used for nothing else
SMALLEST = 0.0005  # share of the picture: the service drops smaller pieces
LOOSE = 0.05  # of its sides, by which a box is drawn too large at most
MISTAKEN = 0.1  # of the thing's size, painted beside it, is worth a correction
KIND = "brushlabels"
CONFIG = """<View><Image name="image" value="$image"/>
  <BrushLabels name="masks" toName="image">{labels}</BrushLabels>
  <KeyPointLabels name="tips" toName="image" smart="true">{labels}</KeyPointLabels>
  <RectangleLabels name="boxes" toName="image" smart="true">{labels}</RectangleLabels></View>"""

Mask = Bool[np.ndarray, "height width"]
Pixel = tuple[int, int]  # row, column
Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One connected piece of one label in one picture."""

    picture: projects.Picture
    label: str
    truth: Mask

    @property
    def centre(self) -> Pixel:
        return innermost(self.truth)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One prompt's answer. `direct` is the same prompt sent straight to the service."""

    milliseconds: float
    direct_milliseconds: float
    mask: Mask
    regions: int


@dataclass(frozen=True, kw_only=True)
class Round:
    """What was asked about one thing.

    unwanted  where the correction takes something away
    mistaken  whether the thing is not there
    in_box    the label's truth inside the box
    """

    thing: Thing
    clicked: Answered
    unwanted: Pixel
    mistaken: bool
    corrected: Answered
    boxed: Answered
    in_box: Mask

    def holds(self, answer: Answered) -> bool:
        """Whether the answer is painted where the click was."""
        return bool(answer.mask[self.thing.centre])


class Editor:
    """Asks for the tasks of one project what the editor would ask for."""

    def __init__(self, servers: Chain) -> None:
        self._servers = servers
        self._config = CONFIG.format(labels=labels_of(LABELS))
        self._project = servers.api.create_project("clicks", self._config)
        self._model = servers.api.connect(self._project, servers.service, is_interactive=True)["id"]
        self._tasks: dict[str, dict[str, Any]] = {}

    def upload(self, pictures: Sequence[projects.Picture]) -> None:
        """One task per picture."""
        api = self._servers.api
        numbers = api.upload(self._project, {one.name: one.to_png() for one in pictures})
        by_number = {task["id"]: task for task in api.tasks(self._project)}
        self._tasks |= {name: by_number[number] for name, number in numbers.items()}

    def retrieve(self) -> int:
        """Predict every task once; returns how many are stored.

        Asked again as long as more come: one request ends after the service's time budget.
        """
        stored, before = 0, -1
        while before < stored:
            self._servers.api.retrieve_predictions(self._project)
            before, stored = stored, len(self._servers.api.predictions(self._project))
        return stored

    def ask(self, thing: Thing, items: Sequence[Item]) -> Answered:
        """First through Label Studio, then straight to the service."""
        task = self._tasks[thing.picture.name]
        context = {"result": list(items)}
        taken, answer = timed(
            lambda: self._servers.api.call(
                "POST",
                f"/api/ml/{self._model}/interactive-annotating",
                json={"task": task["id"], "context": context},
            )
        )
        body = {
            "tasks": [task],
            "project": f"{self._project}.0",
            "label_config": self._config,
            "params": {"login": None, "password": None, "context": context},
        }
        url = f"{self._servers.service}/predict"
        direct, straight = timed(lambda: requests.post(url, json=body, timeout=60))
        straight.raise_for_status()
        if answer.get("errors"):
            raise SystemExit(f"a click was not answered: {answer['errors']}")
        regions = answer["data"]["result"]
        mask = np.zeros_like(thing.truth)
        for region in regions:
            mask |= FORMATS[KIND].decode(region, (thing.truth.shape[0], thing.truth.shape[1]))
        return Answered(
            milliseconds=taken, direct_milliseconds=direct, mask=mask, regions=len(regions)
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Clicks through a real Label Studio.")
    parser.add_argument("--scenes", type=int, default=14, help="predicted before they are clicked")
    parser.add_argument("--fresh", type=int, default=30, help="scenes nobody looked at")
    parser.add_argument("--name", default="proof-clicks", help="of the result file")
    args = parser.parse_args()

    before = os.getloadavg()
    with (
        tempfile.TemporaryDirectory() as folder,
        chain(Path(folder)) as servers,
    ):
        figures = measure(servers, args.scenes, args.fresh)
    load = [round(value, 1) for value in os.getloadavg()]
    figures = {
        "seed": SEED,
        "threads of the service": os.environ.get("OMP_NUM_THREADS", "as many as torch takes"),
        "load_average before": [round(value, 1) for value in before],
        "load_average after": load,
        **figures,
    }
    path = record.write(args.name, figures)
    print(json.dumps(figures, indent=1))
    print(f"written to {path}")
    return 0 if figures["passed"] else 1


def measure(servers: Chain, scenes: int, fresh: int) -> dict[str, Any]:
    editor = Editor(servers)
    everything = projects.everything(scenes + fresh, SEED).pictures
    known, unknown = everything[:scenes], everything[scenes:]
    editor.upload(known)
    if editor.retrieve() != len(known):
        raise SystemExit("not every scene was predicted; see service.log")
    random = np.random.default_rng(SEED)
    things = [thing for picture in known for thing in things_of(picture)]
    before = servers.cpu_seconds()
    rounds = [one_round(editor, things[index], random) for index in random.permutation(len(things))]
    cpu = {name: seconds - before[name] for name, seconds in servers.cpu_seconds().items()}

    editor.upload(unknown)
    firsts = [
        editor.ask(largest, [point(largest, largest.centre)])
        for largest in (
            max(found, key=lambda thing: thing.truth.sum())
            for found in map(things_of, unknown)
            if found
        )
    ]

    by_kind = {
        "click": [one.clicked for one in rounds],
        "correction": [one.corrected for one in rounds],
        "box": [one.boxed for one in rounds],
    }
    answers = [answer for kind in by_kind.values() for answer in kind]
    through = summary([one.milliseconds for one in answers])
    ours = sum(one.direct_milliseconds for one in answers)
    unanswered = sum(one.regions == 0 for one in (*by_kind["click"], *by_kind["box"]))
    return {
        "labels": len(LABELS),
        "pictures": len(known),
        "things": len(things),
        "through Label Studio": through,
        "straight to /predict": summary([one.direct_milliseconds for one in answers]),
        "share of the time spent in /predict": round(
            ours / sum(a.milliseconds for a in answers), 3
        ),
        "processor time per prompt, ms": {  # the service answers each of them twice
            "Label Studio": round(1000 * cpu["Label Studio"] / len(answers), 1),
            "the service": round(1000 * cpu["the service"] / (2 * len(answers)), 1),
        },
        "through Label Studio, by kind": {
            kind: summary([one.milliseconds for one in those]) for kind, those in by_kind.items()
        },
        "first click on a picture nobody looked at": summary([one.milliseconds for one in firsts]),
        "IoU with what was meant": {
            "click": spread([iou(one.clicked.mask, one.thing.truth) for one in rounds]),
            "box": spread([iou(one.boxed.mask, one.in_box) for one in rounds]),
        },
        "clicked pixel is in the answer": share(one.holds(one.clicked) for one in rounds),
        "corrections": corrections(rounds),
        "clicks and boxes without a region": unanswered,
        "limit_ms": LIMIT_MS,
        "passed": bool(through["p95_ms"] < LIMIT_MS and unanswered == 0),
    }


def one_round(editor: Editor, thing: Thing, random: np.random.Generator) -> Round:
    """Click, take away, and draw a box."""
    keep = point(thing, thing.centre)
    clicked = editor.ask(thing, [keep])
    unwanted, mistaken = to_take_away(clicked.mask, thing)
    corrected = editor.ask(thing, [keep, point(thing, unwanted, positive=False)])
    box_xyxy = loose_box(thing.truth, random)
    in_box = np.zeros_like(thing.truth)
    left, top, right, bottom = (round(side) for side in box_xyxy)
    in_box[top:bottom, left:right] = thing.picture.truth[thing.label][top:bottom, left:right]
    return Round(
        thing=thing,
        clicked=clicked,
        unwanted=unwanted,
        mistaken=mistaken,
        corrected=corrected,
        boxed=editor.ask(thing, [rectangle(thing, box_xyxy)]),
        in_box=in_box,
    )


def things_of(picture: projects.Picture) -> list[Thing]:
    """Every piece of every label that is no ground, if the service would keep it."""
    found = []
    for label in THINGS:
        if label not in picture.truth:
            continue
        whole = picture.truth[label].astype(np.uint8)
        count, numbers = cv2.connectedComponents(whole, connectivity=4)
        for number in range(1, count):
            piece = numbers == number
            if piece.sum() >= SMALLEST * piece.size:
                found.append(Thing(picture=picture, label=label, truth=piece))
    return found


def innermost(mask: Mask) -> Pixel:
    """The pixel farthest from all others; the sides of the picture are outside."""
    inside = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)


def to_take_away(answer: Mask, thing: Thing) -> tuple[Pixel, bool]:
    """Where somebody would say no, and whether the answer is wrong there.

    The innermost pixel of what is painted beside the thing, if that is as large as MISTAKEN
    of the thing; else the pixel of the answer that is farthest from the click.
    """
    beside = answer & ~thing.truth
    if beside.sum() >= MISTAKEN * thing.truth.sum():
        return innermost(beside), True
    rows, columns = np.nonzero(answer if answer.any() else thing.truth)
    row, column = thing.centre
    farthest = int(((rows - row) ** 2 + (columns - column) ** 2).argmax())
    return (int(rows[farthest]), int(columns[farthest])), False


def loose_box(mask: Mask, random: np.random.Generator) -> tuple[float, float, float, float]:
    """Around the mask, each side up to LOOSE of its length farther out, within the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, right = columns[0], columns[-1] + 1
    top, bottom = rows[0], rows[-1] + 1
    out = random.uniform(0, LOOSE, 4) * np.tile((right - left, bottom - top), 2)
    return (
        max(0.0, float(left - out[0])),
        max(0.0, float(top - out[1])),
        min(float(mask.shape[1]), float(right + out[2])),
        min(float(mask.shape[0]), float(bottom + out[3])),
    )


def point(thing: Thing, pixel: Pixel, *, positive: bool = True) -> Item:
    """A key point on the middle of a pixel, in the form the editor sends."""
    height, width = thing.truth.shape
    value = {
        "x": 100 * (pixel[1] + 0.5) / width,
        "y": 100 * (pixel[0] + 0.5) / height,
        "width": 0.26,
        "labels": [thing.label],
        "keypointlabels": [thing.label],
    }
    return {**_item(thing, "tips", "keypointlabels", value), "is_positive": positive}


def rectangle(thing: Thing, box_xyxy: tuple[float, float, float, float]) -> Item:
    """A box in the form the editor sends."""
    height, width = thing.truth.shape
    left, top, right, bottom = box_xyxy
    value = {
        "x": 100 * left / width,
        "y": 100 * top / height,
        "width": 100 * (right - left) / width,
        "height": 100 * (bottom - top) / height,
        "rotation": 0,
        "rectanglelabels": [thing.label],
    }
    return _item(thing, "boxes", "rectanglelabels", value)


def _item(thing: Thing, name: str, kind: str, value: Mapping[str, Any]) -> Item:
    return {
        "id": "-".join(str(value[key])[:6] for key in ("x", "y")),
        "from_name": name,
        "to_name": "image",
        "type": kind,
        "origin": "manual",
        "original_width": thing.truth.shape[1],
        "original_height": thing.truth.shape[0],
        "image_rotation": 0,
        "value": dict(value),
    }


def corrections(rounds: Sequence[Round]) -> dict[str, Any]:
    """What taking away does: to the place that was meant, and to what was right."""
    mistaken = [one for one in rounds if one.mistaken]
    return {
        "taken away where asked": share(
            not one.corrected.mask[one.unwanted]
            for one in rounds
            if one.unwanted != one.thing.centre
        ),
        "clicked pixel is kept": share(one.holds(one.corrected) for one in rounds),
        "of something painted by mistake": {
            "count": len(mistaken),
            "mean IoU before": mean([iou(one.clicked.mask, one.thing.truth) for one in mistaken]),
            "mean IoU after": mean([iou(one.corrected.mask, one.thing.truth) for one in mistaken]),
        },
    }


def iou(found: Mask, truth: Mask) -> float:
    return float((found & truth).sum() / max((found | truth).sum(), 1))


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, median, and how many reach one half."""
    return {
        "count": len(values),
        "mean": mean(values),
        "median": round(float(np.median(values)), 3) if values else None,
        "at least 0.5": share(value >= 0.5 for value in values),
    }


def mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 3) if values else None


def share(flags: Iterable[bool]) -> float | None:
    """Of how many it is true; None where there are none."""
    return mean([float(flag) for flag in flags])


if __name__ == "__main__":
    sys.exit(main())
