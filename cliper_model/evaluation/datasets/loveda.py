"""LoveDA: Val/{Urban,Rural}/{images_png,masks_png}, or img_dir/val with ann_dir/val.

Masks hold 0 for no data (not counted) and 1 to 7: background, building, road, water, barren,
forest, agriculture. "Background" is a class of the data set; here it is label 0.
"""

from pathlib import Path

from ..errors import BadDataset
from .base import IdMap, Layout, Sample, by_pairs

BACKGROUND, FIRST, CLASSES = 1, 2, 6


def land_cover(root: Path) -> Layout:
    """6 classes and background."""
    ids = IdMap(
        labels={BACKGROUND: 0} | {FIRST + index: index + 1 for index in range(CLASSES)},
        ignored=frozenset({0, 255}),
    )
    return Layout(samples=_samples(root), ids=ids)


def _samples(root: Path) -> tuple[Sample, ...]:
    for base in (root, root / "Val"):
        areas = [base / name for name in ("Rural", "Urban") if (base / name).is_dir()]
        if areas:
            return by_pairs(
                (image for area in areas for image in (area / "images_png").glob("*.png")),
                lambda image: image.parents[1] / "masks_png" / image.name,
                below=base,
            )
    images, masks = root / "img_dir" / "val", root / "ann_dir" / "val"
    if not images.is_dir() or not masks.is_dir():
        raise BadDataset(
            f"--root {root} has neither Val/Urban and Val/Rural nor img_dir/val and ann_dir/val; "
            "point --root at the folder of LoveDA"
        )
    return by_pairs(images.glob("*.png"), lambda image: masks / image.name, below=images)
