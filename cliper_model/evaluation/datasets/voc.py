"""Pascal VOC 2012: VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}.

Masks are palette pictures: 0 background, 1 to 20 classes, 255 the band around objects.
"""

from pathlib import Path

from .base import Layout, by_list, find_root, straight_ids

CLASSES = 20
NEEDS = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation/val.txt")
BELOW = ("VOCdevkit/VOC2012", "VOC2012")


def with_background(root: Path) -> Layout:
    """21 labels: background is counted."""
    return _layout(root, background=0, ignored=(255,))


def without_background(root: Path) -> Layout:
    """20 classes: background pixels are not counted."""
    return _layout(root, background=None, ignored=(0, 255))


def _layout(root: Path, *, background: int | None, ignored: tuple[int, ...]) -> Layout:
    base = find_root(root, BELOW, NEEDS)
    samples = by_list(
        base / NEEDS[2],
        lambda name: base / "JPEGImages" / f"{name}.jpg",
        lambda name: base / "SegmentationClass" / f"{name}.png",
    )
    ids = straight_ids(CLASSES, first=1, background=background, ignored=ignored)
    return Layout(samples=samples, ids=ids)
