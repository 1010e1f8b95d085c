"""Pseudo labels: what a teacher, or the student itself, puts where nobody annotated.

Pure functions. Source: maskclip.md §6; its training files use the same two numbers.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

UNLABELLED: Final = -1  # a pixel that waits for a pseudo label
IGNORE: Final = 255  # a pixel the loss never sees
MOST_CLASSES: Final = 255  # numbers 0 to 254; 255 is taken

Refine = Callable[[Float[Tensor, "classes h w"]], Float[Tensor, "classes h w"]]


def hide_unlabelled(
    annotation: Int[np.ndarray, "height width"], unlabelled: Sequence[int]
) -> Int[np.ndarray, "height width"]:
    """Annotated pixels of classes that count as unlabelled wait for a pseudo label instead."""
    hidden = np.isin(annotation, np.asarray(unlabelled, dtype=np.int64))
    return np.where(hidden, UNLABELLED, annotation).astype(np.int64)


def assign(
    logits: Float[Tensor, "classes h w"],
    annotation: Int[Tensor, "height width"],
    unlabelled: Sequence[int],
    *,
    refine: Refine | None = None,
    confidence: float = 0.0,
) -> Int[Tensor, "height width"]:
    """Fill the pixels that wait (-1) with the best of the unlabelled classes.

    logits      of every class, the background row first where there is one: cosines of the
                MaskCLIP teacher, or the student's own detached logits
    unlabelled  numbers of the classes a pseudo label may be; `refine` sees their logits only,
                so that its softmax is over these
    refine      prompt denoising and key smoothing, in the CLIP-guided phase
    confidence  above 0: pixels whose best score at label size is below it are ignored,
                annotated ones too, as published

    Annotated pixels keep their class. The result holds class numbers and 255 (ignored), and is
    a tensor in every case: the published function returns a pair where no pixel waits.
    Source: maskclip.md §6, §8 points 10 and 12. Raises ValueError for class numbers that do
    not exist.
    """
    if unlabelled and not 0 <= min(unlabelled) <= max(unlabelled) < len(logits):
        raise ValueError(f"unlabelled classes must be 0 to {len(logits) - 1}, got {unlabelled}")
    waiting = annotation == UNLABELLED
    if not unlabelled:
        return annotation.masked_fill(waiting, IGNORE)
    numbers = torch.tensor(list(unlabelled), device=logits.device)
    among = logits.detach()[numbers]
    if refine is not None:
        among = refine(among)
    full = functional.interpolate(
        among[None].float(),
        size=(annotation.shape[0], annotation.shape[1]),
        mode="bilinear",
        align_corners=False,
    )[0]
    best, winner = full.max(dim=0)
    filled = torch.where(waiting, numbers[winner].to(annotation.dtype), annotation)
    if confidence > 0:
        filled = filled.masked_fill(best < confidence, IGNORE)
    return filled


def fill_in(
    annotation: Int[np.ndarray, "height width"],
    found: Int[np.ndarray, "height width"],
    unlabelled: Sequence[int],
    *,
    nothing: int = IGNORE,
) -> Int[np.ndarray, "height width"]:
    """The same rule for a teacher that decides itself: a finished label map in, numbers out.

    `found` holds 0 where the teacher claims nothing, else 1 + position in `unlabelled`, the
    classes it was asked for. `nothing` is what a pixel without a claim becomes: ignored, or
    the number of a background class.
    """
    numbers = np.array([nothing, *unlabelled], dtype=np.int64)
    return np.where(annotation == UNLABELLED, numbers[found], annotation).astype(np.int64)
