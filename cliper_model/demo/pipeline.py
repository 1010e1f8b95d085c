"""From nothing to exported demo weights: scenes, CLIP half, diffusion half, figures."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import torch
from diffusers import UNet2DConditionModel

from ..backbones import clip_weights, diffusion_weights
from . import clip_training, unet_training, vae_training
from .clip_training import ClipTraining, train_clip
from .coarse_maps import extract
from .diffusion_network import UNET_CONFIG, build_unet
from .evaluation import (
    Inference,
    Sight,
    absent_figures,
    measure,
    measure_given,
    presence_figures,
)
from .export import export_card, export_clip, export_diffusion
from .model_card import Figures, model_card
from .scene_store import SceneStore, draw_store
from .schedule import load_checkpoint
from .unet_training import UnetTraining, train_unet
from .vae_training import VaeTraining, load_vae, train_vae

HALVES: Final = ("clip", "diffusion", "all")
VALIDATION_SEED: Final = 2
TEST_SEED: Final = 3

CHOSEN: Final = Inference()
"""Inference choices of the shipped weights, made on validation scenes."""

THRESHOLDS: Final[Mapping[str, float]] = {
    "score_threshold": 0.6,
    "background_threshold": 0.3,
    "mask_threshold": 0.0,
}
"""Decision thresholds of the shipped weights, made on validation scenes."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All configurations of one run from nothing to figures."""

    clip: ClipTraining = field(default_factory=ClipTraining)
    vae: VaeTraining = field(default_factory=VaeTraining)
    unet: UnetTraining = field(default_factory=UnetTraining)
    inference: Inference = CHOSEN
    coarse_scenes: int = 6000
    test_scenes: int = 300
    control_scenes: int = 100

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
            control_scenes=1,
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
        train_vae(plan.vae, out, resume=resume, progress=progress)
        extract_coarse_maps(plan, out, progress=progress)
        train_unet(plan.unet, out, resume=resume, progress=progress)
        export_trained_diffusion(plan.inference, out)
        figures = {**test_figures(plan, out, weights), **control_figures(plan, out)}
        write_papers(plan, out, figures)


def extract_coarse_maps(plan: Plan, out: Path, *, progress: bool = True) -> None:
    """The CLIP's own mistakes on training scenes, for the diffusion half to mend."""
    scenes = out / "scenes" / "train"
    draw_store(scenes, count=plan.clip.scenes, seed=plan.clip.scene_seed)
    extract(
        out / "coarse",
        weights=out / "weights",
        scenes=scenes,
        inference=plan.inference,
        count=plan.coarse_scenes,
        workers=_cores(),
        progress=progress,
    )


def export_trained_diffusion(inference: Inference, out: Path) -> None:
    """The averaged diffusion half and the card, into `out/weights`."""
    state = load_checkpoint(out / unet_training.CHECKPOINT)
    if state is None:
        raise FileNotFoundError(f"no trained U-Net at {out / unet_training.CHECKPOINT}")
    vae = load_vae(out / vae_training.CHECKPOINT)
    export_diffusion(vae, state["average"], out / "weights")
    export_card(out / "weights", inference, vae, THRESHOLDS)


def write_papers(plan: Plan, out: Path, figures: Figures) -> None:
    """Model card, figures and logs, beside the weights."""
    text = model_card(
        figures,
        {**asdict(plan.inference), **THRESHOLDS},
        scenes=plan.test_scenes,
        control_scenes=plan.control_scenes,
        date=datetime.now(UTC).date().isoformat(),
        machine=f"{os.cpu_count()} CPU cores",
    )
    weights = out / "weights"
    (weights / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    (weights / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for log in ("train-clip.log", "train-diffusion.log"):
        if (out / log).is_file():
            shutil.copyfile(out / log, weights / log)


def test_figures(plan: Plan, out: Path, weights: Path) -> dict[str, Mapping[str, float]]:
    """Figures of exported `weights` on test scenes (kept in `out`), loaded as the package does."""
    store = _test_store(plan, out)
    clip, _ = clip_weights.load_demo_clip(weights)
    diffusion = diffusion_weights.load_demo_diffusion(weights)
    sight = Sight(clip, plan.inference, vae=diffusion.vae, unet=diffusion.unet)
    measured = measure(sight, store, count=plan.test_scenes, progress=True)
    figures: dict[str, Mapping[str, float]] = {}
    for way, tally in measured.tallies.items():
        figures[way] = tally.figures()
        figures[f"{way}: IoU per label"] = tally.per_label()
    threshold = THRESHOLDS["score_threshold"]
    figures["presence"] = presence_figures(measured.asked_all, threshold)
    figures["absent"] = absent_figures(measured.asked_none, threshold)
    return figures


def control_figures(plan: Plan, out: Path) -> dict[str, Mapping[str, float]]:
    """The image's words, refined with U-Nets that never saw a mask; on the first test scenes."""
    store = _test_store(plan, out)
    clip, _ = clip_weights.load_demo_clip(out / "weights")
    diffusion = diffusion_weights.load_demo_diffusion(out / "weights")
    unets = {"as shipped": diffusion.unet, **control_unets(out), "no refinement": None}
    figures: dict[str, Mapping[str, float]] = {}
    for name, unet in unets.items():
        sight = Sight(clip, plan.inference, vae=diffusion.vae, unet=unet)
        tally = measure_given(sight, store, count=plan.control_scenes, progress=True)
        figures[name] = tally.figures()
    return figures


def _test_store(plan: Plan, out: Path) -> SceneStore:
    folder = out / "scenes" / "test"
    return draw_store(folder, count=plan.test_scenes, seed=TEST_SEED, workers=_cores())


def control_unets(out: Path) -> dict[str, UNet2DConditionModel]:
    """U-Nets that never saw a mask: not trained, only started well, trained on noise only."""
    torch.manual_seed(5)
    unets = {"untrained": UNet2DConditionModel(**UNET_CONFIG), "key = query start": build_unet()}
    state = load_checkpoint(out / unet_training.NOISE_ONLY)
    if state is not None:
        unets["noise prediction only"] = build_unet()
        unets["noise prediction only"].load_state_dict(state["average"])
    return unets


def _cores() -> int:
    return min(2, os.cpu_count() or 1)
