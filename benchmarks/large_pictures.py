"""A picture of 108 megapixels in tiles: seconds, memory against the stated bound, the truth.

    python -m benchmarks.large_pictures [--scenes 12]

A mosaic of drawn scenes, 12,000 x 9,000 pixels, is segmented by the demo profile in a process of
its own, whose peak memory is read when it has ended; then tiles are compared with one look on
scenes of 1500 x 1100. Written to results/proof-large-pictures.json. Exit status 1 if memory passes
the bound, tiles are no nearer to the truth than one look, or differ from it on too many pixels
that have a label (what has none gets any).
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import cliper_model
from cliper_model.demo.pipeline import VALIDATION_SEED
from cliper_model.demo.scenes import LABELS, make_scene
from cliper_model.segmenter import Scores, Segmenter
from cliper_model.tiled import Tiled, TiledState, TilePlan, most_bytes

from . import record
from .demo_accuracy import Tally

MIB = 1024 * 1024
SIZE_HW = (9000, 12_000)
SCENES_HW = (3, 4)  # of the mosaic
DRAWN = 1500  # pixels of a side of one of its scenes, before it is enlarged
FIRST_SCENE = 5000  # so that the mosaic's scenes are not those of the comparison
MID_HW = (1100, 1500)
MID_PLAN = TilePlan(above_megapixels=0.5, smallest_tile=640)
MOST_DIFFERENT = 8.0  # percent of the labelled pixels of one scene
MOST_LOST = 3.0  # percent of them that one look labels rightly and tiles wrongly


def mosaic() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Twelve scenes side by side, and the label number of every pixel; always the same."""
    rows, columns = SCENES_HW
    height, width = SIZE_HW[0] // rows, SIZE_HW[1] // columns
    image = np.empty((*SIZE_HW, 3), np.uint8)
    truth = np.empty(SIZE_HW, np.uint8)
    for number in range(rows * columns):
        scene = make_scene(np.random.default_rng((VALIDATION_SEED, FIRST_SCENE + number)), DRAWN)
        top, left = (number // columns) * height, (number % columns) * width
        here = slice(top, top + height), slice(left, left + width)
        image[here] = _enlarged(scene.image, (width, height), Image.Resampling.BICUBIC)
        labels = scene.label_map().astype(np.uint8)
        truth[here] = _enlarged(labels, (width, height), Image.Resampling.NEAREST)
    return image, truth


def _enlarged(
    picture: NDArray[np.uint8], size_wh: tuple[int, int], how: Image.Resampling
) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize(size_wh, how))


def best_labels(method: Segmenter, scores: Scores) -> NDArray[np.int64]:
    """Every pixel gets its best label; numbers of `LABELS`, from 1."""
    decision = replace(method.decision("whole-scene"), presence_threshold=0.0, min_area=0.0)
    numbers = np.array([0, *(LABELS.index(label) + 1 for label in scores.labels)])
    found: NDArray[np.int64] = numbers[cliper_model.decide(scores, decision).label_map]
    return found


def small_truth(truth: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """The truth at the size of the masks."""
    down, across = (
        ((np.arange(few) + 0.5) * many / few).astype(int)
        for few, many in zip(size_hw, truth.shape, strict=True)
    )
    return truth[np.ix_(down, across)].astype(np.int64)


class Clock:
    """Seconds by the wall and of the processor, which other work on the machine makes no longer."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.seconds[name] = round(wall - self._wall, 1)
        self.cpu_seconds[name] = round(cpu - self._cpu, 1)
        self._wall, self._cpu = wall, cpu


def measure_large(which: str) -> dict[str, Any]:
    """In this process: seconds, memory before and peak memory after; then agreement with truth.

    `which` is "tiles" or "one look". Memory before holds the picture, its truth and the model.
    """
    image, truth = mosaic()
    method = cliper_model.load("demo", device="cpu")
    warm = make_scene(np.random.default_rng((VALIDATION_SEED, 0))).image
    method.segment(warm, ["sky", "house"])
    before = psutil.Process().memory_info().rss / MIB
    plan = TilePlan() if which == "tiles" else TilePlan(smallest_tile=max(SIZE_HW))
    segmenter = Tiled(method, plan)
    vocabulary = segmenter.read(LABELS)
    clock = Clock()
    state = segmenter.observe(image)
    clock.lap("observe")
    scores = segmenter.score(state, vocabulary)
    clock.lap("score")
    found = cliper_model.decide(scores, segmenter.decision("objects"))
    clock.lap("decide")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert isinstance(state, TiledState)
    state_mib = len(state.to_bytes()) / MIB
    known = small_truth(truth, found.size_hw)
    present = {int(number) for number in np.unique(truth) if number}
    named = {int(index) + 1 for index in np.flatnonzero(found.areas)}
    tally = Tally()
    best = best_labels(segmenter, scores)
    tally.add(best, known)
    return {
        "tiles": len(state.tiles),
        "masks": list(found.size_hw),
        "canvas": list(scores.maps.shape),
        "threads": torch.get_num_threads(),
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
        "state_mib": round(state_mib, 1),
        "mib_before": round(before),
        "peak_mib": round(after),
        "grown_mib": round(after - before),
        "right_percent": round(100 * float((best == known)[known > 0].mean()), 1),
        "miou_all_words": round(tally.miou(), 1),
        "presence_precision": round(100 * len(named & present) / max(1, len(named)), 1),
        "presence_recall": round(100 * len(named & present) / len(present), 1),
    }


def in_its_own_process(which: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.large_pictures", "--large", which]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_mid(count: int) -> dict[str, Any]:
    """Tiles against one look on scenes of 1500 x 1100, with each scene's words and all words."""
    method = cliper_model.load("demo", device="cpu")
    tiled = Tiled(method, MID_PLAN)
    everything = method.read(LABELS, background=())
    tallies = {(way, words): Tally() for way in ("one look", "tiles") for words in ("image", "all")}
    different, lost = [], []
    for index in tqdm(range(count), desc="scenes", disable=None):
        scene = make_scene(np.random.default_rng((VALIDATION_SEED, index)), size_hw=MID_HW)
        truth = scene.label_map().astype(np.int64)
        present = [LABELS[number - 1] for number in np.unique(truth) if number]
        given = method.read(present, background=())
        states = {"one look": method.observe(scene.image), "tiles": tiled.observe(scene.image)}
        found = {}
        for way, state in states.items():
            found[way] = best_labels(method, tiled.score(state, given))
            tallies[way, "image"].add(found[way], truth)
            tallies[way, "all"].add(best_labels(method, tiled.score(state, everything)), truth)
        known = truth > 0
        once, tiles = found["one look"][known], found["tiles"][known]
        different.append(100 * float((tiles != once).mean()))
        lost.append(100 * float(((once == truth[known]) & (tiles != once)).mean()))
    return {
        "scenes": count,
        "plan": {"above_megapixels": MID_PLAN.above_megapixels, "smallest_tile": 640},
        "miou": {
            f"{way}, {words} words": round(t.miou(), 1) for (way, words), t in tallies.items()
        },
        "different_pixels_percent": _spread(different),
        "lost_pixels_percent": _spread(lost),
    }


def _spread(shares: list[float]) -> dict[str, float]:
    return {"median": round(float(np.median(shares)), 2), "most": round(max(shares), 2)}


def verdict(tiles: dict[str, Any], once: dict[str, Any], mid: dict[str, Any]) -> dict[str, bool]:
    miou = mid["miou"]
    return {
        "memory within the bound": tiles["grown_mib"] <= tiles["bound_mib"],
        "tiles see more of a large picture": tiles["miou_all_words"] > once["miou_all_words"],
        "tiles lose nothing on mid-size pictures": all(
            miou[f"tiles, {words} words"] >= miou[f"one look, {words} words"]
            for words in ("image", "all")
        ),
        "tiles say much the same as one look": mid["different_pixels_percent"]["most"]
        <= MOST_DIFFERENT,
        "tiles lose hardly a pixel that one look had right": mid["lost_pixels_percent"]["most"]
        <= MOST_LOST,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=12, help="of 1500 x 1100 pixels")
    parser.add_argument("--large", choices=("tiles", "one look"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.large:
        print(json.dumps(measure_large(args.large)))
        return 0
    once, tiles = in_its_own_process("one look"), in_its_own_process("tiles")
    bound = most_bytes(
        TilePlan(),
        size_hw=SIZE_HW,
        state_bytes=tiles["state_mib"] * MIB / (tiles["tiles"] + 1),
    )
    tiles["bound_mib"] = round(bound / MIB)
    mid = measure_mid(args.scenes)
    holds = verdict(tiles, once, mid)
    figures = {
        "size_hw": list(SIZE_HW),
        "picture_mib": round(3 * SIZE_HW[0] * SIZE_HW[1] / MIB),
        "tiles": tiles,
        "one look": once,
        "1500 x 1100": mid,
        "holds": holds,
    }
    path = record.write("proof-large-pictures", figures)
    print(json.dumps(figures, indent=1))
    print(path)
    return 0 if all(holds.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
