"""What masks lose in fewer bits: every number format against float32, refinement on and off.

    python -m benchmarks.precision [--scenes 100] [--device cpu]

The demo weights on drawn scenes they have not seen, with all labels asked. Counted are pixels
with the same label as in float32, and mIoU against the truth. On a processor bfloat16 is measured
twice, also with all of the autoencoder's convolutions of 3 x 3 before its middle done with half of
the multiplications, as Stable Diffusion's are on large maps (`cliper_model/backbones/winograd.py`).
Writes `results/proof-precision.json`, on a graphics card `results/proof-precision-cuda.json`; exit
status 1 where a bound is missed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
from jaxtyping import Int

from cliper_model import decide, loading, profiles
from cliper_model.backbones import winograd
from cliper_model.demo.scenes import make_scene
from cliper_model.methods.cliper import CliperState
from cliper_model.segmenter import ImageState

from . import record
from .demo_accuracy import Tally, without_refinement

FIRST_SEED = 50_000
HALVED = "bfloat16 with half of the multiplications"
EQUAL, MIOU = 0.999, 0.3  # least share of equal pixels, largest difference in points
LabelMap = Int[np.ndarray, "height width"]


def main() -> int:
    parser = argparse.ArgumentParser(description="What masks lose in fewer bits.")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    dtypes = ("bfloat16", HALVED, "int8") if args.device == "cpu" else ("float16", "bfloat16")
    figures = measure(args.scenes, args.device, dtypes)
    bounds = {
        f"{name}: {what}": holds
        for name, told in figures.items()
        for what, holds in (
            ("equal pixels", told["equal_pixels"] >= EQUAL),
            ("mIoU", abs(told["miou"] - told["miou_float32"]) <= MIOU),
        )
    }
    content = {
        "scenes": args.scenes,
        "first_seed": FIRST_SEED,
        "figures": figures,
        "bounds": bounds,
        "passed": all(bounds.values()),
    }
    print(json.dumps(content, indent=1))
    name = "proof-precision" + ("" if args.device == "cpu" else f"-{args.device.split(':')[0]}")
    print(record.write(name, content))
    return 0 if content["passed"] else 1


def measure(scenes: int, device: str, dtypes: Sequence[str]) -> dict[str, Any]:
    """Per number format and with or without refinement."""
    words = tuple(profiles.demo_card()["labels"])
    exact, *others = (loaded(dtype, device) for dtype in ("float32", *dtypes))
    looks: dict[str, Callable[[ImageState], ImageState]] = {
        "refined": lambda state: state,
        "without refinement": coarse,
    }
    tallies = {(dtype, look): Tally() for dtype in ("float32", *dtypes) for look in looks}
    equal: dict[tuple[str, str], list[float]] = {}
    for number in range(scenes):
        scene = make_scene(np.random.default_rng(FIRST_SEED + number))
        truth = scene.label_map().astype(np.int64)
        wanted: dict[str, LabelMap] = {}
        for dtype, model in zip(("float32", *dtypes), (exact, *others), strict=True):
            state, vocabulary = model.observe(scene.image), model.read(words)
            decision = model.decision(vocabulary.preset)
            for look, seen in looks.items():
                found = decide(model.score(seen(state), vocabulary), decision).label_map
                tallies[dtype, look].add(found.astype(np.int64), truth)
                wanted.setdefault(look, found)
                equal.setdefault((dtype, look), []).append(float((found == wanted[look]).mean()))
    return {
        f"{dtype}, {look}": {
            "equal_pixels": round(float(np.mean(equal[dtype, look])), 6),
            "equal_pixels_of_the_worst_scene": round(min(equal[dtype, look]), 6),
            "miou": round(tallies[dtype, look].miou(), 3),
            "miou_float32": round(tallies["float32", look].miou(), 3),
        }
        for dtype in dtypes
        for look in looks
    }


def loaded(dtype: str, device: str) -> Any:
    """The demo model in a number format, or in `HALVED`."""
    if dtype != HALVED:
        return loading.load("demo", device=device, dtype=dtype)
    small: dict[str, Any] = {"LEAST_CHANNELS": 1, "LEAST_POSITIONS": 1, "pays": lambda: True}
    with patch.multiple(winograd, **small):
        model: Any = loading.load("demo", device=device, dtype="bfloat16")
    kinds = {type(part) for part in model.diffusion.vae.modules()}
    assert winograd.WinogradConv2d in kinds, "no convolution was replaced"
    return model


def coarse(state: ImageState) -> ImageState:
    assert isinstance(state, CliperState)
    return without_refinement(state)


if __name__ == "__main__":
    sys.exit(main())
