"""Do maps that follow edges of the picture make better outlines? On validation scenes.

    python -m benchmarks.edges [--scenes 60] [--only NAME ...]

Per method with the demo's weights, and per rule of stages/edges.py: mIoU with the image's words
and with all words, boundary F, and what the stage takes in milliseconds with all words. Written
to benchmarks/results/edges.json; `edge_aware` in data/methods/*.json follows from it.

Drawn scenes have outlines as sharp as a knife and things of one colour: they flatter such a
stage, and figures of photographs will differ, see docs/how-to/sharper-edges.md.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

import cliper_model
from cliper_model.demo.pipeline import VALIDATION_SEED
from cliper_model.demo.scenes import LABELS, make_scene
from cliper_model.evaluation.boundary import mean_f
from cliper_model.stages import edges

from . import record
from .compare import Outlined, best_labels


@dataclass(frozen=True)
class Candidate:
    """A method, its feature source, and what differs from its settings on the demo."""

    method: str
    features: str | None = None
    refined: bool = True


CANDIDATES: Mapping[str, Candidate] = {
    "cliper": Candidate("cliper"),
    "cliper, not refined": Candidate("cliper", refined=False),
    "cliper, refined by diffusion-s similarity": Candidate("cliper", "diffusion-s"),
    "clip": Candidate("clip"),
    "clip-surgery": Candidate("clip-surgery"),
    "maskclip": Candidate("maskclip"),
    "proxyclip": Candidate("proxyclip"),
    "proxyclip, diffusion-s": Candidate("proxyclip", "diffusion-s"),
    "proxyclip-adjust": Candidate("proxyclip-adjust"),
    "cliptrase": Candidate("cliptrase"),
}


class Row:
    """Figures of one rule as they grow."""

    def __init__(self) -> None:
        self.given, self.everything = Outlined(), Outlined()
        self.seconds: list[float] = []

    def figures(self) -> dict[str, Any]:
        """Percent; milliseconds (median) with all words."""
        return {
            "miou, image's words": round(self.given.miou(), 1),
            "miou, all words": round(self.everything.miou(), 1),
            "boundary F, image's words": round(mean_f(self.given.boundary), 1),
            "boundary F, all words": round(mean_f(self.everything.boundary), 1),
            "stage ms, all words": round(1000 * float(np.median(self.seconds)), 1),
        }


def measure(candidate: Candidate, count: int, name: str) -> dict[str, dict[str, Any]]:
    """Figures of every rule over `count` scenes; the network looks once per scene."""
    method: Any = cliper_model.load("demo", method=candidate.method, features=candidate.features)
    method = method.with_numbers(edge_aware="none")
    if not candidate.refined:
        method = method.with_numbers(refinement="none")
    rows = {rule: Row() for rule in edges.RULES}
    everything = method.read(LABELS, background=())
    for index in tqdm(range(count), desc=name, unit="scene", disable=None):
        scene = make_scene(np.random.default_rng((VALIDATION_SEED, index)))
        truth = scene.label_map().astype(np.int64)
        present = [LABELS[number - 1] for number in np.unique(truth) if number]
        state = method.observe(scene.image)
        scores = method.score(state, everything)
        given = None
        if len(present) > 1:
            given = method.score(state, method.read(present, background=()))
        for rule, row in rows.items():
            began = time.perf_counter()
            guide = edges.guide_of(scene.image, rule=rule)
            sharp = edges.sharpen(scores, guide, rule=rule)
            row.seconds.append(time.perf_counter() - began)
            row.everything.add(best_labels(method, sharp), truth)
            if given is not None:
                sharp = edges.sharpen(given, guide, rule=rule)
                row.given.add(best_labels(method, sharp), truth)
    return {rule: row.figures() for rule, row in rows.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--only", nargs="*", choices=sorted(CANDIDATES), help="rows to measure")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, candidate in CANDIDATES.items():
        if args.only and name not in args.only:
            continue
        figures[name] = measure(candidate, args.scenes, name)
        for rule, row in figures[name].items():
            print(name, rule, json.dumps(row), flush=True)
    if not args.only:
        record.write("edges", {"scenes": args.scenes, "methods": figures})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
