"""What both trainings share: step schedule, logging, checkpoints that can be resumed."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

T = TypeVar("T")


def learning_rate(
    step: int, steps: int, *, peak: float, warm_up: int, decay_from: float = 0.5
) -> float:
    """Linear warm-up, constant, then from share `decay_from` on half a cosine down to 1 %.

    The constant part does not depend on `steps`, so a run can be made longer while it lasts.
    """
    warm = min(1.0, (step + 1) / max(1, warm_up))
    fallen = max(0.0, (step / max(1, steps) - decay_from) / (1 - decay_from))
    return peak * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen))))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def prefetch(make: Callable[[int], T], start: int, stop: int) -> Iterator[tuple[int, T]]:
    """`(step, make(step))` for every step; the next one is made while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(make, start) if start < stop else None
        for step in range(start, stop):
            assert pending is not None
            ready = pending.result()
            pending = pool.submit(make, step + 1) if step + 1 < stop else None
            yield step, ready


class RunningMeans:
    """Exponential means of the losses, for the log."""

    def __init__(self, keep: float = 0.95) -> None:
        self._keep, self._means = keep, dict[str, float]()

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            before = self._means.get(name, value)
            self._means[name] = self._keep * before + (1 - self._keep) * value

    def __str__(self) -> str:
        return " ".join(f"{name} {value:.3f}" for name, value in self._means.items())


class MovingAverage:
    """Exponential average of a model's weights, quicker to follow at the start."""

    def __init__(self, model: nn.Module, keep: float) -> None:
        self._keep = keep
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}

    def load(self, weights: dict[str, Tensor]) -> None:
        """Go on from `weights`, which may lie on another device."""
        self.weights = {
            name: value.clone().to(self.weights[name].device) for name, value in weights.items()
        }

    @torch.no_grad()
    def follow(self, model: nn.Module, step: int) -> None:
        keep = min(self._keep, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            self.weights[name].lerp_(value, 1 - keep)


class Log:
    """Lines appended to a file, and handed to `echo` if there is one."""

    def __init__(
        self, path: Path, echo: Callable[[str], object] | None = None, *, active: bool = True
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._echo, self._active = path, echo, active

    def __call__(self, line: str) -> None:
        if not self._active:
            return
        with self._path.open("a") as file:
            file.write(line + "\n")
        if self._echo is not None:
            self._echo(line)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside the old checkpoint, then replace it: a stop never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The saved state, or None where there is none."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
