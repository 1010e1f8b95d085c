"""The demo weights on held-out scenes, as `cliper_model.load("demo")` segments them.

    python -m benchmarks.demo_accuracy [--scenes 200]

mIoU with the image's words and with all words, without and with refinement; and presence.
"""

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import cliper_model
from cliper_model.demo.scenes import LABELS, make_scene
from cliper_model.evaluation.confusion import IGNORED, count, figures
from cliper_model.methods.cliper import Cliper, CliperState
from cliper_model.segmenter import Scores

from . import record

TEST_SEED = 3  # never used for training or for choosing numbers
NEEDED = {  # mIoU in percent
    ("image's words", "with refinement"): 70.0,
    ("all words", "with refinement"): 61.0,
    ("image's words", "without refinement"): 66.0,
    ("all words", "without refinement"): 57.0,
}


class Tally:
    """One confusion matrix over many pictures, counted by the evaluator."""

    def __init__(self) -> None:
        self._matrix = np.zeros((len(LABELS) + 1,) * 2, np.int64)

    def add(self, found: NDArray[np.int64], truth: NDArray[np.int64]) -> None:
        """Label numbers per pixel, 0 for none; pixels without truth are left out."""
        known = np.where(truth > 0, truth, IGNORED)
        self._matrix += count(known, found, labels=len(LABELS) + 1)

    def per_label(self) -> dict[str, float]:
        """IoU in percent of the labels that occur."""
        iou = figures(self._matrix).iou[1:]
        return {
            label: round(float(value), 1)
            for label, value in zip(LABELS, iou, strict=True)
            if not np.isnan(value)
        }

    def miou(self) -> float:
        """Percent."""
        return figures(self._matrix).miou


def without_refinement(state: CliperState) -> CliperState:
    return replace(state, queries=torch.zeros(0, 0, 0), keys=torch.zeros(0, 0, 0))


def best_label(method: Cliper, scores: Scores) -> NDArray[np.int64]:
    """Every pixel gets its best label: the published way to count mIoU on closed word lists."""
    decision = replace(method.decision("whole-scene"), presence_threshold=0.0, min_area=0.0)
    chosen = cliper_model.decide(scores, decision).label_map
    numbers = np.array([0, *(LABELS.index(label) + 1 for label in scores.labels)])
    found: NDArray[np.int64] = numbers[chosen]
    return found


def measure(scenes: int) -> dict[str, Any]:
    method = cliper_model.load("demo")
    assert isinstance(method, Cliper)
    tallies: dict[tuple[str, str], Tally] = {key: Tally() for key in NEEDED}
    everything = method.read(LABELS)
    hits = claims = truths = false_regions = 0
    for index in tqdm(range(scenes), unit="scene"):
        scene = make_scene(np.random.default_rng((TEST_SEED, index)))
        truth = scene.label_map().astype(np.int64)
        present = [LABELS[number - 1] for number in np.unique(truth) if number]
        state = method.observe(scene.image)
        given = method.read(present, background=()) if len(present) > 1 else None
        for how, seen in (
            ("without refinement", without_refinement(state)),
            ("with refinement", state),
        ):
            among_all = method.score(seen, everything)
            tallies["all words", how].add(best_label(method, among_all), truth)
            if given is not None:
                found = best_label(method, method.score(seen, given))
                tallies["image's words", how].add(found, truth)
        decided = cliper_model.decide(among_all, method.decision("objects"))
        named = {LABELS[i] for i, area in enumerate(decided.areas) if area}
        hits += len(named & set(present))
        claims += len(named)
        truths += len(present)
        false_regions += len(named - set(present))
    return {
        "scenes": scenes,
        "miou": {f"{words}, {how}": round(t.miou(), 1) for (words, how), t in tallies.items()},
        "needed": {f"{words}, {how}": value for (words, how), value in NEEDED.items()},
        "per label, image's words, with refinement": tallies[
            "image's words", "with refinement"
        ].per_label(),
        "presence with all words": {
            "precision": round(hits / max(1, claims), 3),
            "recall": round(hits / max(1, truths), 3),
            "false regions per image": round(false_regions / scenes, 2),
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=200)
    measured = measure(parser.parse_args().scenes)
    path = record.write("proof-demo-accuracy", measured)
    for name, value in measured["miou"].items():
        print(f"{name}: {value} mIoU (needed {measured['needed'][name]})")
    print(path)
    return 0 if all(measured["miou"][k] >= v for k, v in measured["needed"].items()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
