"""Train the demo weights again from the same seed, and compare with those that ship.

    python -m benchmarks.demo_repeat [--out DIR] [--resume]
    python -m benchmarks.demo_repeat --steps 300

About eighty minutes on two cores; a run that was stopped goes on with `--resume`, and one that
has ended is only compared. Ends 0 when no figure of the card moved by more than half a point.
Sums of floating point numbers differ between kinds of processors, so this is for the kind of
machine that trained what ships.

With `--steps` both trainings are made here, with that many steps of the CLIP half and in
proportion of the others, and measured on fewer scenes: weights worth nothing, but every part of
the program runs as in the full training, and the two have to be equal to the bit.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from safetensors.torch import load_file

from cliper_model.demo.clip_training import ClipTraining
from cliper_model.demo.figures import Bench
from cliper_model.demo.pipeline import Plan, run
from cliper_model.demo.unet_training import UnetTraining
from cliper_model.demo.vae_training import VaeTraining
from cliper_model.profiles import demo_folder

from . import record

MOST: Final = 0.5  # points that a figure may move
WEIGHTS: Final = ("clip", "vae", "unet")
Figures = Mapping[str, Mapping[str, float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the second training; else a temporary")
    parser.add_argument("--resume", action="store_true", help="go on from what is in --out")
    parser.add_argument("--steps", type=int, metavar="N", help="two short trainings, made here")
    told = parser.parse_args()
    if told.steps is not None:
        if told.out is not None or told.resume:
            parser.error("--steps needs neither --out nor --resume")
        return twice(told.steps)
    if told.resume and told.out is None:
        parser.error("--resume needs --out")
    if told.out is not None and not told.resume and told.out.is_dir() and any(told.out.iterdir()):
        parser.error(f"{told.out} is not empty: give --resume or another folder")
    with tempfile.TemporaryDirectory() as folder:
        return compare(told.out or Path(folder), resume=told.resume)


def compare(out: Path, *, resume: bool) -> int:
    """Train into `out` what is not trained there yet, and compare."""
    again = out / "weights"
    if not (again / "figures.json").is_file():
        run(Plan(), "all", out, resume=resume)
    figures = [
        json.loads((folder / "figures.json").read_text()) for folder in (demo_folder(), again)
    ]
    moved = differences(*figures)
    furthest = sorted(moved, key=lambda name: -moved[name])[:10]
    equal = {name: same_tensors(demo_folder(), again, name) for name in WEIGHTS}
    record.write(
        "proof-demo-repeat",
        {
            "figures": len(moved),
            "largest difference, points": max(moved.values()),
            "furthest": {name: moved[name] for name in furthest},
            "bit-equal tensors": equal,
        },
    )
    for name in furthest:
        print(f"{moved[name]:6.3f}  {name}")
    print(f"{len(moved)} figures, at most {max(moved.values()):.3f} points apart; {equal}")
    return 0 if max(moved.values()) <= MOST else 1


def twice(steps: int) -> int:
    """Train two times with a short plan, and compare."""
    plan = Plan(
        clip=ClipTraining(steps=steps, scenes=1500),
        vae=VaeTraining(steps=max(1, steps // 4), scenes=1500),
        unet=UnetTraining(
            steps=max(8, steps // 2),
            noise_steps=max(1, steps // 16),
            control_steps=max(1, steps // 16),
        ),
        coarse_scenes=200,
        bench=Bench(
            test_scenes=40,
            control_scenes=20,
            other_scenes=0,
            style_scenes=4,
            described_pictures=2,
            unseen_pictures=2,
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        for out in (first, second):
            run(plan, "all", out)
        weights = (first / "weights", second / "weights")
        one, other = (json.loads((at / "figures.json").read_text()) for at in weights)
        moved = differences(one, other)
        equal = {name: same_tensors(*weights, name) for name in WEIGHTS}
        logs = {
            name: without_times(first / name) == without_times(second / name)
            for name in ("train-clip.log", "train-diffusion.log")
        }
    figures = {
        "steps": {"clip": steps, "vae": plan.vae.steps, "unet": plan.unet.steps},
        "figures": len(moved),
        "largest difference, points": max(moved.values()),
        "bit-equal tensors": equal,
        "equal logs": logs,
    }
    record.write("proof-demo-repeat-short", figures)
    print(json.dumps(figures, indent=1))
    whole = all(len(set(told.split(" of "))) == 1 for told in equal.values())
    return 0 if whole and all(logs.values()) and max(moved.values()) == 0 else 1


def without_times(log: Path) -> list[str]:
    """Lines of a training's log without what depends on the hour: seconds and crops per second."""
    return [re.sub(r"\b\d+ s\b|\d+ crops/s", "", line) for line in log.read_text().splitlines()]


def differences(first: Figures, second: Figures) -> dict[str, float]:
    """Absolute difference of every figure both have, by `row: figure`."""
    return {
        f"{row}: {name}": abs(value - second[row][name])
        for row, values in first.items()
        for name, value in values.items()
        if isinstance(value, int | float) and name in second.get(row, {})
    }


def same_tensors(first: Path, second: Path, name: str) -> str:
    """How many of a file's tensors are the same to the bit."""
    one, other = (load_file(folder / f"{name}.safetensors") for folder in (first, second))
    same = sum(one[key].equal(other[key]) for key in one)
    return f"{same} of {len(one)}"


if __name__ == "__main__":
    raise SystemExit(main())
