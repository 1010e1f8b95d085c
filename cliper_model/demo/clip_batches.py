"""Training crops for the demo CLIP, with caption, tags and patch labels of what they show."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .captions import (
    BACKGROUND_WORDS,
    NEVER_TOGETHER,
    QUALITY_WORDS,
    SYNONYMS,
    UNKNOWN_WORDS,
    caption,
    label_word,
    prompt,
    qualities,
)
from .scene_store import COLOUR_WORDS, SceneStore
from .scenes import HOURS, LABELS, PATTERNS, THINGS, Item

PATCH: Final = 8
DESCRIPTIONS: Final = 12  # pairs of a right and a wrong description per batch
BALANCED: Final = 0.5  # share of the crops made around a thing, every label as often
_EARLY_SIZES: Final = {64: 0.3, 80: 0.3, 96: 0.3, 112: 0.1}
_LATE_SIZES: Final = {96: 0.2, 128: 0.4, 160: 0.2, 192: 0.2}
_LATE: Final = 0.7  # share of the steps after which crops are larger
_LEAST_PIXELS: Final = 24  # of an item that a crop may be made around
_KINDS: Final = (tuple(COLOUR_WORDS), PATTERNS, HOURS)
"""Qualities that exclude each other."""


@dataclass(frozen=True)
class ClipBatch:
    """B crops of one size; g is their patch grid."""

    images: Tensor  # uint8 [B, R, R, 3]
    captions: list[str]
    tags: Tensor  # float [B, labels], 1 where the label is in the crop
    patch_labels: Tensor  # float [B, g g, 1 + labels], area share per patch, 0 = unlabelled
    class_prompts: list[str]  # one per label
    other_prompts: list[str]  # unknown words, then the background word
    described_prompts: list[str]  # labels with a quality: a red car, a dotted fish
    described_masks: Tensor  # float [B, g g, described prompts], area share of exactly that

    def to(self, device: torch.device) -> "ClipBatch":
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            images=self.images.to(device),
            tags=self.tags.to(device),
            patch_labels=self.patch_labels.to(device),
            described_masks=self.described_masks.to(device),
        )


class Catalogue:
    """Which scenes of a store show a thing, so that every label can be seen as often."""

    def __init__(self, store: SceneStore) -> None:
        self.store = store
        rows = np.asarray(store.labels)
        self._scenes = {
            label: np.flatnonzero((rows == LABELS.index(label) + 1).any(1)) for label in THINGS
        }
        self._things = [label for label in THINGS if len(self._scenes[label])]

    def any_scene(self, rng: np.random.Generator) -> int:
        """Index of any scene."""
        return int(rng.integers(len(self.store)))

    def scene_with_a_thing(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """A scene and the number of a visible item in it, labels equally likely, or None."""
        if not self._things:
            return None
        label = self._things[int(rng.integers(len(self._things)))]
        index = int(rng.choice(self._scenes[label]))
        numbers = np.flatnonzero(self.store.labels[index] == LABELS.index(label) + 1)
        number = int(rng.choice(numbers))
        if np.count_nonzero(self.store.instances[index] == number) < _LEAST_PIXELS:
            return None
        return index, number


def draw_batch(
    catalogue: Catalogue, rng: np.random.Generator, *, size: int, count: int
) -> ClipBatch:
    """`count` crops of `size` x `size` pixels."""
    crops = [_crop(catalogue, rng, size) for _ in range(count)]
    present = [_present(crop) for crop in crops]
    tags = np.zeros((count, len(LABELS)), np.float32)
    for row, labels in enumerate(present):
        tags[row, [LABELS.index(label) for label in labels]] = 1
    described = _descriptions(crops, rng)
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
        described_prompts=[prompt(rng, _in_words(rng, *pair)) for pair in described],
        described_masks=torch.from_numpy(_described_masks(crops, described)),
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
    items: list[Item]  # per instance
    whole: NDArray[np.float64]  # pixels of every instance in the scene, per pixel of the crop


def _crop(catalogue: Catalogue, rng: np.random.Generator, size: int) -> _Crop:
    """A square part of a scene, resized, mirrored half of the time."""
    store = catalogue.store
    target = catalogue.scene_with_a_thing(rng) if rng.random() < BALANCED else None
    index, number = target or (catalogue.any_scene(rng), 0)
    image, instances = np.asarray(store.images[index]), np.asarray(store.instances[index])
    if number:
        x, y, side = _around(rng, instances == number)
    else:
        x, y, side = _anywhere(rng, len(image))
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
    return _Crop(pixels, part, labels, store.items(index), whole)


def _anywhere(rng: np.random.Generator, full: int) -> tuple[int, int, int]:
    """Left, top, side of a random square; the whole scene three times in ten."""
    side = full if rng.random() < 0.3 else int(full * rng.uniform(0.42, 1))
    x, y = (int(v) for v in rng.integers(0, full - side + 1, 2))
    return x, y, side


def _around(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Left, top, side of a square that holds the item: from close by to the whole scene."""
    full = len(mask)
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    extent = max(int(np.ptp(ys)), int(np.ptp(xs))) + 1
    side = int(np.clip(extent * rng.uniform(1.15, 4.5), full / 3, full))
    side = max(side, min(full, extent))
    left, top = (
        int(rng.integers(max(0, last + 1 - side), min(int(first), full - side) + 1))
        for first, last in ((xs[0], int(xs[-1])), (ys[0], int(ys[-1])))
    )
    return left, top, side


def _present(crop: _Crop) -> dict[str, list[tuple[str, ...]]]:
    """Labels a reader would name: not a sliver, not a small rest of something cut off."""
    areas = np.bincount(crop.instances.ravel(), minlength=len(crop.labels)) / crop.instances.size
    present: dict[str, list[tuple[str, ...]]] = {}
    for number in np.flatnonzero(crop.labels):
        if areas[number] < 0.004 or areas[number] < 0.3 * min(crop.whole[number], 0.3):
            continue
        item = crop.items[number]
        assert item.label is not None
        present.setdefault(item.label, []).append(qualities(item))
    return present


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


def _descriptions(crops: list[_Crop], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Up to `DESCRIPTIONS` (quality, label) seen in the batch, each with a wrong one."""
    seen = [
        (quality, item.label)
        for crop in crops
        for item in crop.items
        if item.label is not None
        for quality in qualities(item)
    ]
    described = list[tuple[str, str]]()
    for i in rng.permutation(len(seen))[:DESCRIPTIONS]:
        quality, label = seen[i]
        (kind,) = (words for words in _KINDS if quality in words)
        others = [word for word in kind if word != quality and (word, label) not in NEVER_TOGETHER]
        described.append((quality, label))
        if others:
            described.append((others[int(rng.integers(len(others)))], label))
    return described


def _in_words(rng: np.random.Generator, quality: str, label: str) -> str:
    words = QUALITY_WORDS[quality]
    names = SYNONYMS[label]
    name = names[0] if rng.random() < 0.7 else names[int(rng.integers(len(names)))]
    return f"{words[int(rng.integers(len(words)))]} {name}"


def _described_masks(crops: list[_Crop], described: list[tuple[str, str]]) -> NDArray[np.float32]:
    """Share of every patch that shows exactly that label with that quality, `[B, g g, pairs]`."""
    size = len(crops[0].instances)
    grid = size // PATCH
    masks = np.zeros((len(crops), grid**2, len(described)), np.float32)
    for row, crop in enumerate(crops):
        for column, (quality, label) in enumerate(described):
            wanted = [item.label == label and quality in qualities(item) for item in crop.items]
            if any(wanted):
                pixels = np.array(wanted)[crop.instances].reshape(grid, PATCH, grid, PATCH)
                masks[row, :, column] = pixels.mean((1, 3)).ravel()
    return masks
