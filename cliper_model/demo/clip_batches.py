"""Training crops for the demo CLIP, with caption, tags and patch labels of what they show."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .captions import BACKGROUND_WORDS, UNKNOWN_WORDS, caption, label_word, prompt
from .scene_store import COLOUR_WORDS, SceneStore
from .scenes import LABELS, STUFF
from .scenes.things import TABLE

PATCH: Final = 8
COLOUR_PHRASES: Final = 8  # pairs of a right and a wrong colour per batch
_EARLY_SIZES: Final = {64: 0.3, 80: 0.3, 96: 0.3, 112: 0.1}
_LATE_SIZES: Final = {96: 0.35, 112: 0.3, 128: 0.35}
_LATE: Final = 0.7  # share of the steps after which crops are larger


@dataclass(frozen=True)
class ClipBatch:
    """B crops of one size; g is their patch grid."""

    images: Tensor  # uint8 [B, R, R, 3]
    captions: list[str]
    tags: Tensor  # float [B, labels], 1 where the label is in the crop
    patch_labels: Tensor  # float [B, g g, 1 + labels], area share per patch, 0 = unlabelled
    class_prompts: list[str]  # one per label
    other_prompts: list[str]  # unknown words, then the background word
    colour_prompts: list[str]
    colour_masks: Tensor  # float [B, g g, colour prompts], area share of exactly that phrase


def draw_batch(store: SceneStore, rng: np.random.Generator, *, size: int, count: int) -> ClipBatch:
    """`count` crops of `size` x `size` pixels."""
    crops = [_crop(store, rng, size) for _ in range(count)]
    present = [_present(crop) for crop in crops]
    tags = np.zeros((count, len(LABELS)), np.float32)
    for row, labels in enumerate(present):
        tags[row, [LABELS.index(label) for label in labels]] = 1
    phrases = _colour_phrases(crops, rng)
    return ClipBatch(
        images=torch.from_numpy(np.stack([crop.image for crop in crops])),
        captions=[caption(rng, labels) for labels in present],
        tags=torch.from_numpy(tags),
        patch_labels=torch.from_numpy(_patch_labels(crops)),
        class_prompts=[prompt(rng, label_word(rng, label)) for label in LABELS],
        other_prompts=[
            *(prompt(rng, word) for word in rng.choice(UNKNOWN_WORDS, 3, replace=False)),
            prompt(rng, BACKGROUND_WORDS[rng.integers(len(BACKGROUND_WORDS))]),
        ],
        colour_prompts=[
            prompt(rng, f"{COLOUR_WORDS[colour - 1]} {LABELS[label - 1]}")
            for label, colour in phrases
        ],
        colour_masks=torch.from_numpy(_colour_masks(crops, phrases)),
    )


def crop_size(rng: np.random.Generator, progress: float) -> int:
    """Side of this batch's crops; larger ones, as seen at inference, come late in training."""
    sizes = _EARLY_SIZES if progress < _LATE else _LATE_SIZES
    return int(rng.choice(list(sizes), p=list(sizes.values())))


@dataclass(frozen=True)
class _Crop:
    image: NDArray[np.uint8]  # [R, R, 3]
    instances: NDArray[np.uint8]  # [R, R]
    labels: NDArray[np.uint8]  # label id per instance
    colours: NDArray[np.uint8]
    whole: NDArray[np.float64]  # pixels of every instance in the scene, per pixel of the crop


def _crop(store: SceneStore, rng: np.random.Generator, size: int) -> _Crop:
    """A square part of a random scene, resized, mirrored half of the time."""
    index = int(rng.integers(len(store)))
    image, instances = np.asarray(store.images[index]), np.asarray(store.instances[index])
    full = len(image)
    side = full if rng.random() < 0.3 else int(full * rng.uniform(0.42, 1))
    x, y = (int(v) for v in rng.integers(0, full - side + 1, 2))
    box = (x, y, x + side, y + side)
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box)
    grey = (np.asarray(resized).astype(np.float32) - 128) * rng.uniform(0.9, 1.1) + 128
    pixels = (grey + rng.uniform(-10, 10)).clip(0, 255).astype(np.uint8)
    at = ((np.arange(size) + 0.5) * side / size).astype(np.int64)
    part = instances[np.ix_(y + at, x + at)]
    if rng.random() < 0.5:
        pixels, part = pixels[:, ::-1], part[:, ::-1]
    labels = store.labels[index]
    whole = np.bincount(instances.ravel(), minlength=len(labels)) / side**2
    return _Crop(pixels, part, labels, store.colours[index], whole)


def _present(crop: _Crop) -> dict[str, list[str | None]]:
    """Labels a reader would name: not a sliver, not a small rest of something cut off."""
    areas = np.bincount(crop.instances.ravel(), minlength=len(crop.labels)) / crop.instances.size
    present: dict[str, list[str | None]] = {}
    for item in np.flatnonzero(crop.labels):
        if areas[item] < 0.004 or areas[item] < 0.3 * min(crop.whole[item], 0.3):
            continue
        label, colour = LABELS[crop.labels[item] - 1], int(crop.colours[item])
        word = COLOUR_WORDS[colour - 1] if colour else None
        present.setdefault(label, []).append(word)
    return {label: [None] if label in STUFF else seen for label, seen in present.items()}


def _patch_labels(crops: list[_Crop]) -> NDArray[np.float32]:
    """Share of every label in every patch, `[B, g g, 1 + labels]`."""
    size = len(crops[0].instances)
    grid, classes = size // PATCH, 1 + len(LABELS)
    y, x = np.mgrid[0:size, 0:size] // PATCH
    patch = (y * grid + x) * classes
    shares = [
        np.bincount((patch + crop.labels[crop.instances]).ravel(), minlength=grid**2 * classes)
        for crop in crops
    ]
    return (np.stack(shares) / PATCH**2).astype(np.float32).reshape(len(crops), grid**2, classes)


def _colour_phrases(crops: list[_Crop], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Up to `COLOUR_PHRASES` (label id, colour id) seen in the batch, each with a wrong one."""
    seen = [
        (int(crop.labels[item]), int(crop.colours[item]))
        for crop in crops
        for item in np.flatnonzero(crop.colours)
    ]
    phrases = []
    for i in rng.permutation(len(seen))[:COLOUR_PHRASES]:
        label, colour = seen[i]
        words = [word for word in TABLE[LABELS[label - 1]].colours if isinstance(word, str)]
        others = [word for word in words if word != COLOUR_WORDS[colour - 1]]
        wrong = 1 + COLOUR_WORDS.index(others[rng.integers(len(others))])
        phrases += [(label, colour), (label, wrong)]
    return phrases


def _colour_masks(crops: list[_Crop], phrases: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Share of every patch that shows exactly that label in that colour, `[B, g g, phrases]`."""
    size = len(crops[0].instances)
    grid = size // PATCH
    masks = np.zeros((len(crops), grid**2, len(phrases)), np.float32)
    for row, crop in enumerate(crops):
        for column, (label, colour) in enumerate(phrases):
            items = (crop.labels == label) & (crop.colours == colour)
            if items.any():
                pixels = items[crop.instances].reshape(grid, PATCH, grid, PATCH)
                masks[row, :, column] = pixels.mean((1, 3)).ravel()
    return masks
