"""Train the demo weights again from the same seed, and compare with those that ship.

    python -m benchmarks.demo_repeat [--out DIR] [--resume]

About eighty minutes on two cores; a run that was stopped goes on with `--resume`, and one that
has ended is only compared. Ends 0 when no figure of the card moved by more than half a point.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from safetensors.torch import load_file

from cliper_model.demo.pipeline import Plan, run
from cliper_model.profiles import demo_folder

from . import record

MOST: Final = 0.5  # points that a figure may move
WEIGHTS: Final = ("clip", "vae", "unet")
Figures = Mapping[str, Mapping[str, float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the second training; else a temporary")
    parser.add_argument("--resume", action="store_true", help="go on from what is in --out")
    told = parser.parse_args()
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
