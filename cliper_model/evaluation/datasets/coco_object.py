"""COCO-Object: 80 things and background on COCO's val2017 pictures.

images/val2017/*.jpg with annotations/val2017/NAME_instanceTrainIds.png (0 background, 1 to 80
things, 255 not counted), or NAME.png as COCO-Stuff gives them (raw ids 0 to 181; stuff and 255
count as background).
"""

from pathlib import Path

from .base import IdMap, Layout, by_pairs, find_root, straight_ids
from .coco_stuff import STUFF_RAW, THING_RAW

CLASSES = 80
NEEDS = ("images/val2017", "annotations/val2017")
BELOW = ("coco_object", "coco_stuff164k", "coco")
CONVERTED = "_instanceTrainIds.png"


def things(root: Path) -> Layout:
    """80 classes and background."""
    base = find_root(root, BELOW, NEEDS)
    masks = base / "annotations" / "val2017"
    converted = any(masks.glob(f"*{CONVERTED}"))
    ending = CONVERTED if converted else ".png"
    samples = by_pairs(
        (base / "images" / "val2017").glob("*.jpg"),
        lambda image: masks / f"{image.stem}{ending}",
        below=base / "images" / "val2017",
    )
    if converted:
        return Layout(
            samples=samples,
            ids=straight_ids(CLASSES, first=1, background=0, ignored=(255,)),
        )
    labels = {raw: index + 1 for index, raw in enumerate(THING_RAW)}
    labels |= dict.fromkeys((*STUFF_RAW, 255), 0)
    return Layout(samples=samples, ids=IdMap(labels=labels))
