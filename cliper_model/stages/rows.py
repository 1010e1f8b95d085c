"""Logits per text row -> scores, for methods whose softmax comes after upsampling.

Order of operations of ProxyCLIP, CLIPtrase and MaskCLIP: cosine, bilinear, softmax; the
bilinear and the softmax at every pixel happen in `decide` (specification methods.md §4).
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..segmenter import RowLogits, Scores, Vocabulary
from .decide import likeliest_rows, row_probabilities

DISPLAY_SIDE = 128  # cells; finer logits are shown coarser, and decided as fine as they are


def row_owners(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Label of every text row; -1 for background words."""
    background = len(vocabulary.rows) - len(vocabulary.row_class)
    return (*vocabulary.row_class, *(-1 for _ in range(background)))


def distinct(vocabulary: Vocabulary) -> list[int]:
    """Rows to use: those that do not repeat an earlier row of the same owner.

    Softmax over rows would let the same row twice take probability from everybody.
    """
    kept: list[int] = []
    owners = row_owners(vocabulary)
    for index, row in enumerate(vocabulary.rows):
        twins = (other for other in kept if owners[other] == owners[index])
        if not any(torch.equal(vocabulary.rows[other], row) for other in twins):
            kept.append(index)
    return kept


def cosines(
    features: Float[Tensor, "*places embed"], rows: Float[Tensor, "rows embed"]
) -> Float[Tensor, "*places rows"]:
    """Cosine between every place and every text row."""
    rows = functional.normalize(rows.to(features.device), dim=-1)
    return functional.normalize(features, dim=-1) @ rows.T


def row_scores(
    logits: Float[Tensor, "rows h w"],
    vocabulary: Vocabulary,
    *,
    owners: tuple[int, ...],
    scale: float,
    size_hw: tuple[int, int],
    presence: Callable[[Float[np.ndarray, " classes"]], Float[np.ndarray, " classes"]],
    presence_scale: float | None = None,
    clusters: Float[np.ndarray, "clusters h2 w2"] | None = None,
) -> Scores:
    """Scores whose pixels are decided by `scale * logits`.

    `strength` is a label's largest probability on the logits' own grid, or on a coarser one of
    `DISPLAY_SIDE` cells where they are finer, so that single pixels decide nothing; at
    `presence_scale` where the method's own is too soft to tell absent labels (MaskCLIP).
    """
    values = logits.detach().cpu().numpy().astype(np.float32)
    count = len(vocabulary.labels)
    shown = values if max(values.shape[1:]) <= DISPLAY_SIDE else _coarser(logits)
    maps, _ = likeliest_rows(
        row_probabilities(shown, scale=presence_scale or scale), row_class=owners, classes=count
    )
    maps = np.ascontiguousarray(maps, np.float32)
    strength = maps.max(axis=(1, 2))
    return Scores(
        labels=vocabulary.labels,
        maps=maps,
        strength=strength,
        presence=presence(strength),
        size_hw=size_hw,
        rest=vocabulary.rest,
        rows=RowLogits(values=values, row_class=owners, scale=scale),
        clusters=clusters,
    )


def _coarser(logits: Float[Tensor, "rows h w"]) -> Float[np.ndarray, "rows h2 w2"]:
    height, width = logits.shape[1:]
    share = DISPLAY_SIDE / max(height, width)
    size_hw = (max(1, round(height * share)), max(1, round(width * share)))
    resized = functional.interpolate(logits[None].float(), size=size_hw, mode="area")[0]
    return resized.cpu().numpy().astype(np.float32)
