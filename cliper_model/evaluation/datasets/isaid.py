"""iSAID in the usual tiles: img_dir/val/NAME.png with ann_dir/val/NAME_instance_color_RGB.png.

Masks hold 0 for background, 1 to 15 for classes, 255 not counted.
"""

from pathlib import Path

from .base import Layout, by_pairs, find_root, straight_ids

CLASSES = 15
NEEDS = ("img_dir/val", "ann_dir/val")
ENDING = "_instance_color_RGB.png"


def tiles(root: Path) -> Layout:
    """15 classes and background."""
    base = find_root(root, ("iSAID", "isaid"), NEEDS)
    images, masks = base / "img_dir" / "val", base / "ann_dir" / "val"
    samples = by_pairs(
        images.glob("*.png"), lambda image: masks / f"{image.stem}{ENDING}", below=images
    )
    ids = straight_ids(CLASSES, first=1, background=0, ignored=(255,))
    return Layout(samples=samples, ids=ids)
