"""Pictures of one's own: images/, masks/ of the same stems, and names.txt.

Line n of names.txt names the class of mask value n; synonyms follow after `|` ("house|home").
Value 0 is background, 255 is not counted. Without images/ and masks/, a folder of pictures with
one mask per label beside them is read too (STEM.png, STEM__LABEL.png, as `cliper scenes` draws
them); where two of those masks overlap, pixels are not counted.
"""

from collections.abc import Iterable, Mapping, Set
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from ..confusion import IGNORED
from ..errors import BadDataset
from .base import LabelMap, Layout, Sample, by_pairs, straight_ids

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
MARK = "__"  # between stem and label
NAMES = "names.txt"
MOST_CLASSES = 254  # 255 is not counted


def pictures_and_masks(root: Path) -> Layout:
    """Classes from names.txt, background counted."""
    images, masks = root / "images", root / "masks"
    if images.is_dir() and masks.is_dir():
        names = read_names(root / NAMES)
        samples = by_pairs(
            _pictures(images), lambda path: _mask_of(path, images, masks), below=images
        )
        ids = straight_ids(len(names), first=1, background=0, ignored=(255,))
        return Layout(samples=samples, ids=ids, classes=names, upright=True)
    if any(root.glob(f"*{MARK}*.png")):
        return _mask_per_label(root)
    raise BadDataset(
        f"--root {root} has neither images/ and masks/ nor pictures with STEM{MARK}LABEL.png "
        "beside them; put pictures in images/, masks of the same names in masks/, and the class "
        f"names, one per line, in {NAMES}"
    )


def read_names(path: Path) -> tuple[str, ...]:
    """One class per line, as written. Raises BadDataset for none, too many or repeated ones."""
    if not path.is_file():
        raise BadDataset(f"{path} is missing; write one class name per line, line 1 for value 1")
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    while names and not names[-1]:
        names = names[:-1]
    if not names or not all(names):
        raise BadDataset(f"{path} must name a class on every line; line n names mask value n")
    if len(names) > MOST_CLASSES:
        raise BadDataset(f"{path} names {len(names)} classes; at most {MOST_CLASSES} fit")
    first = [name.split("|")[0].strip() for name in names]
    twice = sorted({name for name in first if first.count(name) > 1})
    if twice:
        raise BadDataset(f"{path} names {twice[0]!r} twice; give every class a name of its own")
    return names


def merge_masks(masks: Mapping[int, np.ndarray], size_hw: tuple[int, int]) -> LabelMap:
    """Label map of one mask per label; what several labels claim is not counted."""
    label_map = np.zeros(size_hw, np.int32)
    claims = np.zeros(size_hw, np.int32)
    for label, mask in masks.items():
        label_map[mask] = label
        claims += mask
    label_map[claims > 1] = IGNORED
    return label_map


def _pictures(folder: Path) -> list[Path]:
    return _one_per_stem(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _one_per_stem(pictures: Iterable[Path]) -> list[Path]:
    """Sorted. Raises BadDataset where two pictures would share a mask."""
    stems: dict[Path, Path] = {}
    for path in sorted(pictures):
        stem = path.with_suffix("")
        if stem in stems:
            raise BadDataset(
                f"{stems[stem].name} and {path.name} in {path.parent} have the same stem, so one "
                "mask would belong to both; rename one"
            )
        stems[stem] = path
    return list(stems.values())


def _mask_of(image: Path, images: Path, masks: Path) -> Path:
    wanted = masks / image.relative_to(images)
    found = (wanted.with_suffix(suffix) for suffix in MASK_SUFFIXES)
    return next((path for path in found if path.is_file()), wanted.with_suffix(".png"))


def _mask_per_label(root: Path) -> Layout:
    """Classes are the labels of the masks' names, sorted, unless names.txt lists them."""
    masks: dict[str, list[tuple[str, Path]]] = {}
    for path in sorted(root.glob(f"*{MARK}*.png")):
        stem, _, label = path.stem.partition(MARK)
        masks.setdefault(stem, []).append((label, path))
    seen = sorted({label for group in masks.values() for label, _ in group})
    listed = root / NAMES
    names = read_names(listed) if listed.is_file() else tuple(seen)
    labels = {name.split("|")[0].strip(): index + 1 for index, name in enumerate(names)}
    strange = [label for label in seen if label not in labels]
    if strange:
        raise BadDataset(f"{listed} does not name {strange[0]!r}, but there are masks of it")
    pictures = _one_per_stem(
        path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and MARK not in path.stem
    )
    _check_partners(root, {path.stem for path in pictures}, set(masks))
    samples = by_pairs(pictures, lambda path: path, below=root)

    def read_truth(sample: Sample) -> LabelMap:
        with PilImage.open(sample.image) as picture:
            size_hw = (picture.height, picture.width)
        painted = {}
        for label, path in masks[sample.image.stem]:
            with PilImage.open(path) as mask:
                painted[labels[label]] = np.asarray(mask.convert("L")) >= 128
            if painted[labels[label]].shape != size_hw:
                raise BadDataset(
                    f"{path.name} has another size than {sample.image.name}; draw masks at the "
                    "size of their picture"
                )
        return merge_masks(painted, size_hw)

    return Layout(
        samples=samples,
        ids=None,
        classes=names,
        read_truth=read_truth,
        truth_files=lambda sample: [path for _, path in masks[sample.image.stem]],
    )


def _check_partners(root: Path, pictures: Set[str], masks: Set[str]) -> None:
    """Raises BadDataset for a picture without a mask, and for masks without a picture."""
    alone, spare = sorted(pictures - masks), sorted(masks - pictures)
    if alone:
        raise BadDataset(
            f"{len(alone)} of {len(pictures)} pictures in {root} have no mask, the first is "
            f"{alone[0]}; add {alone[0]}{MARK}LABEL.png, or take the picture out"
        )
    if spare:
        raise BadDataset(
            f"{len(spare)} of {len(masks)} groups of masks in {root} have no picture, the first "
            f"is {spare[0]}{MARK}*.png; add {spare[0]}.png, or take the masks out"
        )
