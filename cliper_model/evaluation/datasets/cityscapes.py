"""Cityscapes: leftImg8bit/val/CITY/*_leftImg8bit.png with gtFine/val/CITY/*.

Masks are *_gtFine_labelTrainIds.png (0 to 18, 255 not counted), or *_gtFine_labelIds.png, whose
34 ids are mapped to the 19 training classes.
"""

from pathlib import Path

from .base import IdMap, Layout, by_pairs, find_root, straight_ids

CLASSES = 19
RAW = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
MOST_RAW = 34
NEEDS = ("leftImg8bit/val", "gtFine/val")
PICTURE = "_leftImg8bit"
CONVERTED = "_gtFine_labelTrainIds.png"


def train_classes(root: Path) -> Layout:
    """19 classes, no background."""
    base = find_root(root, ("cityscapes",), NEEDS)
    images, masks = base / "leftImg8bit" / "val", base / "gtFine" / "val"
    converted = any(masks.rglob(f"*{CONVERTED}"))
    ending = CONVERTED if converted else "_gtFine_labelIds.png"
    samples = by_pairs(
        images.rglob(f"*{PICTURE}.png"),
        lambda image: (
            masks / image.relative_to(images).parent / f"{image.stem.removesuffix(PICTURE)}{ending}"
        ),
        below=images,
    )
    if converted:
        return Layout(
            samples=samples,
            ids=straight_ids(CLASSES, first=0, background=None, ignored=(255,)),
        )
    labels = {raw: index + 1 for index, raw in enumerate(RAW)}
    others = frozenset(range(MOST_RAW)) - frozenset(RAW) | {255}
    return Layout(samples=samples, ids=IdMap(labels=labels, ignored=others))
