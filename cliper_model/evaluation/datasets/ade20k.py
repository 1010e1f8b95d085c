"""ADE20K, 150 classes: ADEChallengeData2016/{images,annotations}/validation.

Masks hold 0 for "other", which is not counted (reduce-zero-label), and 1 to 150 for classes.
"""

from pathlib import Path

from .base import Layout, by_pairs, find_root, straight_ids

CLASSES = 150
NEEDS = ("images/validation", "annotations/validation")


def scene_classes(root: Path) -> Layout:
    """150 classes, no background."""
    base = find_root(root, ("ADEChallengeData2016",), NEEDS)
    masks = base / "annotations" / "validation"
    samples = by_pairs(
        (base / "images" / "validation").glob("*.jpg"),
        lambda image: masks / f"{image.stem}.png",
        below=base / "images" / "validation",
    )
    ids = straight_ids(CLASSES, first=1, background=None, ignored=(0, 255))
    return Layout(samples=samples, ids=ids)
