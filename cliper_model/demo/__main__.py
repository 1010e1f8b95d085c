"""Train, export and measure the demo weights: `python -m cliper_model.demo --out DIR`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..profiles import demo_folder
from .pipeline import HALVES, Plan, run, test_figures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cliper_model.demo", description=__doc__)
    parser.add_argument("--half", choices=HALVES, default="all", help="which half to train")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--steps", type=int, help="steps of every training; few make a quick trial")
    parser.add_argument(
        "--measure",
        type=int,
        metavar="N",
        help="train nothing; measure the shipped weights on N test scenes",
    )
    told = parser.parse_args(arguments)
    if told.measure is not None:
        plan = replace(Plan(), test_scenes=told.measure)
        figures = test_figures(plan, told.out, demo_folder())
        text = json.dumps(figures, indent=1)
        (told.out / "figures.json").write_text(text + "\n", encoding="utf-8")
        print(text)
        return 0
    run(Plan.of(told.steps), told.half, told.out, resume=told.resume)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
