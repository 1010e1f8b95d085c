"""Train the demo U-Net: its attention must carry coarse maps to the outlines of the picture.

Three steps in four go through the exact refinement chain: coarse map in, true mask out, with a
little noise prediction beside it; the fourth is noise prediction alone.
"""

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from .coarse_maps import CoarseMaps, open_coarse
from .diffusion_network import (
    DOWNSCALE,
    Tap,
    add_noise,
    build_unet,
    chain,
    empty_prompt,
    install_taps,
)
from .export import read_clip
from .parallel import Team, work_together
from .scene_store import SceneStore, open_store
from .schedule import (
    Log,
    MovingAverage,
    RunningMeans,
    learning_rate,
    load_checkpoint,
    prefetch,
    save_checkpoint,
    set_rate,
)
from .vae_training import CHECKPOINT as VAE_CHECKPOINT
from .vae_training import load_vae, to_unit_range

CHECKPOINT: Final = "unet.ckpt"
CONTROL: Final = "unet-noise-only.ckpt"


@dataclass(frozen=True, kw_only=True)
class UnetTraining:
    """Everything that decides the result of the U-Net, besides autoencoder and coarse maps."""

    steps: int = 4800
    noise_steps: int = 150  # at the start: noise prediction alone
    control_steps: int = 500  # of the U-Net that learns noise prediction alone
    processes: int = 2
    crops: int = 2  # of 128 pixels per process and step; of larger ones half as many
    rate: float = 1.2e-3
    warm_up: int = 60
    seed: int = 0
    floor: float = 0.3  # weakest link that is kept, relative to the strongest of its column
    large_from: float = 0.45  # share of the steps after which crops have 192 pixels
    latest_timestep: int = 60  # in steps through the chain
    synthetic: float = 0.3  # share of coarse maps that are blurred truth with noise
    outline_weight: float = 2.0  # how much more a place beside another label counts
    sharpness: float = 3.0  # exponent on refined scores before they are compared
    noise_weight: float = 0.3
    log_every: int = 25
    save_every: int = 100


@dataclass(frozen=True)
class RefineBatch:
    """B crops of P pixels; g = P / 4 latent positions per side."""

    images: Tensor  # uint8 [B, P, P, 3]
    coarse: Tensor  # float [B, MOST_CLASSES, g, g]
    truth: Tensor  # float [B, MOST_CLASSES, P / 2, P / 2], area shares
    refines: bool  # False: noise prediction alone

    def to(self, device: torch.device) -> "RefineBatch":
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            images=self.images.to(device),
            coarse=self.coarse.to(device),
            truth=self.truth.to(device),
        )


def train_unet(
    config: UnetTraining,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> Path:
    """Train into `out`; returns the checkpoint.

    `out` holds scenes, coarse maps, the autoencoder, and in `weights` the CLIP whose empty prompt
    is the condition.
    """
    work_together(_train, config.processes, config, out, CHECKPOINT, resume, progress, device)
    return out / CHECKPOINT


def train_control(
    config: UnetTraining,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> Path:
    """The same U-Net trained by noise prediction alone: it never sees a mask."""
    alone = replace(config, steps=config.control_steps, noise_steps=config.control_steps)
    work_together(_train, alone.processes, alone, out, CONTROL, resume, progress, device)
    return out / CONTROL


def _train(
    team: Team,
    config: UnetTraining,
    out: Path,
    name: str,
    resume: bool,
    progress: bool,
    device: str,
) -> None:
    store, coarse = open_store(out / "scenes" / "train"), open_coarse(out / "coarse")
    talks = team.leads and progress
    log = Log(out / "train-diffusion.log", tqdm.write if talks else None, active=team.leads)
    torch.manual_seed(config.seed)
    place = torch.device(device)
    unet, vae = build_unet().to(place), load_vae(out / VAE_CHECKPOINT).to(place)
    prompt, taps = empty_prompt(read_clip(out / "weights")).to(place), install_taps(unet)
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=config.rate, weight_decay=0.01, betas=(0.9, 0.98)
    )
    average = MovingAverage(unet, keep=0.99)
    start = 0
    if resume and (state := load_checkpoint(out / name)) is not None:
        unet.load_state_dict(state["model"])
        average.load(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["step"])
    what = "U-Net" if name == CHECKPOINT else "U-Net by noise alone"
    log(f"{what} resumed at step {start}" if start else f"{what} {asdict(config)}")
    means, began = RunningMeans(), time.monotonic()
    bar = tqdm(total=config.steps, initial=start, desc="U-Net", unit="step", disable=not talks)
    make = partial(_batch, store, coarse, config, team)
    for step, batch in prefetch(make, start, config.steps):
        set_rate(
            optimizer, learning_rate(step, config.steps, peak=config.rate, warm_up=config.warm_up)
        )
        generator = torch.Generator().manual_seed(1000 * step + team.rank)
        here, share = batch.to(place), step / config.steps
        losses = unet_losses(unet, vae, taps, prompt, here, config, generator, progress=share)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        team.average_gradients(unet.parameters())
        if torch.isfinite(nn.utils.clip_grad_norm_(unet.parameters(), 1.0)):
            optimizer.step()
        average.follow(unet, step)
        means.add({name: loss.item() for name, loss in losses.items()})
        bar.update()
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            team.give_memory_back()
            log(f"{what} {done}/{config.steps} {time.monotonic() - began:.0f} s {means}")
        if team.leads and (done % config.save_every == 0 or done == config.steps):
            state = {
                "model": unet.state_dict(),
                "average": average.weights,
                "optimizer": optimizer.state_dict(),
                "step": done,
            }
            save_checkpoint(out / name, state)
    bar.close()


def unet_losses(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    taps: list[Tap],
    prompt: Tensor,
    batch: RefineBatch,
    config: UnetTraining,
    generator: torch.Generator,
    *,
    progress: float,
) -> dict[str, Tensor]:
    """Weighted losses of one batch, by name."""
    count, place = len(batch.images), batch.images.device
    latest = config.latest_timestep if batch.refines else 1000
    timesteps = torch.randint(1, latest, (count,), generator=generator).to(place)
    for tap in taps:
        tap.on = batch.refines
    with torch.autocast(place.type, torch.bfloat16):
        with torch.no_grad():
            posterior = vae.encode(to_unit_range(batch.images)).latent_dist
            latent = posterior.sample(generator).float() * vae.config.scaling_factor
        noise = torch.randn(latent.shape, generator=generator).to(place)
        noisy = add_noise(latent, noise, timesteps)
        predicted = unet(noisy, timesteps, prompt.expand(count, -1, -1)).sample.float()
    noise_error = F.mse_loss(predicted, noise)
    if not batch.refines:
        return {"noise": noise_error}
    leak = config.floor * (0.1 + 0.6 * progress)
    start = batch.coarse.flatten(2).transpose(1, 2)
    refined = chain(start, taps, floor=config.floor - 1e-6, leak=leak)
    likelihood, overlap = mask_errors(
        refined, batch.truth, sharpness=config.sharpness, outline_weight=config.outline_weight
    )
    return {
        "low noise": config.noise_weight * noise_error,
        "likelihood": likelihood,
        "overlap": overlap,
    }


def mask_errors(
    refined: Tensor, truth: Tensor, *, sharpness: float, outline_weight: float
) -> tuple[Tensor, Tensor]:
    """Class-balanced negative log likelihood, and 1 - soft IoU, at twice the latent grid.

    Places beside another label count `1 + outline_weight` times in the likelihood.
    refined `[B, g g, C]`, truth `[B, C, 2g, 2g]`.
    """
    batch, positions, classes = refined.shape
    grid = round(positions**0.5)
    maps = refined.transpose(1, 2).reshape(batch, classes, grid, grid)
    maps = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    log_scores = (sharpness * (maps.clamp_min(0) + 1e-4).log()).log_softmax(1)
    areas = truth.sum((2, 3))
    present = (areas > 8).float()
    weights = present * areas.clamp_min(8) ** -0.6
    weighted = truth * weights[..., None, None] * (1 + outline_weight * _outlines(truth))
    error = -(weighted * log_scores).sum((1, 2, 3))
    likelihood = error / weighted.sum((1, 2, 3)).clamp_min(1e-3)
    scores = log_scores.exp() * truth.sum(1, keepdim=True)
    shared = (scores * truth).sum((2, 3))
    iou = shared / (scores.sum((2, 3)) + areas - shared + 1)
    overlap = 1 - (iou * present).sum(1) / present.sum(1).clamp_min(1)
    return likelihood.mean(), overlap.mean()


def _outlines(truth: Tensor) -> Tensor:
    """1 where two labels meet within a place of distance, else less, `[B, 1, h, w]`."""
    most, least = F.max_pool2d(truth, 3, 1, 1), -F.max_pool2d(-truth, 3, 1, 1)
    return (most - least).amax(1, keepdim=True)


def _batch(
    store: SceneStore, coarse: CoarseMaps, config: UnetTraining, team: Team, step: int
) -> RefineBatch:
    refines = step >= config.noise_steps and step % 4 != 3
    large = refines and step >= config.large_from * config.steps
    size = 192 if large else 128
    count = config.crops if refines else 2 * config.crops
    count = max(1, count // 2) if large else count
    rng = np.random.default_rng((config.seed, step, team.rank))
    usable = coarse.usable
    crops = [
        _crop(store, coarse, int(usable[rng.integers(len(usable))]), rng, size, config)
        for _ in range(count)
    ]
    images, maps, truths = zip(*crops, strict=True)
    return RefineBatch(
        torch.from_numpy(np.stack(images)), torch.stack(maps), torch.stack(truths), refines
    )


def _crop(
    store: SceneStore,
    coarse: CoarseMaps,
    index: int,
    rng: np.random.Generator,
    size: int,
    config: UnetTraining,
) -> tuple[NDArray[np.uint8], Tensor, Tensor]:
    """One crop with coarse map and truth; as it is, as at inference, or a little enlarged."""
    image = np.asarray(store.images[index])
    full = len(image)
    side = min(int(size / float(rng.choice([0.8, 1.0, 1.1, 1.3]))), full)
    x, y = (int(v) for v in rng.integers(0, full - side + 1, 2))
    box = (x, y, x + side, y + side)
    way = Image.Resampling.NEAREST if rng.random() < 0.75 else Image.Resampling.BICUBIC
    pixels = np.asarray(Image.fromarray(image).resize((size, size), way, box=box))
    shown = coarse.labels[index]
    label_map = torch.from_numpy(store.label_map(index).astype(np.int64))
    known = torch.from_numpy(shown.astype(np.int64))
    masks = ((label_map[None] == known[:, None, None]) & (known > 0)[:, None, None]).float()
    if rng.random() < config.synthetic:
        maps = _blurred_truth(masks, torch.Generator().manual_seed(int(rng.integers(2**31))))
    else:
        maps = torch.from_numpy(np.asarray(coarse.maps[index]).astype(np.float32))
    maps = _cut_out(maps, box, full, size // DOWNSCALE)
    part = masks[None, :, y : y + side, x : x + side]
    truth = F.interpolate(part, size=(size // 2, size // 2), mode="area")[0]
    if rng.random() < 0.5:
        pixels, maps, truth = pixels[:, ::-1], maps.flip(-1), truth.flip(-1)
    return np.ascontiguousarray(pixels), maps, truth


def _blurred_truth(masks: Tensor, generator: torch.Generator) -> Tensor:
    """True masks on a coarse grid, blurred, with noise and uneven class strengths."""
    maps = F.adaptive_avg_pool2d(masks[None], (20, 20))
    around = F.avg_pool2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), 3, 1)
    maps = (0.6 * maps + 0.4 * around)[0]
    shown = (masks.amax((1, 2)) > 0).float()[:, None, None]
    noise = torch.rand(maps.shape, generator=generator)
    strength = torch.rand(len(maps), 1, 1, generator=generator)
    return shown * (0.6 * maps + 0.25 * noise + 0.15 * strength)


def _cut_out(maps: Tensor, box: tuple[int, int, int, int], full: int, grid: int) -> Tensor:
    """The part of `maps` `[C, h, w]` below a pixel box, sampled bilinearly on `grid` x `grid`."""
    left, top, right, bottom = (2 * edge / full - 1 for edge in box)
    theta = torch.tensor(
        [[[(right - left) / 2, 0, (right + left) / 2], [0, (bottom - top) / 2, (bottom + top) / 2]]]
    )
    places = F.affine_grid(theta, [1, len(maps), grid, grid], align_corners=False)
    return F.grid_sample(maps[None], places, padding_mode="border", align_corners=False)[0]
