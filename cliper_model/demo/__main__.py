"""Train, export and measure the demo weights: `python -m cliper_model.demo --out DIR`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .figures import Bench
from .pipeline import HALVES, Plan, measure_weights, run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cliper_model.demo", description=__doc__)
    parser.add_argument("--half", choices=HALVES, default="all", help="which half to train")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--steps", type=int, help="steps of every training; few make a quick trial")
    parser.add_argument("--generator", type=Path, help="file with scenes of another generator")
    parser.add_argument(
        "--papers",
        action="store_true",
        help="train nothing; measure OUT/weights and write figures.json and MODEL_CARD.md there",
    )
    parser.add_argument("--scenes", type=int, help="with --papers: test scenes (default 300)")
    parser.add_argument("--machine", help="with --papers: what the weights were trained on")
    parser.add_argument("--date", help="with --papers: when they were trained")
    parser.add_argument(
        "--note", action="append", default=[], help="with --papers: a sentence for the card"
    )
    told = parser.parse_args(arguments)
    if told.papers:
        measure_weights(
            Bench() if told.scenes is None else Bench(test_scenes=told.scenes),
            told.out,
            told.out / "weights",
            generator=told.generator,
            machine=told.machine,
            date=told.date,
            notes=told.note,
        )
        return 0
    plan = Plan.of(told.steps)
    run(plan, told.half, told.out, resume=told.resume, generator=told.generator)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
