"""`cliper methods`: every method, what it is built from, and what was published for it."""

import argparse
import json
from dataclasses import asdict

from cliper_model import profiles
from cliper_model.profiles import MethodCard

HELP = "List the segmentation methods: paper, parts, weights, published accuracy, operations."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Always 0."""
    cards = [profiles.method_card(name) for name in profiles.methods()]
    if args.json:
        print(json.dumps([asdict(card) for card in cards], indent=2))
        return 0
    for card in cards:
        print("\n".join(_lines(card)), end="\n\n")
    print("mIoU in percent, published by the methods' authors with their own settings, not")
    print("measured here. GFLOP: one 336 x 336 px picture and 20 words with ViT-B/16, counted by")
    print("benchmarks/true_methods.py.")
    return 0


def _lines(card: MethodCard) -> list[str]:
    published = ", ".join(f"{name} {value:g}" for name, value in card.published_miou.items())
    facts = {
        "paper": card.paper,
        "parts": card.parts,
        "weights": _weights(card),
        "published": f"{published} ({card.published_with})" if published else card.published_with,
        "GFLOP": f"{card.gflops:g}" if card.gflops is not None else "not measured",
    }
    return [f"{card.name}: {card.title}", *(f"  {name:<10}{text}" for name, text in facts.items())]


def _weights(card: MethodCard) -> str:
    said = {
        "clip": "CLIP",
        "diffusion": "Stable Diffusion 2.1-base, or none in the profile 'fast'",
        "features": "a feature source (--features, DINO B/8 unless named)",
        "similarity": "instead of diffusion, a feature source may refine (--features)",
        "student": "a checkpoint of 'cliper train-student' (--student)",
    }
    return "; ".join(said[need] for need in card.needs)
