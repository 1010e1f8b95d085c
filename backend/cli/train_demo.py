"""`cliper train-demo`: both halves of the demo weights, from nothing."""

import argparse
from pathlib import Path

HELP = (
    "Train the demo weights from nothing on storybook scenes and measure them. Seeded; about an "
    "hour per half on two cores with bfloat16 units. Interrupt it at will and go on with --resume."
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--half",
        choices=("clip", "diffusion", "all"),
        default="all",
        help="which half to train (default all)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="a quick trial of the machinery: N steps of each"
    )


def run(args: argparse.Namespace) -> int:
    from cliper_model.demo.pipeline import Plan
    from cliper_model.demo.pipeline import run as train

    train(Plan.of(args.steps), args.half, args.out, resume=args.resume)
    return 0
