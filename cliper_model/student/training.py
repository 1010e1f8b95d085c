"""MaskCLIP+: pseudo labels of a teacher, then of the student itself, on augmented crops (§6).

Everything a step draws comes from (seed, step), so a training that was killed goes on as if
nothing had happened: on a CPU, with as many threads, to the same bits.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..stages.resize import IMAGENET_MEAN, IMAGENET_STD
from .checkpoint import Checkpoint, remove_partials
from .crops import CropConfig, Labels, Picture, draw_crop
from .errors import CheckpointExists, LossNotFinite
from .gallery import CachedLabels, Gallery
from .labels import IGNORE, UNLABELLED, assign
from .network import NETWORKS, Student, build_student
from .teachers import Teacher
from .tower import TowerShape, TowerTrunk

OPEN_END: Final = -1
KEEP: Final = 0.98  # of the running mean of the loss that people see


@dataclass(frozen=True, kw_only=True)
class Phases:
    """Which steps learn from whom: first and last step, counted from 1, both included.

    A last step of -1 means to the end. A step in neither phase learns from annotations only.
    """

    guided: tuple[int, int] = (1, OPEN_END)
    self_training: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for first, last in (phase for phase in (self.guided, self.self_training) if phase):
            if first < 1 or (last != OPEN_END and last < first):
                raise ValueError(
                    f"a phase goes from step 1 or later to a later one or to -1, "
                    f"got {first} to {last}"
                )
        if self.self_training is not None and _overlap(self.guided, self.self_training):
            raise ValueError(
                "let self-training begin after the teacher's last step: phases "
                f"{self.guided} and {self.self_training} overlap"
            )

    def of(self, step: int) -> str:
        """`guided`, `self` or `annotated`."""
        if _within(step, self.guided):
            return "guided"
        if self.self_training is not None and _within(step, self.self_training):
            return "self"
        return "annotated"


def published_phases(steps: int, *, annotated: bool) -> Phases:
    """The teacher to the end; with annotations for a tenth of the steps, then the student.

    Published: 1 to 1999 of 20000, self-training from 2000.
    """
    if not annotated or steps < 20:
        return Phases()
    tenth = steps // 10
    return Phases(guided=(1, tenth - 1), self_training=(tenth, OPEN_END))


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything that decides the result, besides pictures, words and teacher.

    Published: SGD, rate 0.01 falling to 1e-4 with power 0.9, batch 4, crops of 512 pixels;
    2000, 4000 or 8000 steps for VOC, Context and Stuff.
    """

    network: str = "resnet50"
    steps: int = 4000
    batch: int = 4
    seed: int = 0
    rate: float = 0.01
    least_rate: float = 1e-4
    power: float = 0.9
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crops: CropConfig = field(default_factory=CropConfig)
    phases: Phases = field(default_factory=Phases)
    cache_labels: bool = False  # not published: the teacher sees whole pictures, once
    balance: float = 0.0  # 0 as published; 0.5 weighs a class by 1 / sqrt(its share of a batch)
    backbone: str = ""  # SHA-256 of the file the network started from
    tower: TowerShape | None = None  # of the network "tower"

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {self.network!r}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        least = 1 if self.network == "small" else 2
        if self.batch < least:
            raise ValueError(
                f"batch must be at least {least} for {self.network} (batch statistics), "
                f"got {self.batch}"
            )
        if (self.tower is None) == (self.network == "tower"):
            raise ValueError("the network tower, and no other, must have the shape of a tower")
        if not 0.0 <= self.balance <= 1.0:
            raise ValueError(f"balance must be in [0, 1], got {self.balance}")
        if not 0 < self.least_rate <= self.rate:
            raise ValueError(f"the rate must be at least {self.least_rate}, got {self.rate}")

    def rate_at(self, step: int) -> float:
        """Polynomial decay; step 1 has the full rate."""
        left = (1 - (step - 1) / self.steps) ** self.power
        return (self.rate - self.least_rate) * left + self.least_rate


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where training stopped; `finished` is False after a request to stop."""

    student: Student
    step: int
    loss: float
    finished: bool


def train(
    plan: Training,
    gallery: Gallery,
    teacher: Teacher,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    save_every: int = 200,
    backbone: Path | None = None,
    visual: Any = None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, float], None] = lambda step, loss: None,
    report_label: Callable[[int], None] = lambda picture: None,
) -> Outcome:
    """Train a student and keep it in `out`, from the beginning or from where `out` stands.

    save_every    steps between checkpoints; one is written first, last and at a stop
    backbone      local file to start a ResNet from
    visual        open_clip vision tower to start the network "tower" from
    should_stop   asked before every picture that gets cached labels and after every step; True
                  saves and ends
    report        step and running mean of the loss, after every step
    report_label  pictures that have cached labels, while these are made

    Halves of `out` that a killed training left are removed. Two trainings must not share `out`.

    Raises CheckpointExists, CheckpointMissing, CheckpointUnreadable, CheckpointDiffers,
    BrokenPicture, LossNotFinite, WeightsMissing, WeightsMismatch.
    """
    fresh = Checkpoint(
        words=gallery.words,
        settings=asdict(plan),
        teacher=teacher.digest,
        pictures=gallery.digest,
        step=0,
        weights={},
    )
    if out.exists() and not resume:
        raise CheckpointExists(out)
    stored = Checkpoint.load(out) if resume else None
    if stored is not None:
        stored.check_same_training(fresh)
    remove_partials(out)
    student = _begin(plan, gallery, backbone if stored is None else None)
    if stored is None and visual is not None and isinstance(student.trunk, TowerTrunk):
        student.trunk.tower.fill(visual)
    if stored is not None:
        student.load_state_dict(dict(stored.weights))
    student.to(device).train()
    optimiser = torch.optim.SGD(
        student.parameters(), lr=plan.rate, momentum=plan.momentum, weight_decay=plan.weight_decay
    )
    start = 0
    if stored is not None:
        start = stored.step
        _put_momentum(student, optimiser, stored)
    else:
        _save(fresh, student, optimiser, 0, out)
    loss_shown = float("nan")
    cache = _cache(plan, gallery, teacher, out) if start < plan.steps else None
    if cache is not None and not cache.fill(
        gallery, teacher, report=report_label, should_stop=should_stop
    ):
        return Outcome(student=student.eval(), step=start, loss=loss_shown, finished=False)

    step = start
    for step, batch in _prefetch(lambda s: draw_batch(plan, gallery, s, cache), start, plan.steps):
        loss = _step(plan, student, optimiser, batch, step, gallery, teacher, device)
        if not np.isfinite(loss):
            raise LossNotFinite(step)
        kept = KEEP if step > start + 1 else 0.0
        loss_shown = loss if kept == 0.0 else kept * loss_shown + (1 - kept) * loss
        report(step, loss_shown)
        stop = should_stop()
        if stop or step == plan.steps or step % save_every == 0:
            _save(fresh, student, optimiser, step, out, last=step == plan.steps)
        if stop:
            break
    student.eval()
    return Outcome(student=student, step=step, loss=loss_shown, finished=step == plan.steps)


@dataclass(frozen=True)
class Batch:
    """Crops and, where annotated or cached, their labels."""

    crops: tuple[Picture, ...]
    labels: tuple[Labels, ...]


def draw_batch(
    plan: Training, gallery: Gallery, step: int, cache: CachedLabels | None = None
) -> Batch:
    """The crops of one step: every picture once per round, in an order of the round's own."""
    crops, labels = [], []
    cached = cache is not None and plan.phases.of(step) == "guided"
    for place in range((step - 1) * plan.batch, step * plan.batch):
        round_number, position = divmod(place, len(gallery))
        order = np.random.default_rng((plan.seed, 1, round_number)).permutation(len(gallery))
        index = int(order[position])
        picture = gallery.picture(index)
        if cached and cache is not None:
            known = cache.labels(index)
        else:
            known = gallery.annotation(index, (picture.shape[0], picture.shape[1]))
        rng = np.random.default_rng((plan.seed, 2, place))
        crop, crop_labels = draw_crop(picture, known, config=plan.crops, rng=rng)
        crops.append(crop)
        labels.append(crop_labels)
    return Batch(tuple(crops), tuple(labels))


def to_pixels(
    crops: tuple[Picture, ...] | list[Picture], device: str | torch.device
) -> Float[Tensor, "batch 3 height width"]:
    """8-bit RGB pictures of one size -> ImageNet-normalised pixels."""
    stacked = torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    return (stacked - mean) / torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)


def label_loss(
    logits: Float[Tensor, "batch classes h w"],
    labels: Int[Tensor, "batch height width"],
    *,
    balance: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy at label size over the pixels that are not ignored; 0 where all are.

    With `balance` b a pixel of a class that fills the share s of them weighs s^-b, and the
    weights' mean is 1; published is 0.
    """
    full = functional.interpolate(
        logits.float(),
        size=(labels.shape[1], labels.shape[2]),
        mode="bilinear",
        align_corners=False,
    )
    counted = (labels != IGNORE).sum().clamp_min(1)
    weights = None
    if balance:
        counts = torch.stack([(labels == number).sum() for number in range(full.shape[1])])
        shares = counts / counted
        weights = torch.where(counts > 0, shares.clamp_min(1e-6) ** -balance, 0.0)
        weights = weights / (weights * shares).sum().clamp_min(1e-6)
    total = functional.cross_entropy(
        full, labels, weight=weights, ignore_index=IGNORE, reduction="sum"
    )
    return total / counted


def _begin(plan: Training, gallery: Gallery, backbone: Path | None) -> Student:
    """The untrained network; its first numbers come from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return build_student(
            plan.network,
            gallery.words.rows,
            background=gallery.words.background,
            backbone=backbone,
            tower=plan.tower,
        )


def _step(
    plan: Training,
    student: Student,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    step: int,
    gallery: Gallery,
    teacher: Teacher,
    device: str,
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = plan.rate_at(step)
    phase = plan.phases.of(step)
    numbers = list(batch.labels)
    if phase == "guided":
        with torch.no_grad():
            numbers = [
                teacher.fill(crop, known) if (known == UNLABELLED).any() else known
                for crop, known in zip(batch.crops, batch.labels, strict=True)
            ]
    labels = torch.from_numpy(np.stack(numbers)).long().to(device)
    logits: Tensor = student(to_pixels(batch.crops, device))
    if phase == "self":
        asked = gallery.asked
        labels = torch.stack(
            [
                assign(seen, known, asked)
                for seen, known in zip(logits.detach(), labels, strict=True)
            ]
        )
    labels = labels.masked_fill(labels == UNLABELLED, IGNORE)
    loss = label_loss(logits, labels, balance=plan.balance)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def _cache(plan: Training, gallery: Gallery, teacher: Teacher, out: Path) -> CachedLabels | None:
    if not plan.cache_labels:
        return None
    return CachedLabels(
        out.with_name(f"{out.name}.labels"), fingerprint=f"{teacher.digest}-{gallery.digest}"
    )


def _prefetch(make: Callable[[int], Batch], start: int, steps: int) -> Iterator[tuple[int, Batch]]:
    """`(step, make(step))` after `start`; the next one is made while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(make, start + 1) if start < steps else None
        for step in range(start + 1, steps + 1):
            assert pending is not None
            ready = pending.result()
            pending = pool.submit(make, step + 1) if step < steps else None
            yield step, ready


def _save(
    fresh: Checkpoint,
    student: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    out: Path,
    *,
    last: bool = False,
) -> None:
    momentum = {
        name: optimiser.state[parameter]["momentum_buffer"]
        for name, parameter in student.named_parameters()
        if optimiser.state.get(parameter, {}).get("momentum_buffer") is not None
    }
    Checkpoint(
        words=fresh.words,
        settings=fresh.settings,
        teacher=fresh.teacher,
        pictures=fresh.pictures,
        step=step,
        weights=student.state_dict(),
        momentum={} if last else momentum,
    ).save(out)


def _put_momentum(student: nn.Module, optimiser: torch.optim.Optimizer, stored: Checkpoint) -> None:
    for name, parameter in student.named_parameters():
        if name in stored.momentum:
            buffer = stored.momentum[name].to(parameter.device)
            optimiser.state[parameter]["momentum_buffer"] = buffer


def _within(step: int, phase: tuple[int, int]) -> bool:
    return phase[0] <= step and (phase[1] == OPEN_END or step <= phase[1])


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    def end(phase: tuple[int, int]) -> float:
        return float("inf") if phase[1] == OPEN_END else float(phase[1])

    return max(one[0], other[0]) <= min(end(one), end(other))
