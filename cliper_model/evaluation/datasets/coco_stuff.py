"""COCO-Stuff 164k: 80 things and 91 kinds of stuff on COCO's val2017 pictures.

images/val2017/*.jpg with annotations/val2017/NAME_labelTrainIds.png (0 to 170) or NAME.png (raw
ids: things are COCO's category number - 1 with its gaps, stuff is 91 to 181); 255 is not counted.
"""

from pathlib import Path

from .base import IdMap, Layout, by_pairs, find_root, straight_ids

GAPS = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})  # category numbers never used, - 1
THING_RAW = tuple(raw for raw in range(91) if raw not in GAPS)  # 80 ids
STUFF_RAW = tuple(range(91, 182))  # 91 ids
CLASSES = 171
NEEDS = ("images/val2017", "annotations/val2017")
BELOW = ("coco_stuff164k", "coco")
CONVERTED = "_labelTrainIds.png"


def all_classes(root: Path) -> Layout:
    """171 classes, no background."""
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
        ids = straight_ids(CLASSES, first=0, background=None, ignored=(255,))
    else:
        raw_ids = (*THING_RAW, *STUFF_RAW)
        ids = IdMap(
            labels={raw: index + 1 for index, raw in enumerate(raw_ids)}, ignored=frozenset({255})
        )
    return Layout(samples=samples, ids=ids)
