"""Train, export and measure the demo weights: `python -m cliper_model.demo --out DIR`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .pipeline import HALVES, Plan, run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cliper_model.demo", description=__doc__)
    parser.add_argument("--half", choices=HALVES, default="all", help="which half to train")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--steps", type=int, help="steps of every training; few make a quick trial")
    told = parser.parse_args(arguments)
    run(Plan.of(told.steps), told.half, told.out, resume=told.resume)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
