"""Train the demo CLIP from nothing on storybook scenes.

Losses of one step: contrastive (picture against caption), tags (is the word in the picture),
patch words through CLIPer's own value path (the last layer, and one random earlier layer), the
strongest patch of every word (is it in the picture, as CLIPer reads it), descriptions (a red car,
a dotted fish) against every patch, and against the items that they could mean. The patch losses
use the exact masks of the scenes: this is not CLIP-style pre-training.
"""

import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn
from tqdm import tqdm

from .clip_batches import Catalogue, ClipBatch, Searches, crop_size, draw_batch
from .clip_network import (
    build_clip,
    encode_text,
    fused_map,
    look,
    normalise_pixels,
    project_layer,
    short_ids,
    text_ends,
    used_token_ids,
)
from .parallel import Team, work_together
from .scene_store import draw_store, open_store
from .schedule import (
    Log,
    RunningMeans,
    learning_rate,
    load_checkpoint,
    prefetch,
    save_checkpoint,
    set_rate,
)

CHECKPOINT: Final = "clip.ckpt"


@dataclass(frozen=True, kw_only=True)
class ClipTraining:
    """Everything that decides the result of the CLIP half."""

    steps: int = 6500
    scenes: int = 24_000
    scene_seed: int = 1  # validation and test scenes have other seeds
    processes: int = 2  # of one thread each; part of the result, since each has its own crops
    batch: int = 32  # crops of 96 pixels per process; larger crops come in smaller batches
    rate: float = 1.2e-3  # AdamW: everything that is no matrix of a block
    matrix_rate: float = 3e-3  # Muon: the matrices of the blocks
    weight_decay: float = 0.05
    warm_up: int = 150  # steps
    seed: int = 0
    tag_weight: float = 8.0
    patch_weight: float = 1.5
    earlier_weight: float = 0.75
    strongest_weight: float = 4.0
    described_weight: float = 6.0
    found_weight: float = 1.0
    by_description: float = 0.5  # share of the steps that ask some labels by descriptions
    through_fused: float = 0.8  # share of the steps; the others use the identity
    log_every: int = 50
    save_every: int = 250

    def __post_init__(self) -> None:
        if min(self.steps, self.scenes, self.batch) < 1:
            raise ValueError("steps, scenes and batch must be at least 1")


class DemoClip(nn.Module):
    """The CLIP with a short token table, and scales that are used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.used: Tensor
        self.register_buffer("used", used_token_ids())
        self.clip: CLIP = build_clip(1 + len(self.used))
        nn.init.normal_(self.clip.token_embedding.weight, std=0.02)
        with torch.no_grad():
            self.clip.token_embedding.weight[0] = 0  # every token that is never trained
        self.patch_scale = nn.Parameter(torch.tensor(math.log(15.0)))
        self.tag_scale = nn.Parameter(torch.tensor([math.log(10.0), -8.0]))
        self.described_scale = nn.Parameter(torch.tensor([math.log(10.0), -8.0]))
        self.found_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def text(self, texts: list[str]) -> Tensor:
        """Unit embeddings `[T, E]`."""
        device = self.used.device
        ids, ends = short_ids(texts, self.used.cpu()), text_ends(texts)
        return encode_text(self.clip, ids.to(device), ends.to(device))


def train_clip(
    config: ClipTraining,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> Path:
    """Train into `out` (checkpoint, log); returns the checkpoint.

    Step `i` draws everything from the generator of `(seed, i, process)`, so a resumed run and an
    uninterrupted one see the same batches. `device` other than the CPU takes one process.
    """
    draw_store(out / "scenes" / "train", count=config.scenes, seed=config.scene_seed)
    work_together(_train, config.processes, config, out, resume, progress, device)
    return out / CHECKPOINT


def _train(
    team: Team, config: ClipTraining, out: Path, resume: bool, progress: bool, device: str
) -> None:
    """What every process of the training does."""
    catalogue = Catalogue(open_store(out / "scenes" / "train"))
    talks = team.leads and progress
    log = Log(out / "train-clip.log", tqdm.write if talks else None, active=team.leads)
    torch.manual_seed(config.seed)
    place = torch.device(device)
    model = DemoClip().to(place)
    optimizers = _optimizers(model, config)
    start = 0
    if resume and (state := load_checkpoint(out / CHECKPOINT)) is not None:
        model.load_state_dict(state["model"])
        for optimizer, before in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(before)
        start = int(state["step"])
    log(f"resumed at step {start}" if start else f"config {asdict(config)}")
    means, began, seen = RunningMeans(), time.monotonic(), 0
    bar = tqdm(total=config.steps, initial=start, desc="CLIP", unit="step", disable=not talks)
    for step, batch in prefetch(partial(_batch, catalogue, config, team), start, config.steps):
        share = learning_rate(step, config.steps, peak=1.0, warm_up=config.warm_up)
        for optimizer, peak in zip(optimizers, (config.rate, config.matrix_rate), strict=True):
            set_rate(optimizer, peak * share)
        rng = np.random.default_rng((config.seed, step, team.rank, 1))
        with torch.autocast(place.type, torch.bfloat16):
            losses = clip_losses(model, batch.to(place), config, rng)
        model.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        _descend(model, optimizers, team)
        means.add({name: loss.item() for name, loss in losses.items()})
        seen += len(batch.images) * team.size
        bar.update()
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            team.give_memory_back()
            elapsed = time.monotonic() - began
            scale = model.patch_scale.exp().item()
            log(
                f"step {done}/{config.steps} {elapsed:.0f} s {seen} crops "
                f"{seen / elapsed:.0f} crops/s rate {share:.3f} patch scale {scale:.1f} {means}"
            )
        if team.leads and (done % config.save_every == 0 or done == config.steps):
            save_checkpoint(
                out / CHECKPOINT,
                {
                    "model": model.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "step": done,
                },
            )
    bar.close()


def clip_losses(
    model: DemoClip, batch: ClipBatch, config: ClipTraining, rng: np.random.Generator
) -> dict[str, Tensor]:
    """The weighted losses of one batch, by name."""
    asked = batch.described_words if rng.random() < config.by_description else None
    prompts = [batch.class_prompts, batch.other_prompts, batch.searches.prompts]
    prompts.append(asked.prompts if asked else [])
    words = model.text([text for group in prompts for text in group])
    classes, others, described, instead = words.split([len(group) for group in prompts])
    seen = look(model.clip, normalise_pixels(batch.images))
    fused = fused_map(seen.accumulated, rounds=len(seen.tokens)).to(seen.tokens[0].dtype)
    last = len(seen.tokens) - 1
    earlier = int(rng.integers(0, last))
    losses = {
        "contrast": _contrast(model, seen.image, model.text(batch.captions)),
        "tags": config.tag_weight * _tags(model, seen.image, classes, others, batch.tags),
    }
    with_background = bool(rng.random() < 0.5)
    names, areas = classes, batch.patch_labels
    if asked:
        kept = torch.cat([~asked.replaced, asked.replaced.new_ones(len(instead))])
        names = torch.cat([classes, instead])[kept]
        areas = torch.cat([asked.patch_labels[..., :1], asked.patch_labels[..., 1:][..., kept]], -1)
    rows, targets = _patch_task(areas, names, others, with_background=with_background)
    weights = _balance(targets)
    for layer, weight in ((last, config.patch_weight), (earlier, config.earlier_weight)):
        through = fused if rng.random() < config.through_fused else None
        patches = project_layer(model.clip, seen, layer, through)
        name = ("fused" if through is not None else "plain") + ("" if layer == last else " early")
        log_scores = _log_scores(model, patches, rows)
        losses[name] = weight * _patch_words(log_scores, targets, weights)
        if layer == last:
            if not asked:
                losses["strongest"] = config.strongest_weight * _strongest(log_scores, batch)
            if len(described):
                everywhere, found = _descriptions(model, patches, described, batch.searches)
                losses["described"] = config.described_weight * everywhere
                losses["found"] = config.found_weight * found
    return losses


def _contrast(model: DemoClip, images: Tensor, captions: Tensor) -> Tensor:
    scale = model.clip.logit_scale.exp().clamp(max=60)
    logits = (scale * images @ captions.T).float()
    matching = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, matching) + F.cross_entropy(logits.T, matching)) / 2


def _tags(model: DemoClip, images: Tensor, classes: Tensor, others: Tensor, tags: Tensor) -> Tensor:
    """Is this word in the picture? Never, for unknown words."""
    unknown = others[:-1]
    scale, bias = model.tag_scale
    logits = scale.exp() * images @ torch.cat([classes, unknown]).T + bias
    wanted = torch.cat([tags, tags.new_zeros(len(tags), len(unknown))], 1)
    return F.binary_cross_entropy_with_logits(logits.float(), wanted)


def _patch_task(
    areas: Tensor, classes: Tensor, others: Tensor, *, with_background: bool
) -> tuple[Tensor, Tensor]:
    """Text rows as at inference, and what every patch should choose among them.

    `areas` `[B, n, 1 + classes]` are shares per patch, the first unlabelled. Rows: classes, mean
    of the classes, unknown words, and the background word or not. An unlabelled pixel belongs to
    the background word, without it to the mean row.
    """
    mean = F.normalize(classes.mean(0, keepdim=True), dim=-1)
    rows = torch.cat([classes, mean, others if with_background else others[:-1]])
    unlabelled, labelled = areas[..., :1], areas[..., 1:]
    targets = labelled.new_zeros(*labelled.shape[:2], len(rows))
    targets[..., : len(classes)] = labelled
    targets[..., -1 if with_background else len(classes)] = unlabelled[..., 0]
    return rows, targets


def _balance(targets: Tensor) -> Tensor:
    """Rare rows weigh more: square root of the inverse share, at most 4, `[rows]`."""
    areas = targets.sum((0, 1)) + 20
    return (areas.mean() / areas).sqrt().clamp(max=4)


def _log_scores(model: DemoClip, patches: Tensor, rows: Tensor) -> Tensor:
    """Log-probability of every row at every patch, `[B, n, rows]`."""
    scale = model.patch_scale.exp().clamp(max=100)
    return (scale * patches @ rows.T).float().log_softmax(-1)


def _patch_words(log_scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    weighted = targets * weights
    return -(log_scores * weighted).sum() / weighted.sum()


def _strongest(log_scores: Tensor, batch: ClipBatch) -> Tensor:
    """How well the strongest patch of a label tells whether the label is in the crop.

    A label that shows too little to be named counts neither way.
    """
    areas = batch.patch_labels[..., 1:].mean(1)  # [B, labels]
    strongest = log_scores[..., : areas.shape[1]].amax(1).clamp(max=-1e-4)
    missed = -strongest * batch.tags
    claimed = -torch.log1p(-strongest.exp()) * (areas == 0)
    return (missed + claimed).mean()


def _descriptions(
    model: DemoClip, patches: Tensor, described: Tensor, searches: Searches
) -> tuple[Tensor, Tensor]:
    """Does the description fit this patch? And is the right item above all its rivals?"""
    scale, bias = model.described_scale
    named = described[: searches.masks.shape[-1]]
    logits = (scale.exp() * patches @ named.T + bias).float()
    errors = F.binary_cross_entropy_with_logits(logits, searches.masks, reduction="none")
    everywhere = errors.mean() if errors.numel() else errors.sum()  # the mean of none is no number
    looks = searches.items.mT.to(patches.dtype) @ patches  # [B, I, E]
    scores = (model.found_scale.exp() * looks @ described.T).float().flatten(0, 1)
    return everywhere, missed_items(
        scores, searches.fits.flatten(0, 1), searches.rivals.flatten(0, 1)
    )


def missed_items(scores: Tensor, fits: Tensor, rivals: Tensor) -> Tensor:
    """How far the items that a description fits are from the top, mean over the descriptions.

    All `[items, descriptions]`; every fitting item stands against all rivals. A description that
    fits nothing, or has no rivals, counts nowhere.
    """
    against = scores.masked_fill(~rivals, -1e4).logsumexp(0)  # [descriptions]
    wanted = fits & rivals.any(0)
    missed = (F.softplus(against - scores) * wanted).sum(0) / wanted.sum(0).clamp(min=1)
    return missed.sum() / wanted.any(0).sum().clamp(min=1)


def _batch(catalogue: Catalogue, config: ClipTraining, team: Team, step: int) -> ClipBatch:
    """The crops of one step and process; all processes use the same crop size."""
    size = crop_size(np.random.default_rng((config.seed, step)), step / config.steps)
    count = max(2, min(round(config.batch * (96 / size) ** 2), config.batch * 4 // 3))
    rng = np.random.default_rng((config.seed, step, team.rank, 0))
    return draw_batch(catalogue, rng, size=size, count=count)


def _optimizers(model: DemoClip, config: ClipTraining) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW for all but the matrices of the blocks, which Muon takes.

    Muon: Jordan et al. 2024; step sizes matched to AdamW's as in arXiv 2502.16982.
    """
    matrices, rest = list[Tensor](), list[Tensor]()
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "resblocks" in name else rest).append(parameter)
    return (
        torch.optim.AdamW(rest, lr=config.rate, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.Muon(
            matrices,
            lr=config.matrix_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
    )


def _descend(model: DemoClip, optimizers: tuple[torch.optim.Optimizer, ...], team: Team) -> None:
    table = model.clip.token_embedding.weight
    assert table.grad is not None
    table.grad[0] = 0  # the row of untrained tokens stays zero
    team.average_gradients(model.parameters())
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
