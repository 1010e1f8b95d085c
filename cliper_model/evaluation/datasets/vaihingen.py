"""ISPRS Vaihingen in the usual tiles: img_dir/val with ann_dir/val.

Masks hold 0 for the eroded boundary (not counted) and 1 to 6: impervious surface, building, low
vegetation, tree, car, clutter.
"""

from pathlib import Path

from .base import Layout, by_pairs, find_root, straight_ids

CLASSES = 6
NEEDS = ("img_dir/val", "ann_dir/val")


def tiles(root: Path) -> Layout:
    """6 classes, no background."""
    base = find_root(root, ("vaihingen",), NEEDS)
    images, masks = base / "img_dir" / "val", base / "ann_dir" / "val"
    samples = by_pairs(images.glob("*.png"), lambda image: masks / image.name, below=images)
    ids = straight_ids(CLASSES, first=1, background=None, ignored=(0, 255))
    return Layout(samples=samples, ids=ids)
