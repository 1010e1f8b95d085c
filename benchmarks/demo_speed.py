"""What a scene costs with the demo weights, step by step.

    python -m benchmarks.demo_speed [--threads 2] [--dtype float32] [--runs 9]

Times observe (CLIP and diffusion), score (refinement and edges included), decide and the
whole for scenes of 192 and 256 px and for 6 labels and all labels of the demo, and writes
`results/demo-speed.json`: medians and minima in milliseconds of wall-clock time, and of
processor time over all threads, which a busy machine disturbs less. Exit status 1 if the
median of a whole is above 150 ms.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cliper_model.segmenter import Segmenter, Vocabulary
from cliper_model.shapes import Image

from . import record

LIMIT_MS = 150.0
SEED = 0
SIDES = (192, 256)
FEW_LABELS = ("sky", "grass", "tree", "house", "car", "sun")


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of a scene with the demo weights.")
    parser.add_argument("--threads", type=int, default=2, help="of the network's arithmetic")
    parser.add_argument("--dtype", default=None, help="float32 or bfloat16; default: the profile's")
    parser.add_argument("--runs", type=int, default=9, help="timed runs of every step")
    parser.add_argument("--name", default="demo-speed", help="of the result file")
    args = parser.parse_args()
    if args.runs < 1 or args.threads < 1:
        parser.error("--runs and --threads must be at least 1")

    import torch

    from cliper_model import loading, profiles

    torch.set_num_threads(args.threads)
    segmenter = loading.load("demo", device="cpu", dtype=args.dtype)
    words = {"6 labels": FEW_LABELS, "all labels": tuple(profiles.demo_card()["labels"])}
    figures: dict[str, Any] = {}
    for side in SIDES:
        image = scene(side)
        for name, labels in words.items():
            vocabulary = segmenter.read(labels)
            figures[f"{side} px, {name}"] = {
                "labels": len(labels),
                **measure(segmenter, image, vocabulary, runs=args.runs),
            }
    slowest = max(part["whole"]["median_ms"] for part in figures.values())
    content = {
        "profile": "demo",
        "weights": segmenter.identity.weights,
        "threads": torch.get_num_threads(),
        "dtype": str(segmenter.clip.dtype).removeprefix("torch."),  # type: ignore[attr-defined]
        "runs": args.runs,
        "seed": SEED,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "limit_ms": LIMIT_MS,
        "passed": slowest <= LIMIT_MS,
        "figures": figures,
    }
    path = record.write(args.name, content)
    print(json.dumps(content, indent=1))
    print(f"written to {path}")
    return 0 if content["passed"] else 1


def measure(
    segmenter: Segmenter, image: Image, vocabulary: Vocabulary, *, runs: int
) -> dict[str, dict[str, float]]:
    """Times of the three steps and of all of them together; the first two runs do not count."""
    from cliper_model.stages.decide import decide

    decision = segmenter.decision(vocabulary.preset)
    state = segmenter.observe(image)
    scores = segmenter.score(state, vocabulary)
    steps: dict[str, Callable[[], object]] = {
        "observe": lambda: segmenter.observe(image),
        "score": lambda: segmenter.score(state, vocabulary),
        "decide": lambda: decide(scores, decision),
        "whole": lambda: decide(segmenter.score(segmenter.observe(image), vocabulary), decision),
    }
    return {name: timed(step, runs=runs) for name, step in steps.items()}


def timed(step: Callable[[], object], *, runs: int, warm_up: int = 2) -> dict[str, float]:
    """Median and minimum of `runs` calls, wall-clock and processor time, in milliseconds."""
    wall, processor = [], []
    for number in range(warm_up + runs):
        begun, used = time.perf_counter(), time.process_time()
        step()
        if number >= warm_up:
            wall.append(1000 * (time.perf_counter() - begun))
            processor.append(1000 * (time.process_time() - used))
    return {
        "median_ms": round(float(np.median(wall)), 1),
        "min_ms": round(min(wall), 1),
        "processor_median_ms": round(float(np.median(processor)), 1),
        "processor_min_ms": round(min(processor), 1),
    }


def scene(side: int) -> Image:
    """The generator's scene for the seed, enlarged where `side` is larger than it draws."""
    from PIL import Image as PilImage

    from cliper_model.demo.scenes import make_scene

    drawn = PilImage.fromarray(make_scene(np.random.default_rng(SEED)).image)
    return np.asarray(drawn.resize((side, side), PilImage.Resampling.BICUBIC))


if __name__ == "__main__":
    sys.exit(main())
