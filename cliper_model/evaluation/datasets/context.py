"""Pascal Context, 59 classes, converted: masks in VOC2010/SegmentationClassContext.

Pictures are in JPEGImages, the list is ImageSets/SegmentationContext/val.txt. Masks
hold 0 for background and 1 to 59 for classes, in the usual order of the conversion.
"""

from pathlib import Path

from .base import Layout, by_list, find_root, straight_ids

CLASSES = 59
NEEDS = ("JPEGImages", "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt")
BELOW = ("VOCdevkit/VOC2010", "VOC2010")


def with_background(root: Path) -> Layout:
    """60 labels: background is counted."""
    return _layout(root, background=0, ignored=(255,))


def without_background(root: Path) -> Layout:
    """59 classes: background pixels are not counted."""
    return _layout(root, background=None, ignored=(0, 255))


def _layout(root: Path, *, background: int | None, ignored: tuple[int, ...]) -> Layout:
    base = find_root(root, BELOW, NEEDS)
    samples = by_list(
        base / NEEDS[2],
        lambda name: base / "JPEGImages" / f"{name}.jpg",
        lambda name: base / "SegmentationClassContext" / f"{name}.png",
    )
    ids = straight_ids(CLASSES, first=1, background=background, ignored=ignored)
    return Layout(samples=samples, ids=ids)
