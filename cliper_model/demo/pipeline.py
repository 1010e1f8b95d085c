"""From nothing to exported demo weights: scenes, CLIP half, diffusion half, figures."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from ..loading import known_device
from . import clip_training, unet_training, vae_training
from .clip_training import ClipTraining, train_clip
from .coarse_maps import extract
from .controls import Networks, export_control
from .evaluation import Inference, choose_threshold, measure
from .export import export_card, export_clip, export_diffusion
from .figures import OTHER_SEED, TEST_SEED, Bench, Figures, recompute
from .model_card import About
from .papers import write_papers
from .scene_sources import OtherScenes, StoredScenes
from .scene_store import draw_store
from .schedule import load_checkpoint
from .unet_training import UnetTraining, train_control, train_unet
from .vae_training import VaeTraining, load_vae, train_vae

__all__ = [
    "CHOSEN",
    "HALVES",
    "TEST_SEED",
    "THRESHOLDS",
    "VALIDATION_SEED",
    "Plan",
    "choose_score_threshold",
    "export_trained_diffusion",
    "extract_coarse_maps",
    "measure_weights",
    "run",
    "test_figures",
]

HALVES: Final = ("clip", "diffusion", "all")
VALIDATION_SEED: Final = 2  # the seed of test scenes belongs to the figures

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
    coarse_scenes: int = 5000
    bench: Bench = field(default_factory=Bench)
    measuring: int = 2  # processes that measure; they change no figure

    @classmethod
    def of(cls, steps: int | None) -> Self:
        """The shipped plan; or with `steps` a quick trial of the machinery, worthless weights."""
        if steps is None:
            return cls()
        return cls(
            clip=ClipTraining(steps=steps, scenes=8, processes=1, batch=2),
            vae=VaeTraining(steps=steps, scenes=8, processes=1, batch=2),
            unet=UnetTraining(steps=steps, noise_steps=1, control_steps=1, processes=1, crops=1),
            inference=replace(CHOSEN, short_side=96, diffusion_size=128),
            coarse_scenes=8,
            bench=Bench(
                test_scenes=2,
                control_scenes=1,
                other_scenes=2,
                style_scenes=1,
                described_pictures=1,
                unseen_pictures=1,
            ),
            measuring=1,
        )

    def on(self, device: str) -> Self:
        """The plan for `device`: an accelerator takes all crops in one process.

        The result differs from the CPU's, whose processes draw their own crops. Raises
        NoSuchDevice.
        """
        if known_device(device).startswith("cpu"):
            return self
        clip, vae, unet = self.clip, self.vae, self.unet
        return replace(
            self,
            clip=replace(clip, processes=1, batch=clip.batch * clip.processes),
            vae=replace(vae, processes=1, batch=vae.batch * vae.processes),
            unet=replace(unet, processes=1, crops=unet.crops * unet.processes),
        )


def run(
    plan: Plan,
    half: str,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    generator: Path | None = None,
    progress: bool = True,
) -> None:
    """Train `half`, export what there is into `out/weights`, measure it once it is whole.

    `generator` is a file with scenes of another generator, to be measured on as well; `device`
    trains, what is measured is measured on the CPU. Raises ValueError for a half that does not
    exist, NoSuchDevice, UnusableGenerator.
    """
    if half not in HALVES:
        raise ValueError(f"half must be one of {', '.join(HALVES)}, got {half!r}")
    plan = plan.on(device)
    if generator is not None:
        OtherScenes(generator, OTHER_SEED).open()  # refuses it before hours of training
    weights = out / "weights"
    if half in ("clip", "all"):
        train_clip(plan.clip, out, resume=resume, progress=progress, device=device)
        export_clip(out / clip_training.CHECKPOINT, weights)
    if half in ("diffusion", "all"):
        train_vae(plan.vae, out, resume=resume, progress=progress, device=device)
        extract_coarse_maps(plan, out, progress=progress)
        train_unet(plan.unet, out, resume=resume, progress=progress, device=device)
        train_control(plan.unet, out, resume=resume, progress=progress, device=device)
        export_trained_diffusion(plan.inference, out)
        measure_weights(
            plan.bench,
            out,
            weights,
            generator=generator,
            processes=plan.measuring,
            progress=progress,
        )


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
    if (control := load_checkpoint(out / unet_training.CONTROL)) is not None:
        export_control(control["average"], out / "weights")
    export_card(out / "weights", inference, vae, THRESHOLDS)


def measure_weights(
    bench: Bench,
    out: Path,
    weights: Path,
    *,
    generator: Path | None = None,
    machine: str | None = None,
    date: str | None = None,
    notes: Sequence[str] = (),
    processes: int = 2,
    progress: bool = True,
) -> None:
    """Measure exported `weights` and write figures, card and logs beside them.

    Scenes are drawn into `out`, which also holds the logs of the training. `machine` and `date`
    are those of the training; None stands for this machine and today.
    """
    figures = recompute(
        weights, bench, out, generator=generator, processes=processes, progress=progress
    )
    about = About(
        date=date or datetime.now(UTC).date().isoformat(),
        machine=machine or f"{os.cpu_count()} CPU cores",
        bench=bench,
        generator=OtherScenes(generator, OTHER_SEED).sha256() if generator else None,
        notes=tuple(notes),
    )
    write_papers(weights, figures, about, logs=out)


def test_figures(plan: Plan, out: Path, weights: Path) -> Figures:
    """Only the figures on test scenes (kept in `out`) of exported `weights`."""
    sizes = {field.name: 0 for field in fields(Bench)}
    bench = Bench(**{**sizes, "test_scenes": plan.bench.test_scenes})
    return recompute(weights, bench, out, processes=1)


def choose_score_threshold(plan: Plan, out: Path, weights: Path, *, count: int = 200) -> float:
    """The score threshold for `THRESHOLDS`, chosen on validation scenes kept in `out`.

    Raises ValueError where none is careful enough (`evaluation.choose_threshold`).
    """
    folder = out / "scenes" / "validation"
    draw_store(folder, count=count, seed=VALIDATION_SEED, workers=_cores())
    sight, draw = Networks(weights, plan.inference).sight(), StoredScenes(folder).open()
    return choose_threshold(measure(sight, draw, range(count), progress=True).asked_all)


def _cores() -> int:
    return min(2, os.cpu_count() or 1)
