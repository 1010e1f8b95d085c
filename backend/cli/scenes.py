"""`cliper scenes`: storybook scenes with exact masks, ready to import into Label Studio."""

import argparse
from pathlib import Path

HELP = (
    "Draw storybook scenes, or such scenes in another style: pictures, one mask per label "
    "(<stem>__<label>.png), config.xml and tasks.json. The same seed draws the same scenes."
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=24, metavar="N", help="how many (default 24)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which ones (default 0)")
    parser.add_argument(
        "--style",
        default="storybook",
        metavar="STYLE",
        help="how they look: storybook (default), flat, pencil, night, aerial or palette; no model "
        "was trained on any but storybook",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")


def run(args: argparse.Namespace) -> int:
    from cliper_model.demo.scene_folder import write_scene_folder

    if args.n < 1:
        raise SystemExit("-n must be at least 1")
    write_scene_folder(args.n, args.seed, args.out, style=args.style)
    print(f"{args.n} scenes in {args.out}")
    return 0
