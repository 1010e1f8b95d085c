"""Training crops for the demo CLIP, with caption, tags and patch labels of what they show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .captions import (
    BACKGROUND_WORDS,
    NEVER_TOGETHER,
    NO_NAME,
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
DESCRIPTIONS: Final = 14  # pairs of a right and a wrong description per batch
QUALITIES: Final = 6  # qualities of anything per batch: something blue, something striped
BALANCED: Final = 0.5  # share of the crops made around a thing, every label as often
JOINED: Final = 0.25  # share of the crops whose right part comes from another scene
_TWINS: Final = 0.5  # share of those that show the same label in both parts
_EARLY_SIZES: Final = {64: 0.3, 80: 0.3, 96: 0.3, 112: 0.1}
_LATE_SIZES: Final = {96: 0.3, 128: 0.4, 160: 0.3}
_LATE: Final = 0.7  # share of the steps after which crops are larger
_LEAST_PIXELS: Final = 24  # of an item that a crop may be made around
_LEAST_PATCHES: Final = 1.0  # area of an item that is searched for
_KINDS: Final = (tuple(COLOUR_WORDS), PATTERNS, HOURS)
"""Qualities that exclude each other."""


@dataclass(frozen=True)
class DescribedWords:
    """Some labels asked by descriptions in place of their names: a red car, a green car.

    An item of such a label that fits none of its descriptions is as unlabelled as plain ground;
    where that cannot be told it counts nowhere.
    """

    prompts: list[str]
    replaced: Tensor  # bool [labels], True where descriptions stand for the name
    patch_labels: Tensor  # float [B, g g, 1 + labels + prompts], area share per patch

    def to(self, device: torch.device) -> "DescribedWords":
        """The same words with their tensors on `device`."""
        replaced, areas = self.replaced.to(device), self.patch_labels.to(device)
        return replace(self, replaced=replaced, patch_labels=areas)


@dataclass(frozen=True)
class Searches:
    """Descriptions to be found: a red car, a dotted fish, and qualities of anything.

    `masks` has a column for the first prompts only, those that name a label.
    """

    prompts: list[str]
    masks: Tensor  # float [B, g g, prompts that name a label], area share of exactly that
    items: Tensor  # float [B, g g, I], where every item lies; a column sums to 1, or to 0 for none
    fits: Tensor  # bool [B, I, prompts], True where the description is right
    rivals: Tensor  # bool [B, I, prompts], where it is wrong, though the label fits

    def to(self, device: torch.device) -> "Searches":
        """The same searches with their tensors on `device`."""
        return replace(
            self,
            masks=self.masks.to(device),
            items=self.items.to(device),
            fits=self.fits.to(device),
            rivals=self.rivals.to(device),
        )


@dataclass(frozen=True)
class ClipBatch:
    """B crops of one size; g is their patch grid."""

    images: Tensor  # uint8 [B, R, R, 3]
    captions: list[str]
    tags: Tensor  # float [B, labels], 1 where the label is in the crop
    patch_labels: Tensor  # float [B, g g, 1 + labels], area share per patch, 0 = unlabelled
    class_prompts: list[str]  # one per label
    other_prompts: list[str]  # unknown words, then the background word
    searches: Searches
    described_words: DescribedWords | None  # None where nothing in the crops can be described

    def to(self, device: torch.device) -> "ClipBatch":
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            images=self.images.to(device),
            tags=self.tags.to(device),
            patch_labels=self.patch_labels.to(device),
            searches=self.searches.to(device),
            described_words=self.described_words and self.described_words.to(device),
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

    def any_thing(self, rng: np.random.Generator) -> str | None:
        """A thing that some scene shows, all equally likely, or None."""
        return self._things[int(rng.integers(len(self._things)))] if self._things else None

    def scene_with(self, label: str, rng: np.random.Generator) -> tuple[int, int] | None:
        """A scene and the number of an item of that label in it, or None if it is too small."""
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
    for place in np.flatnonzero(rng.random(count) < JOINED):
        crops[place] = _two_scenes(catalogue, rng, crops[place])
    present = [_present(crop) for crop in crops]
    tags = np.zeros((count, len(LABELS)), np.float32)
    for row, labels in enumerate(present):
        tags[row, [LABELS.index(label) for label in labels]] = 1
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
        searches=_searches(crops, rng),
        described_words=_described_words(crops, rng),
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
    items: list[Item]  # per instance, until the last one that can be seen in the scene
    said: list[tuple[str, ...]]  # qualities that may be said, per item
    whole: NDArray[np.float64]  # pixels of every instance in the scene, per pixel of the crop


def _crop(catalogue: Catalogue, rng: np.random.Generator, size: int) -> _Crop:
    """Around a thing, every label as often, or anywhere."""
    label = catalogue.any_thing(rng) if rng.random() < BALANCED else None
    return _crop_with(catalogue, rng, size, label)


def _two_scenes(catalogue: Catalogue, rng: np.random.Generator, crop: _Crop) -> _Crop:
    """The left of `crop` beside another crop, or two crops around the same label."""
    size = len(crop.instances)
    label = catalogue.any_thing(rng) if rng.random() < _TWINS else None
    if label is None:
        return _joined(crop, _crop(catalogue, rng, size), rng)
    left, right = (_crop_with(catalogue, rng, size, label) for _ in range(2))
    return _joined(left, right, rng)


def _crop_with(
    catalogue: Catalogue, rng: np.random.Generator, size: int, label: str | None
) -> _Crop:
    """A square part of a scene, resized, mirrored half of the time."""
    store = catalogue.store
    target = catalogue.scene_with(label, rng) if label else None
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
    whole = np.bincount(instances.ravel()) / side**2
    items = store.items(index)[: len(whole)]
    labels = store.labels[index, : len(whole)]
    return _Crop(pixels, part, labels, items, [qualities(item) for item in items], whole)


def _joined(left: _Crop, right: _Crop, rng: np.random.Generator) -> _Crop:
    """Two crops side by side: what is in one part says nothing about the other.

    After CutMix (arXiv 1905.04899); without it day and night would never meet.
    """
    size = len(left.instances)
    edge = int(size * rng.uniform(0.3, 0.7))
    instances = left.instances.copy()
    instances[:, edge:] = right.instances[:, edge:] + len(left.items)
    return _Crop(
        np.concatenate([left.image[:, :edge], right.image[:, edge:]], axis=1),
        instances,
        np.concatenate([left.labels, right.labels]),
        left.items + right.items,
        left.said + right.said,
        np.concatenate([left.whole, right.whole]),
    )


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
        present.setdefault(item.label, []).append(crop.said[number])
    return present


def _patch_labels(crops: list[_Crop]) -> NDArray[np.float32]:
    """Share of every label in every patch, `[B, g g, 1 + labels]`."""
    return _patch_shares(crops, [crop.labels for crop in crops], 1 + len(LABELS))


def _patch_shares(
    crops: list[_Crop], columns: Sequence[NDArray[Any]], count: int
) -> NDArray[np.float32]:
    """Share of every column in every patch, `[B, g g, count]`; a column for every instance."""
    size = len(crops[0].instances)
    grid = size // PATCH
    y, x = np.mgrid[0:size, 0:size] // PATCH
    patch = (y * grid + x) * count
    shares = [
        np.bincount((patch + column[crop.instances]).ravel(), minlength=grid**2 * count)
        for crop, column in zip(crops, columns, strict=True)
    ]
    return (np.stack(shares) / PATCH**2).astype(np.float32).reshape(len(crops), grid**2, count)


def _searches(crops: list[_Crop], rng: np.random.Generator) -> Searches:
    """Descriptions that are right somewhere in the batch, wrong ones, and mere qualities."""
    named = _descriptions(crops, rng)
    words = sorted({word for crop in crops for item in crop.items for word in _shown(item)})
    mere = [words[i] for i in rng.permutation(len(words))[:QUALITIES]]
    asked = [*named, *((quality, None) for quality in mere)]
    most = max(len(crop.items) for crop in crops)
    shares = _patch_shares(crops, [np.arange(len(crop.items)) for crop in crops], most)
    areas = shares.sum(1, keepdims=True)  # [B, 1, I] in patches
    seen = (areas[:, 0] >= _LEAST_PATCHES)[..., None]
    fits = np.zeros((len(crops), most, len(asked)), bool)
    rivals = np.zeros_like(fits)
    for row, crop in enumerate(crops):
        for number, item in enumerate(crop.items):
            if item.label is not None:
                told = [_fits(item, quality, label) for quality, label in asked]
                fits[row, number] = [answer is True for answer in told]
                rivals[row, number] = [answer is False for answer in told]
    masks = np.einsum("bni,bid->bnd", shares, fits[..., : len(named)].astype(np.float32))
    return Searches(
        prompts=[prompt(rng, _in_words(rng, *pair)) for pair in asked],
        masks=torch.from_numpy(masks),
        items=torch.from_numpy(shares / np.maximum(areas, 1e-6)),
        fits=torch.from_numpy(fits & seen),
        rivals=torch.from_numpy(rivals & seen),
    )


def _descriptions(crops: list[_Crop], rng: np.random.Generator) -> list[tuple[str, str | None]]:
    """Up to `DESCRIPTIONS` (quality, label) seen in the batch, each with a wrong one."""
    seen = [
        (quality, item.label)
        for crop in crops
        for item, said in zip(crop.items, crop.said, strict=True)
        if item.label is not None
        for quality in said
    ]
    described = list[tuple[str, str | None]]()
    for i in rng.permutation(len(seen))[:DESCRIPTIONS]:
        quality, label = seen[i]
        kind = _KINDS[_kind(quality)]
        others = [word for word in kind if word != quality and (word, label) not in NEVER_TOGETHER]
        described.append((quality, label))
        if others:
            described.append((others[int(rng.integers(len(others)))], label))
    return described


def _shown(item: Item) -> list[str]:
    """Every quality of a labelled item, whether a text may say it of the label or not."""
    return [word for word in item[1:] if word is not None] if item.label is not None else []


def _fits(item: Item, quality: str, label: str | None) -> bool | None:
    """Whether a description is right; None where that is not to be asked."""
    if label is not None and label != item.label:
        return None
    kind = _kind(quality)
    shown = item[1 + kind]
    if shown is None and _KINDS[kind] != PATTERNS:
        return None
    return shown == quality


def _described_words(crops: list[_Crop], rng: np.random.Generator) -> DescribedWords | None:
    """Half of the labels that show a quality, asked by one to three qualities of one kind."""
    seen: dict[tuple[str, int], set[str]] = {}
    for crop in crops:
        for item, said in zip(crop.items, crop.said, strict=True):
            for quality in said:
                seen.setdefault((str(item.label), _kind(quality)), set()).add(quality)
    asked: dict[str, tuple[int, list[str]]] = {}
    for label in sorted({label for label, _ in seen}):
        kinds = [kind for kind in range(len(_KINDS)) if (label, kind) in seen]
        kind = kinds[int(rng.integers(len(kinds)))]
        chosen = _asked_qualities(rng, label, kind, sorted(seen[label, kind]))
        if chosen and rng.random() < 0.5:
            asked[label] = (kind, chosen)
    if not asked:
        return None
    pairs = [(label, quality) for label, (_, chosen) in asked.items() for quality in chosen]
    rows = {pair: 1 + len(LABELS) + row for row, pair in enumerate(pairs)}
    ignored = 1 + len(LABELS) + len(rows)
    columns = [
        np.array([_column(item, asked, rows, ignored) for item in crop.items]) for crop in crops
    ]
    return DescribedWords(
        prompts=[prompt(rng, _in_words(rng, quality, label)) for label, quality in pairs],
        replaced=torch.tensor([label in asked for label in LABELS]),
        patch_labels=torch.from_numpy(_patch_shares(crops, columns, ignored + 1)[..., :ignored]),
    )


def _asked_qualities(
    rng: np.random.Generator, label: str, kind: int, there: list[str]
) -> list[str]:
    """Up to two qualities that the crops show, and often one that they do not."""
    chosen = []
    if rng.random() < 0.65:
        chosen = [there[i] for i in rng.permutation(len(there))[:2]]
    others = [
        word for word in _KINDS[kind] if word not in there and (word, label) not in NEVER_TOGETHER
    ]
    if others and (not chosen or rng.random() < 0.5):
        chosen.append(others[int(rng.integers(len(others)))])
    return chosen


def _column(
    item: Item,
    asked: Mapping[str, tuple[int, list[str]]],
    rows: Mapping[tuple[str, str], int],
    ignored: int,
) -> int:
    """Where an item's pixels count: 0 unlabelled, then labels, then descriptions, then ignored.

    What no text may say of an item is ignored too, or it would learn to be nothing.
    """
    if item.label is None:
        return 0
    if item.label not in asked:
        return LABELS.index(item.label) + 1
    kind, _ = asked[item.label]
    quality = (item.colour, item.pattern, item.hour)[kind]
    if quality is None:
        return 0 if _KINDS[kind] == PATTERNS else ignored
    if (quality, item.label) in NEVER_TOGETHER:
        return ignored
    return rows.get((item.label, quality), 0)


def _kind(quality: str) -> int:
    return next(kind for kind, words in enumerate(_KINDS) if quality in words)


def _in_words(rng: np.random.Generator, quality: str, label: str | None) -> str:
    words = QUALITY_WORDS[quality]
    names = SYNONYMS[label] if label else NO_NAME[quality in HOURS]
    name = names[0] if rng.random() < 0.7 else names[int(rng.integers(len(names)))]
    return f"{words[int(rng.integers(len(words)))]} {name}"
