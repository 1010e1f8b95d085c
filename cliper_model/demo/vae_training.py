"""Train the demo autoencoder on storybook scenes: colours and edges of small crops."""

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from .diffusion_network import DOWNSCALE, build_vae
from .parallel import Team, work_together
from .scene_store import SceneStore, draw_store, open_store
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

CHECKPOINT: Final = "vae.ckpt"


@dataclass(frozen=True, kw_only=True)
class VaeTraining:
    """Everything that decides the result of the autoencoder."""

    steps: int = 1400
    scenes: int = 24_000
    scene_seed: int = 1
    processes: int = 2
    batch: int = 8  # crops per process
    rate: float = 1.2e-3
    warm_up: int = 60
    seed: int = 0
    edge_weight: float = 0.3
    prior_weight: float = 1e-3
    log_every: int = 100
    save_every: int = 250


def train_vae(
    config: VaeTraining,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> Path:
    """Train into `out`; returns the checkpoint with averaged weights and the scaling factor."""
    draw_store(out / "scenes" / "train", count=config.scenes, seed=config.scene_seed)
    work_together(_train, config.processes, config, out, resume, progress, device)
    return out / CHECKPOINT


def _train(
    team: Team, config: VaeTraining, out: Path, resume: bool, progress: bool, device: str
) -> None:
    store = open_store(out / "scenes" / "train")
    talks = team.leads and progress
    log = Log(out / "train-diffusion.log", tqdm.write if talks else None, active=team.leads)
    torch.manual_seed(config.seed)
    place = torch.device(device)
    vae = build_vae().to(place)
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=config.rate, weight_decay=0.0, betas=(0.9, 0.99)
    )
    average = MovingAverage(vae, keep=0.995)
    start = 0
    if resume and (state := load_checkpoint(out / CHECKPOINT)) is not None:
        vae.load_state_dict(state["model"])
        average.load(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["step"])
    log(f"autoencoder resumed at step {start}" if start else f"autoencoder {asdict(config)}")
    means, began = RunningMeans(0.97), time.monotonic()
    bar = tqdm(total=config.steps, initial=start, desc="VAE", unit="step", disable=not talks)
    for step, crops in prefetch(partial(_batch, store, config, team), start, config.steps):
        set_rate(
            optimizer, learning_rate(step, config.steps, peak=config.rate, warm_up=config.warm_up)
        )
        noise = torch.Generator().manual_seed(1000 * step + team.rank)
        with torch.autocast(place.type, torch.bfloat16):
            losses = vae_losses(vae, crops.to(place), config, noise)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        team.average_gradients(vae.parameters())
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.follow(vae, step)
        means.add({name: loss.item() for name, loss in losses.items()})
        bar.update()
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            team.give_memory_back()
            log(f"autoencoder {done}/{config.steps} {time.monotonic() - began:.0f} s {means}")
        if team.leads and (done % config.save_every == 0 or done == config.steps):
            state = {
                "model": vae.state_dict(),
                "average": average.weights,
                "optimizer": optimizer.state_dict(),
                "step": done,
                "scaling_factor": scaling_factor(average.weights, store),
            }
            save_checkpoint(out / CHECKPOINT, state)
    bar.close()


def vae_losses(
    vae: AutoencoderKL, crops: Tensor, config: VaeTraining, noise: torch.Generator
) -> dict[str, Tensor]:
    """Weighted losses of crops in [-1, 1], by name."""
    posterior = vae.encode(crops).latent_dist
    latent = posterior.sample(noise)
    rebuilt = vae.decode(latent).sample.float()
    area = (crops.shape[-1] // DOWNSCALE) ** 2
    return {
        "colour": (rebuilt - crops).abs().mean(),
        "mean": (F.avg_pool2d(rebuilt, 4) - F.avg_pool2d(crops, 4)).abs().mean(),
        "edge": config.edge_weight * _edge_error(rebuilt, crops),
        "prior": config.prior_weight * posterior.kl().float().mean() / area,
    }


def load_vae(checkpoint: Path) -> AutoencoderKL:
    """The averaged autoencoder, frozen, with its scaling factor in its config."""
    state = load_checkpoint(checkpoint)
    if state is None:
        raise FileNotFoundError(f"no autoencoder at {checkpoint}; train it first")
    vae = build_vae()
    vae.load_state_dict(state["average"])
    vae.register_to_config(scaling_factor=float(state["scaling_factor"]))
    vae.eval().requires_grad_(False)
    return vae


@torch.no_grad()
def scaling_factor(weights: dict[str, Tensor], store: SceneStore) -> float:
    """1 / standard deviation of the latent means over some scenes."""
    vae = build_vae()
    vae.load_state_dict(weights)
    images = torch.from_numpy(np.array(store.images[:16]))
    latent = vae.eval().encode(to_unit_range(images)).latent_dist.mean
    return float(1 / latent.std())


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 `[B, H, W, 3]` to float `[B, 3, H, W]` in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def _edge_error(rebuilt: Tensor, crops: Tensor) -> Tensor:
    """Mean absolute error of horizontal and vertical differences."""
    across = (rebuilt.diff(dim=-1) - crops.diff(dim=-1)).abs().mean()
    return across + (rebuilt.diff(dim=-2) - crops.diff(dim=-2)).abs().mean()


def _batch(store: SceneStore, config: VaeTraining, team: Team, step: int) -> Tensor:
    rng = np.random.default_rng((config.seed, step, team.rank))
    size, crops = 48 if step % 2 else 64, []
    for _ in range(config.batch):
        image = np.asarray(store.images[int(rng.integers(len(store)))])
        side = min(int(rng.choice([size, size, size, 96, 144])), len(image))
        x, y = (int(v) for v in rng.integers(0, len(image) - side + 1, 2))
        way = Image.Resampling.NEAREST if rng.random() < 0.5 else Image.Resampling.BOX
        crop = Image.fromarray(image).resize((size, size), way, box=(x, y, x + side, y + side))
        pixels = np.asarray(crop)
        crops.append(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
    return to_unit_range(torch.from_numpy(np.stack(crops)))
