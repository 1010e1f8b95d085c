"""ADE20K with 847 classes: ADE20K_2021_17_01/{images,annotations}_detectron2/validation.

Masks are 16-bit .tif, 0 to 846, 65535 not counted, as the usual conversion writes them: the
classes are in the order of its training ids. Masks made otherwise need a `names.txt` in the
root: 847 lines in their own order, commas kept ("building, edifice").
"""

from pathlib import Path

from ..errors import BadDataset
from .base import Layout, by_pairs, find_root, straight_ids

CLASSES = 847
NEEDS = ("images_detectron2/validation", "annotations_detectron2/validation")


def all_classes(root: Path) -> Layout:
    """847 classes, no background."""
    base = find_root(root, ("ADE20K_2021_17_01",), NEEDS)
    masks = base / "annotations_detectron2" / "validation"
    images = base / "images_detectron2" / "validation"
    samples = by_pairs(
        images.rglob("*.jpg"),
        lambda image: masks / image.relative_to(images).with_suffix(".tif"),
        below=images,
    )
    ids = straight_ids(CLASSES, first=0, background=None, ignored=(65535,))
    listed = base / "names.txt"
    classes = read_names(listed) if listed.is_file() else None
    return Layout(samples=samples, ids=ids, classes=classes)


def read_names(path: Path) -> tuple[str, ...]:
    """One class per line. Raises BadDataset unless there are 847."""
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    names = tuple(name for name in names if name)
    if len(names) != CLASSES:
        raise BadDataset(f"{path} names {len(names)} classes; the masks have {CLASSES}")
    return names
