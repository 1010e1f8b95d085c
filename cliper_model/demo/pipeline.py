"""From nothing to exported demo weights: scenes, CLIP half, diffusion half, figures."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from open_clip.model import CLIP

from . import clip_training, unet_training, vae_training
from .clip_training import ClipTraining, train_clip
from .coarse_maps import extract
from .evaluation import Inference, Sight, measure, presence_figures, strengths
from .export import (
    export_card,
    export_clip,
    export_diffusion,
    read_clip,
    read_unet,
)
from .scene_store import draw_store, open_store
from .schedule import load_checkpoint
from .unet_training import UnetTraining, train_unet
from .vae_training import VaeTraining, load_vae, train_vae

HALVES: Final = ("clip", "diffusion", "all")
VALIDATION_SEED: Final = 2
TEST_SEED: Final = 3

CHOSEN: Final = Inference()
"""Inference choices of the shipped weights, made on validation scenes."""

THRESHOLDS: Final[Mapping[str, float]] = {"score_threshold": 0.3, "mask_threshold": 0.0}
"""Decision thresholds of the shipped weights, made on validation scenes."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All configurations of one run from nothing to figures."""

    clip: ClipTraining = field(default_factory=ClipTraining)
    vae: VaeTraining = field(default_factory=VaeTraining)
    unet: UnetTraining = field(default_factory=UnetTraining)
    inference: Inference = CHOSEN
    coarse_scenes: int = 4000
    test_scenes: int = 300

    @classmethod
    def of(cls, steps: int | None) -> Self:
        """The shipped plan; or with `steps` a quick trial of the machinery, worthless weights."""
        if steps is None:
            return cls()
        return cls(
            clip=ClipTraining(steps=steps, scenes=8, processes=1, batch=2),
            vae=VaeTraining(steps=steps, scenes=8, processes=1, batch=2),
            unet=UnetTraining(steps=steps, noise_steps=1, processes=1, crops=1),
            inference=replace(CHOSEN, short_side=96, diffusion_size=128),
            coarse_scenes=8,
            test_scenes=2,
        )


def run(plan: Plan, half: str, out: Path, *, resume: bool = False, progress: bool = True) -> None:
    """Train `half`, export what there is into `out/weights`, measure it once it is whole."""
    if half not in HALVES:
        raise ValueError(f"half must be one of {', '.join(HALVES)}, got {half!r}")
    weights = out / "weights"
    if half in ("clip", "all"):
        train_clip(plan.clip, out, resume=resume, progress=progress)
        export_clip(out / clip_training.CHECKPOINT, weights)
    if half in ("diffusion", "all"):
        clip = read_clip(weights)
        train_vae(plan.vae, out, resume=resume, progress=progress)
        extract_coarse_maps(plan, out, clip)
        train_unet(plan.unet, out, resume=resume, progress=progress)
        export_trained_diffusion(plan.inference, out)
        figures = test(plan, out)
        (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def extract_coarse_maps(plan: Plan, out: Path, clip: CLIP) -> None:
    """The CLIP's own mistakes on training scenes, for the diffusion half to mend."""
    store = open_store(out / "scenes" / "train")
    sight = Sight(clip, plan.inference)
    extract(out / "coarse", sight, store, count=plan.coarse_scenes)


def export_trained_diffusion(inference: Inference, out: Path) -> None:
    """The averaged diffusion half and the card, into `out/weights`."""
    state = load_checkpoint(out / unet_training.CHECKPOINT)
    if state is None:
        raise FileNotFoundError(f"no trained U-Net at {out / unet_training.CHECKPOINT}")
    vae = load_vae(out / vae_training.CHECKPOINT)
    export_diffusion(vae, state["average"], out / "weights")
    export_card(out / "weights", inference, vae, THRESHOLDS)


def test(plan: Plan, out: Path) -> dict[str, Mapping[str, float]]:
    """Figures of the exported weights on test scenes."""
    store = draw_store(
        out / "scenes" / "test", count=plan.test_scenes, seed=TEST_SEED, workers=_cores()
    )
    sight = Sight(
        read_clip(out / "weights"),
        plan.inference,
        vae=load_vae(out / vae_training.CHECKPOINT),
        unet=read_unet(out / "weights"),
    )
    tallies = measure(sight, store, count=plan.test_scenes, progress=True)
    figures: dict[str, Mapping[str, float]] = {k: t.figures() for k, t in tallies.items()}
    found = strengths(sight, store, count=plan.test_scenes)
    figures["presence"] = presence_figures(found, THRESHOLDS["score_threshold"])
    return figures


def _cores() -> int:
    return min(2, os.cpu_count() or 1)
