"""Every method on held-out demo scenes, with the demo's weights and numbers.

    python -m benchmarks.compare [--scenes 200] [--only METHOD ...] [--student FILE]

Per method: mIoU with the image's words and with all words, boundary F, presence, milliseconds
per image on one thread, and a contact sheet. Results: benchmarks/results/compare.json, .md, .jpg.

The order on these scenes says nothing about the papers: the demo's CLIP learned its words
through CLIPer's own last layer, see docs/reference/methods.md.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import cliper_model
from backend import overlay
from cliper_model.demo.scenes import LABELS, make_scene
from cliper_model.evaluation.boundary import image_f, mean_f, outlines
from cliper_model.evaluation.confusion import IGNORED
from cliper_model.segmenter import Scores, Segmenter

from . import record
from .demo_accuracy import Tally

TEST_SEED = 3  # never used for training or for choosing numbers
SHOWN = 6  # scenes on the contact sheet
TIMED = 11  # scenes of the medians


@dataclass(frozen=True)
class Candidate:
    """One row of the table."""

    name: str
    method: str
    features: str | None = None
    refined: bool = True


CANDIDATES = (
    Candidate("clip", "clip"),
    Candidate("maskclip", "maskclip"),
    Candidate("maskclip, smoothed and denoised", "maskclip"),
    Candidate("clip-surgery", "clip-surgery"),
    Candidate("cliptrase", "cliptrase"),
    Candidate("proxyclip", "proxyclip"),
    Candidate("proxyclip-adjust", "proxyclip-adjust"),
    Candidate("cliper, not refined", "cliper", refined=False),
    Candidate("cliper", "cliper"),
    Candidate("proxyclip, diffusion-s", "proxyclip", "diffusion-s"),
    Candidate("proxyclip, diffusion-p", "proxyclip", "diffusion-p"),
    Candidate("maskclip+, taught by cliper", "maskclip+"),
)


EXTRA = (  # measured where --only names them
    Candidate("maskclip, denoised", "maskclip"),
    Candidate("maskclip, smoothed", "maskclip"),
)


class Outlined(Tally):
    """A tally that also looks at outlines."""

    def __init__(self) -> None:
        super().__init__()
        self.boundary: list[float | None] = []

    def add(self, found: NDArray[np.int64], truth: NDArray[np.int64]) -> None:
        """Label numbers per pixel; pixels without truth are left out."""
        super().add(found, truth)
        self.boundary.append(image_f(outlines(np.where(truth > 0, truth, IGNORED), found)))


@dataclass
class Row:
    """One candidate's figures as they grow."""

    given: Outlined = field(default_factory=Outlined)
    everything: Outlined = field(default_factory=Outlined)
    hits: int = 0
    claims: int = 0
    truths: int = 0
    pictures: int = 0

    def figures(self) -> dict[str, Any]:
        """Percent, and false labels per image."""
        precision = 100 * self.hits / self.claims if self.claims else float("nan")
        false = self.claims - self.hits
        return {
            "miou, image's words": round(self.given.miou(), 1),
            "miou, all words": round(self.everything.miou(), 1),
            "boundary F, image's words": round(mean_f(self.given.boundary), 1),
            "boundary F, all words": round(mean_f(self.everything.boundary), 1),
            "presence precision": round(precision, 1),
            "presence recall": round(100 * self.hits / max(1, self.truths), 1),
            "false labels per image": round(false / max(1, self.pictures), 2),
        }


def scenes(count: int) -> Iterator[Any]:
    """Held-out scenes, the same for every method."""
    for index in range(count):
        yield make_scene(np.random.default_rng((TEST_SEED, index)))


def load(candidate: Candidate, student: Path | None) -> Segmenter:
    """The candidate on the demo's weights."""
    if candidate.method == "maskclip+":
        return cliper_model.load("demo", method="maskclip+", student=student)
    method: Any = cliper_model.load("demo", method=candidate.method, features=candidate.features)
    if not candidate.refined:
        method = method.with_numbers(refinement="none")
    if "smoothed" in candidate.name:
        method = method.with_numbers(key_smoothing=1.0)
    if "denoised" in candidate.name:
        method = method.with_numbers(prompt_denoising=0.5)
    found: Segmenter = method
    return found


def best_labels(method: Segmenter, scores: Scores) -> NDArray[np.int64]:
    """Every pixel gets its best label, as closed word lists are measured."""
    decision = replace(method.decision("whole-scene"), presence_threshold=0.0, min_area=0.0)
    numbers = np.array([0, *(LABELS.index(label) + 1 for label in scores.labels)])
    chosen: NDArray[np.int64] = numbers[cliper_model.decide(scores, decision).label_map]
    return chosen


def measure(method: Segmenter, count: int, name: str) -> tuple[Row, list[NDArray[np.int64]]]:
    """Figures over `count` scenes, and the label maps of the first few."""
    row, shown = Row(), list[NDArray[np.int64]]()
    open_scene, closed = method.read(LABELS, background=()), method.read(LABELS)
    for scene in tqdm(scenes(count), total=count, desc=name, unit="scene", disable=None):
        truth = scene.label_map().astype(np.int64)
        present = [LABELS[number - 1] for number in np.unique(truth) if number]
        state = method.observe(scene.image)
        found = best_labels(method, method.score(state, open_scene))
        row.everything.add(found, truth)
        if len(present) > 1:
            given = method.read(present, background=())
            found = best_labels(method, method.score(state, given))
            row.given.add(found, truth)
        decided = cliper_model.decide(method.score(state, closed), method.decision("objects"))
        named = {LABELS[index] for index, area in enumerate(decided.areas) if area}
        row.hits += len(named & set(present))
        row.claims += len(named)
        row.truths += len(present)
        row.pictures += 1
        if len(shown) < SHOWN:
            shown.append(found)
    return row, shown


def milliseconds(method: Segmenter) -> dict[str, Any]:
    """Medians over a few scenes, one thread, nothing else of this program running."""
    torch.set_num_threads(1)
    words = method.read(LABELS)
    looking, deciding = [], []
    for scene in scenes(TIMED):
        began = time.perf_counter()
        state = method.observe(scene.image)
        looked = time.perf_counter()
        cliper_model.decide(method.score(state, words), method.decision("objects"))
        looking.append(looked - began)
        deciding.append(time.perf_counter() - looked)
    return {
        "observe ms": round(1000 * float(np.median(looking))),
        "score and decide ms, all words": round(1000 * float(np.median(deciding))),
    }


def one(
    candidate: Candidate, count: int, student: Path | None
) -> tuple[dict[str, Any], list[NDArray[np.int64]]]:
    """A row of the table, on one thread."""
    torch.set_num_threads(1)
    row, maps = measure(load(candidate, student), count, candidate.name)
    return row.figures(), maps


def sheet(rows: Sequence[tuple[str, Sequence[NDArray[np.int64]]]], path: Path) -> None:
    """One line per method: the same scenes, in the labels' colours."""
    palette = np.array([(40, 40, 46), *overlay.colours(len(LABELS))], np.uint8)
    pictures = [scene for scene in scenes(SHOWN)]
    lines = [("picture", [scene.image for scene in pictures])]
    lines.append(("truth", [palette[scene.label_map()] for scene in pictures]))
    lines += [(name, [palette[found] for found in maps]) for name, maps in rows]
    wide, high, gap, margin = 176, 132, 6, 230
    image = Image.new(
        "RGB", (margin + SHOWN * (wide + gap) + gap, len(lines) * (high + gap) + gap), "white"
    )
    pen = ImageDraw.Draw(image)
    for line, (name, panels) in enumerate(lines):
        top = gap + line * (high + gap)
        pen.text((gap, top + high // 2 - 8), name, (30, 30, 36), ImageFont.load_default(13))
        for column, panel in enumerate(panels):
            small = Image.fromarray(np.asarray(panel, np.uint8)).resize((wide, high))
            image.paste(small, (margin + column * (wide + gap), top))
    image.save(path, quality=88)


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Markdown, one line per method."""
    columns = list(next(iter(figures.values())))
    lines = ["| method | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(f"{row[column]:g}" for column in columns) + " |"
        for name, row in figures.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--only", nargs="*", help="names of rows to measure")
    parser.add_argument("--processes", type=int, default=1, help="rows measured side by side")
    parser.add_argument("--student", type=Path, help="checkpoint of a student for maskclip+")
    args = parser.parse_args()
    chosen = [
        candidate
        for candidate in (*CANDIDATES, *EXTRA)
        if candidate.name in (args.only or [row.name for row in CANDIDATES])
        and (args.student or candidate.method != "maskclip+")
    ]
    figures: dict[str, dict[str, Any]] = {}
    shown = []
    workers = ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn"))
    with workers as pool:
        jobs = [pool.submit(one, candidate, args.scenes, args.student) for candidate in chosen]
        for candidate, job in zip(chosen, jobs, strict=True):
            figures[candidate.name], maps = job.result()
            shown.append((candidate.name, maps))
            print(candidate.name, json.dumps(figures[candidate.name]), flush=True)
    for candidate in chosen:
        figures[candidate.name] |= milliseconds(load(candidate, args.student))
    if not args.only:
        path = record.write("compare", {"scenes": args.scenes, "methods": figures})
        sheet(shown, path.with_suffix(".jpg"))
        path.with_suffix(".md").write_text(table(figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
