"""Seconds per step of one profile on this machine: `make bench`, or `python -m benchmarks.bench`.

python -m benchmarks.bench [--profile demo] [--size 500x375] [--repeats 7]
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import cliper_model

from . import record

WORDS = ("sky", "grass", "house", "tree", "car", "person")


def timed(work: Callable[[], Any], repeats: int) -> tuple[Any, dict[str, float]]:
    """The last value, and minimum, median and maximum in seconds; one run before is not counted."""
    work()
    seconds, value = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        value = work()
        seconds.append(time.perf_counter() - began)
    return value, {
        "min": round(min(seconds), 4),
        "median": round(statistics.median(seconds), 4),
        "max": round(max(seconds), 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--size", default="500x375", help="width x height in pixels")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    width, height = (int(side) for side in args.size.split("x"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)

    began = time.perf_counter()
    model = cliper_model.load(args.profile)
    loading = time.perf_counter() - began
    steps: dict[str, dict[str, float]] = {}
    vocabulary, steps["read"] = timed(lambda: model.read(WORDS), args.repeats)
    state, steps["observe"] = timed(lambda: model.observe(image), args.repeats)
    scores, steps["score"] = timed(lambda: model.score(state, vocabulary), args.repeats)
    decision = model.decision(vocabulary.preset)
    _, steps["decide"] = timed(lambda: cliper_model.decide(scores, decision), args.repeats)
    figures = {
        "profile": args.profile,
        "image": args.size,
        "words": len(WORDS),
        "load": round(loading, 2),
        "steps": steps,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    for name, seconds in steps.items():
        low, middle, high = (seconds[key] for key in ("min", "median", "max"))
        print(f"{name:8} {middle:.3f} s (from {low:.3f} to {high:.3f})")
    print(record.write(f"bench-{args.profile}", figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
