"""`cliper train-demo`: both halves of the demo weights, from nothing, or their card verified."""

import argparse
import sys
from pathlib import Path

from ..errors import BadRequest

HELP = (
    "Train the demo weights from nothing on storybook scenes and measure them. Seeded; about an "
    "hour per half on two cores with bfloat16 units. Interrupt it at will and go on with --resume. "
    "With --verify nothing is trained: every figure of the model card is measured again from the "
    "weight files, some minutes on two cores, and the command fails where one differs."
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write to; needed to train (with --verify default: a temporary one)",
    )
    parser.add_argument(
        "--half",
        choices=("clip", "diffusion", "all"),
        default="all",
        help="which half to train (default all)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="D",
        help="where to train: cpu or cuda (default cpu, as the shipped weights)",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="a quick trial of the machinery: N steps of each"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="train nothing; recompute the figures of the model card and compare",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="weights to verify (default: those that come with the package)",
    )
    parser.add_argument(
        "--generator",
        type=Path,
        metavar="FILE",
        help="measure on scenes of another generator too: a Python file, which is run, with "
        "scene(rng, size)",
    )


def run(args: argparse.Namespace) -> int:
    """Train, or verify. Raises BadRequest for options that cannot be meant."""
    if args.verify:
        return _verify(args)
    if args.out is None:
        raise BadRequest("give a folder to write to with --out, or --verify")
    if args.weights is not None:
        raise BadRequest("--weights names weights to verify; add --verify or leave it out")
    from cliper_model.demo.pipeline import Plan
    from cliper_model.demo.pipeline import run as train

    train(
        Plan.of(args.steps),
        args.half,
        args.out,
        resume=args.resume,
        device=args.device,
        generator=args.generator,
    )
    return 0


def _verify(args: argparse.Namespace) -> int:
    asked = args.resume or args.steps is not None or args.half != "all" or args.device != "cpu"
    if asked:
        raise BadRequest(
            "--verify trains nothing; leave out --half, --resume, --device and --steps"
        )
    from cliper_model.demo.verify import report, verify
    from cliper_model.profiles import demo_folder

    weights = args.weights or demo_folder()
    verdict = verify(weights, generator=args.generator, out=args.out)
    for line in report(verdict):
        print(line)
    if not verdict.problems:
        print(f"{weights}: every figure and the model card hold.")
        return 0
    problems = "; ".join(verdict.problems)
    print(f"cliper: {weights} does not hold what its card says: {problems}", file=sys.stderr)
    return 1
