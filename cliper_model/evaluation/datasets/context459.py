"""Pascal Context, all 459 classes, after conversion of the data set's own .mat files.

VOC2010/{JPEGImages, labels.txt, annotations_detectron2/pc459_val/NAME.tif (or .png)}: 16 bits,
id = number in labels.txt - 1, 65535 not counted. `labels.txt` comes with the data set, one line
`number: name` per class, and the classes are taken from it.
"""

from pathlib import Path

from ..errors import BadDataset
from .base import Layout, Sample, find_root, straight_ids

CLASSES = 459
MASKS = "annotations_detectron2/pc459_val"
NEEDS = ("JPEGImages", MASKS, "labels.txt")
BELOW = ("VOCdevkit/VOC2010", "VOC2010")


def all_classes(root: Path) -> Layout:
    """459 classes, no background."""
    base = find_root(root, BELOW, NEEDS)
    masks = sorted([*(base / MASKS).glob("*.tif"), *(base / MASKS).glob("*.png")])
    if not masks:
        raise BadDataset(
            f"{base / MASKS} holds no .tif or .png; convert the data set's trainval/*.mat first: "
            "LabelMap - 1 as 16-bit pictures"
        )
    samples = tuple(
        Sample(name=mask.stem, image=base / "JPEGImages" / f"{mask.stem}.jpg", truth=mask)
        for mask in masks
    )
    ids = straight_ids(CLASSES, first=0, background=None, ignored=(65535,))
    return Layout(samples=samples, ids=ids, classes=read_names(base / "labels.txt"))


def read_names(path: Path) -> tuple[str, ...]:
    """Names in the order of their numbers. Raises BadDataset unless 1 to 459 are all there."""
    names = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        number, colon, name = line.partition(":")
        if colon and number.strip().isdigit():
            names[int(number)] = name.strip()
    if sorted(names) != list(range(1, CLASSES + 1)):
        raise BadDataset(
            f"{path} names {len(names)} classes, not 1 to {CLASSES}; use the labels.txt that comes "
            "with Pascal Context"
        )
    return tuple(names[number] for number in range(1, CLASSES + 1))
