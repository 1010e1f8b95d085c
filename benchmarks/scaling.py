"""What one picture costs by its labels (1 ... 1000) and by its pixels (0.2 ... 100 megapixels).

    python -m benchmarks.scaling [--profile demo] [--repeats 5] [--quick]

Labels: one picture of 500 x 375. Pixels: 6 labels; pictures are drawn scenes, enlarged, as JPEG,
and seen as the service sees them, large ones in tiles. Seconds are medians of rounds that go up
and down through all sizes; peak memory is that of a process that does nothing else. Labels are
decided in the worst case: every one is there, every pixel gets one. Words are made up, and text
rows drawn from a seed: the demo tower refuses words it does not know, and what they say has no
part in what they cost. Written to results/scaling.json; not with --quick.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image

import cliper_model
from backend.images.decode import decode as decode_picture
from backend.labelstudio import label_config
from backend.painting import Painted, image_result
from backend.plan import vocabularies
from cliper_model import prompts
from cliper_model.demo.scenes import make_scene
from cliper_model.segmenter import Decision, Segmentation, Vocabulary
from cliper_model.tiled import Tiled, TilePlan

from . import memory, record

ROOT = Path(__file__).parents[1]
MEGA = 1_000_000
LABELS = (1, 3, 10, 30, 100, 300, 1000)
MEGAPIXELS = (0.2, 1, 4, 12, 25, 50, 100)
QUICK_LABELS, QUICK_MEGAPIXELS = (1, 30, 300), (0.2, 4)
SIZE_WH = (500, 375)
SIX = 6  # labels of the pictures of growing size
MOST_BRUSH = 25.0  # megapixels; larger pictures get polygons
SEED = 0


@dataclass
class Clock:
    """Seconds of every step, one list per step."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        value = work()
        self.seconds.setdefault(name, []).append(time.perf_counter() - began)
        return value

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(all_), 4) for name, all_ in self.seconds.items()}


def picture(size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    scene = make_scene(np.random.default_rng(SEED)).image
    return np.asarray(Image.fromarray(scene).resize(size_wh, Image.Resampling.BICUBIC))


def as_jpeg(megapixels: float) -> bytes:
    """4 x 3, smooth: what is in it has no part in what it costs."""
    height = round((megapixels * MEGA * 3 / 4) ** 0.5)
    file = io.BytesIO()
    Image.fromarray(picture((round(height * 4 / 3), height))).save(file, "JPEG", quality=90)
    return file.getvalue()


def words_of(model: Any, labels: int) -> Vocabulary:
    """Text rows drawn from a seed, as wide as those of the model."""
    generator = torch.Generator().manual_seed(SEED)
    rows = torch.randn(labels, model.clip.vision.proj.shape[1], generator=generator)
    rows = torch.nn.functional.normalize(rows, dim=-1)
    return Vocabulary(
        labels=tuple(f"word {number}" for number in range(labels)),
        preset="whole-scene",
        rows=rows,
        row_class=tuple(range(labels)),
        mean_row=rows.mean(dim=0),
    )


def decision_of(model: Any) -> Decision:
    """Every label is there, and every pixel gets one."""
    return replace(model.decision("whole-scene"), presence_threshold=0.0)


def encoded(found: Segmentation, size_hw: tuple[int, int], decision: Decision, tag: str) -> Any:
    """As many regions as a config may ask for."""
    labels = "".join(f'<Label value="{name}"/>' for name in found.labels)
    config = (
        f'<View><Image name="i" value="$image"/><{tag} name="b" toName="i" model_background="" '
        f'model_max_regions="1000">{labels}</{tag}></View>'
    )
    (one,) = vocabularies(label_config.parse(config), ())
    painted = Painted(one=one, segmentation=found, decision=decision)
    return lambda: image_result([painted], size_hw=size_hw, index=None, seed="scaling")


class ByLabels:
    """One picture, seen once; everything after that, by the number of labels."""

    def __init__(self, profile: str) -> None:
        self.model: Any = cliper_model.load(profile, device="cpu")
        self.state = self.model.observe(picture(SIZE_WH))
        self.decision = decision_of(self.model)
        self.templates = prompts.templates("15")
        self._fresh = count()

    def run(self, labels: float, clock: Clock) -> None:
        labels = int(labels)
        vocabulary = words_of(self.model, labels)
        clock.step("read", lambda: self._read(labels))
        scores = clock.step("score", lambda: self.model.score(self.state, vocabulary))
        found = clock.step("decide", lambda: cliper_model.decide(scores, self.decision))
        hw = (SIZE_WH[1], SIZE_WH[0])
        clock.step("encode", encoded(found, hw, self.decision, "BrushLabels"))

    def _read(self, labels: int) -> None:
        """Words never read before, each in fifteen sentences."""
        words = [f"word {next(self._fresh)}" for _ in range(labels)]
        self.model.clip.encode_words(words, self.templates)


class ByPixels:
    """Six labels on pictures of growing size, from the file to the regions."""

    def __init__(self, profile: str) -> None:
        self.model: Any = Tiled(cliper_model.load(profile, device="cpu"), TilePlan())
        self.vocabulary = words_of(self.model, SIX)
        self.decision = decision_of(self.model)
        self._files: dict[float, bytes] = {}

    def prepare(self, megapixels: float) -> None:
        """Drawn by another process, so that drawing is no part of this one's peak."""
        command = [sys.executable, "-m", "benchmarks.scaling", "--draw", f"{megapixels:g}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        self._files[megapixels] = done.stdout

    def run(self, megapixels: float, clock: Clock) -> None:
        data, most = self._files[megapixels], 2 * MEGA * max(MEGAPIXELS)
        image = clock.step("decode", lambda: decode_picture(data, max_pixels=int(most)))
        state = clock.step("observe", lambda: self.model.observe(image))
        scores = clock.step("score", lambda: self.model.score(state, self.vocabulary))
        found = clock.step("decide", lambda: cliper_model.decide(scores, self.decision))
        tag = "BrushLabels" if megapixels <= MOST_BRUSH else "PolygonLabels"
        clock.step("encode", encoded(found, image.shape[:2], self.decision, tag))


def seconds_of(kind: str, points: Sequence[float], profile: str, repeats: int) -> list[Any]:
    """Medians per point; rounds go up and down in turn, after one that is not counted."""
    bench: Any = ByLabels(profile) if kind == "labels" else ByPixels(profile)
    clocks = [Clock() for _ in points]
    if kind == "pixels":
        for point in points:
            bench.prepare(point)
    bench.run(points[0], Clock())
    order = list(range(len(points)))
    for number in range(repeats):
        for index in order if number % 2 == 0 else reversed(order):
            bench.run(points[index], clocks[index])
    return [clock.medians() for clock in clocks]


def memory_of(kind: str, point: float, profile: str) -> dict[str, int | None]:
    """MiB before and at the peak, in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.scaling", "--profile", profile,
        "--alone", f"{kind}:{point:g}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def alone(kind: str, point: float, profile: str) -> dict[str, int | None]:
    """In this process: the smallest point to warm up, then the one that is asked for."""
    bench: Any = ByLabels(profile) if kind == "labels" else ByPixels(profile)
    smallest = 1 if kind == "labels" else min(MEGAPIXELS)
    if kind == "pixels":
        bench.prepare(smallest)
        bench.prepare(point)
    bench.run(smallest, Clock())
    before = psutil.Process().memory_info().rss / memory.MIB
    memory.forget_peak()  # so far it is that of loading
    bench.run(point, Clock())
    return {"mib_before": round(before), "peak_mib": memory.peak_mib()}


def line_of(points: Sequence[float], seconds: Sequence[float]) -> dict[str, float]:
    """Least squares; how far the point furthest from the line is from it, in share of the line."""
    slope, start = np.polyfit(points, seconds, 1)
    fitted = start + slope * np.asarray(points)
    off = np.abs(np.asarray(seconds) - fitted)
    return {
        "start": round(float(start), 5),
        "per_label": round(float(slope), 7),
        "largest_deviation": round(float(off.max()), 5),
        "largest_deviation_share": round(float((off / np.maximum(fitted, 1e-9)).max()), 3),
    }


def table(title: str, points: Sequence[float], rows: Sequence[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = [f"{title:>12}" + "".join(f"{name:>12}" for name in names)]
    for point, row in zip(points, rows, strict=True):
        cells = (f"{row[name]:12d}" if isinstance(row[name], int) else f"{row[name]:12.4f}"
                 for name in names)  # fmt: skip
        lines.append(f"{point:12g}" + "".join(cells))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few points once; nothing is saved")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--draw", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.draw is not None:
        sys.stdout.buffer.write(as_jpeg(args.draw))
        return 0
    if args.alone is not None:
        kind, point = args.alone.split(":")
        print(json.dumps(alone(kind, float(point), args.profile)))
        return 0

    plan = {
        "labels": QUICK_LABELS if args.quick else LABELS,
        "pixels": QUICK_MEGAPIXELS if args.quick else MEGAPIXELS,
    }
    figures: dict[str, Any] = {
        "profile": args.profile,
        "words": "made up; text rows drawn from a seed",
        "decided": "every label is there, every pixel gets one",
        "threads": torch.get_num_threads(),
        "repeats": 1 if args.quick else args.repeats,
    }
    for kind, points in plan.items():
        seconds = seconds_of(kind, points, args.profile, figures["repeats"])
        held = [memory_of(kind, point, args.profile) for point in points]
        rows = [{**one, **other} for one, other in zip(seconds, held, strict=True)]
        title = "labels" if kind == "labels" else "megapixels"
        print(table(title, points, rows), flush=True)
        figures[kind] = [{title: point, **row} for point, row in zip(points, rows, strict=True)]
        if kind == "labels":
            figures["lines"] = {
                step: line_of(points, [row[step] for row in seconds]) for step in seconds[0]
            }
            for step, line in figures["lines"].items():
                print(
                    f"{step:>12}: {1000 * line['per_label']:.3f} ms per label, at most "
                    f"{1000 * line['largest_deviation']:.1f} ms from the line"
                )
    if not args.quick:
        print(record.write("scaling", figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
