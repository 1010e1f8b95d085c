"""Corrected tasks of a tiny model whose features lie along axes, and the course for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from backend.learning.evidence import AsItWas, Cells, Evidence, Sample, Truth
from backend.studying import Course
from cliper_model.segmenter import Vocabulary

EMBED, SIDE = 8, 6  # of features; places of a picture's side
NAMES = ("cat", "dog", "fox")


def course(
    names: Sequence[str] = NAMES, *, words: int = 1, behind: int = 1, embed: int = EMBED
) -> Course:
    """Words that lie along axes of their own; the second word of a label along another's."""
    axes = torch.eye(embed)
    rows = [
        axes[(number + word) % len(names)] for number in range(len(names)) for word in range(words)
    ]
    rows += [axes[len(names) + number] for number in range(behind)]
    vocabulary = Vocabulary(
        labels=tuple(names),
        preset="objects",
        rows=torch.stack(rows),
        row_class=tuple(number for number in range(len(names)) for _ in range(words)),
        mean_row=None,
        background=tuple(f"behind {number}" for number in range(behind)),
    )
    return Course(
        control="label",
        model="m",
        names=tuple(names),
        words=tuple(tuple(f"{name} {word}" for word in range(words)) for name in names),
        vocabulary=vocabulary,
        gains=5 * vocabulary.rows.T,
        presence=(0.5,) * len(names),
    )


def task(
    number: int,
    *,
    labels: Sequence[str] = NAMES,
    looks: Sequence[int] = (0, 1, 2),
    noise: float = 0.1,
    painted: Sequence[int] | None = None,
    side: int = SIDE,
    embed: int = EMBED,
    **changes: Any,
) -> Evidence:
    """Half of the places hold labels in turn; label k looks like axis `looks[k]`, none like axis 3.

    `painted`: what people call the things of each kind, if not what they are.
    """
    chance = np.random.default_rng(number)
    places = side * side
    kind = np.where(np.arange(places) % 2 == 0, np.arange(places) // 2 % len(labels), -1)
    axis = np.where(kind < 0, len(NAMES), np.array(looks)[kind])
    features = np.eye(embed)[axis] + noise * chance.normal(size=(places, embed))
    names = np.arange(len(labels)) if painted is None else np.array(painted)
    said = np.where(kind < 0, -1, names[kind])
    shares = np.stack([np.where(said == one, 255, 0) for one in range(len(labels))])
    truth = Truth(
        asked=tuple(labels), labels=tuple(labels), shares=shares.astype(np.uint8), rest=True
    )
    sample = Sample(
        grid_hw=(side, side),
        cells=Cells.of(features.astype(np.float32), most_bytes=50_000),
        truths={"label": truth},
        before={"label": AsItWas(quality=0.4, agreement=0.9, presence=dict.fromkeys(labels, 0.8))},
        models={"label": "m"},
    )
    values = {"task": number, "annotation": number, "stamp": str(number), "weight": 1.0}
    return Evidence(**{**values, **changes}, samples=(sample,))
