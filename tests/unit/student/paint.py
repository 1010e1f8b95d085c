"""A toy world for students: bright and dark stripes, and a teacher who knows them by sight.

Run as a script it trains: `python -m tests.unit.student.paint FOLDER OUT STEPS`.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cliper_model.student.crops import CropConfig
from cliper_model.student.gallery import Gallery, find_pictures
from cliper_model.student.labels import UNLABELLED
from cliper_model.student.training import Outcome, Training, train
from cliper_model.student.words import StudentWords


class BrightnessTeacher:
    """Class `first` where a pixel is dark, the next where it is bright; counts its looks."""

    digest = "brightness"

    def __init__(self, first: int = 0) -> None:
        self.first, self.looks = first, 0

    def fill(self, crop: np.ndarray, annotation: np.ndarray) -> np.ndarray:
        self.looks += 1
        found = self.first + (crop.mean(axis=2) > 127)
        return np.where(annotation == UNLABELLED, found, annotation)


def words(**changes: Any) -> StudentWords:
    values: dict[str, Any] = {
        "names": ("dark", "bright"),
        "synonyms": (("dark", "black"), ("bright",)),
        "rows": torch.eye(4)[:2],
        "templates": ("a {}.",),
    }
    return StudentWords(**{**values, **changes})


def paint(folder: Path, count: int = 5) -> Path:
    """Pictures of 24 x 36 pixels, half dark and half bright."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        values = rng.integers(0, 90, (24, 36, 3))
        values[:, int(rng.integers(10, 26)) :] += 160
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def gallery(folder: Path, **changes: Any) -> Gallery:
    return Gallery(find_pictures(folder), {}, words(), **changes)


def plan(**changes: Any) -> Training:
    values: dict[str, Any] = {
        "network": "small",
        "steps": 6,
        "batch": 2,
        "crops": CropConfig(side=16, short_side=24),
    }
    return Training(**{**values, **changes})


def learn(folder: Path, out: Path, training: Training | None = None, **options: Any) -> Outcome:
    return train(training or plan(), gallery(folder), BrightnessTeacher(), out, **options)


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    folder, out, steps = arguments

    def report(step: int, loss: float) -> None:
        print(f"step {step} loss {loss:.4f}", flush=True)

    learn(
        Path(folder),
        Path(out),
        plan(steps=int(steps)),
        save_every=3,
        report=report,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
