"""Tiny data sets in the layouts of the thirteen benchmarks, with the truth they stand for.

Every tree says itself what its numbers mean: nothing here asks the code under test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

NOT_COUNTED = -1
SIZES = ((14, 19), (21, 16), (17, 17), (12, 24), (20, 15))  # height, width

LabelMap = np.ndarray


@dataclass(frozen=True)
class Tree:
    """Pictures in the data set's order, each with its true labels: 0 background, -1 not counted."""

    root: Path
    classes: int
    pictures: Sequence[Path]
    truths: Sequence[LabelMap]


def picture(path: Path, size_hw: tuple[int, int], rng: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, ids: np.ndarray, *, palette: bool = False) -> None:
    """One channel of 8 or 16 bits; with `palette`, as VOC stores them: colours for the eye."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint16 if ids.max() > 255 else np.uint8))
    if palette:
        image.putpalette([part for number in range(256) for part in voc_colour(number)])
        assert image.mode == "P"
    image.save(path)


def voc_colour(number: int) -> tuple[int, int, int]:
    """Bit 3 i + c of the number is bit 7 - i of channel c: the devkit's colour map."""
    bits = f"{number:09b}"[::-1]
    red, green, blue = (
        sum(int(bits[3 * i + channel]) << (7 - i) for i in range(3)) for channel in range(3)
    )
    return red, green, blue


def blocks(size_hw: tuple[int, int], values: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Patches of 4 pixels, each with one of the values."""
    height, width = size_hw
    coarse = rng.choice(np.asarray(values), (-(-height // 4), -(-width // 4)))
    return np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1)[:height, :width]


def build(
    root: Path,
    *,
    classes: int,
    meaning: Mapping[int, int],
    image_path: Callable[[str], Path],
    mask_path: Callable[[str], Path],
    names: Sequence[str] = ("a1", "b2", "c3", "d4", "e5"),
    sizes: Sequence[tuple[int, int]] = SIZES,
    palette: bool = False,
    seed: int = 0,
) -> Tree:
    """`meaning`: id in the file -> label; a handful of the ids occur in every picture."""
    rng = np.random.default_rng(seed)
    pictures, truths = [], []
    for name, size_hw in zip(names, sizes, strict=True):
        values = rng.choice(np.asarray(list(meaning)), min(6, len(meaning)), replace=False)
        ids = blocks(size_hw, values, rng)
        pictures.append(picture(root / image_path(name), size_hw, rng))
        mask(root / mask_path(name), ids, palette=palette)
        truth = np.zeros(size_hw, int)
        for row in range(size_hw[0]):
            for column in range(size_hw[1]):
                truth[row, column] = meaning[int(ids[row, column])]
        truths.append(truth)
    return Tree(root, classes, pictures, truths)


def write_list(path: Path, names: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def voc(root: Path, *, background: bool) -> Tree:
    base = Path("VOCdevkit/VOC2012")
    names = (
        "2007_b",
        "2007_a",
        "2010_c",
        "2011_x",
        "2008_q",
    )  # the list's order, not the alphabet's
    write_list(root / base / "ImageSets/Segmentation/val.txt", names)
    return build(
        root,
        classes=20,
        meaning={0: 0 if background else -1, 255: -1, **{i: i for i in range(1, 21)}},
        image_path=lambda name: base / "JPEGImages" / f"{name}.jpg",
        mask_path=lambda name: base / "SegmentationClass" / f"{name}.png",
        names=names,
        palette=True,
    )


def context(root: Path, *, background: bool) -> Tree:
    names = ("a1", "b2", "c3", "d4", "e5")
    write_list(root / "ImageSets/SegmentationContext/val.txt", names)
    return build(
        root,
        classes=59,
        meaning={0: 0 if background else -1, 255: -1, **{i: i for i in range(1, 60)}},
        image_path=lambda name: Path("JPEGImages") / f"{name}.jpg",
        mask_path=lambda name: Path("SegmentationClassContext") / f"{name}.png",
    )


def context459(root: Path) -> Tree:
    write_list(root / "labels.txt", [f"{i}: thing number {i}" for i in range(1, 460)])
    return build(
        root,
        classes=459,
        meaning={65535: -1, **{i: i + 1 for i in range(459)}},
        image_path=lambda name: Path("JPEGImages") / f"{name}.jpg",
        mask_path=lambda name: Path("annotations_detectron2/pc459_val") / f"{name}.tif",
    )


RAW_THINGS = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 27,
    30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54,
    55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 66, 69, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 83,
    84, 85, 86, 87, 88, 89,
)  # fmt: skip
"""COCO's category numbers minus one, written out."""


def coco_object(root: Path, *, raw: bool = False) -> Tree:
    things = {i: i for i in range(1, 81)}
    raw_things = {number: place + 1 for place, number in enumerate(RAW_THINGS)}
    meaning = (
        {255: 0, **raw_things, **{i: 0 for i in range(91, 182)}}
        if raw
        else {0: 0, 255: -1, **things}
    )
    ending = "" if raw else "_instanceTrainIds"
    return build(
        root,
        classes=80,
        meaning=meaning,
        image_path=lambda name: Path("images/val2017") / f"{name}.jpg",
        mask_path=lambda name: Path("annotations/val2017") / f"{name}{ending}.png",
    )


def coco_stuff(root: Path, *, raw: bool = False) -> Tree:
    raw_things = {number: place + 1 for place, number in enumerate(RAW_THINGS)}
    meaning = (
        {255: -1, **raw_things, **{i: i - 91 + 81 for i in range(91, 182)}}
        if raw
        else {255: -1, **{i: i + 1 for i in range(171)}}
    )
    ending = "" if raw else "_labelTrainIds"
    return build(
        root,
        classes=171,
        meaning=meaning,
        image_path=lambda name: Path("images/val2017") / f"{name}.jpg",
        mask_path=lambda name: Path("annotations/val2017") / f"{name}{ending}.png",
    )


def ade20k(root: Path) -> Tree:
    base = Path("ADEChallengeData2016")
    return build(
        root,
        classes=150,
        meaning={0: -1, 255: -1, **{i: i for i in range(1, 151)}},
        image_path=lambda name: base / "images/validation" / f"{name}.jpg",
        mask_path=lambda name: base / "annotations/validation" / f"{name}.png",
    )


def ade_full(root: Path) -> Tree:
    return build(
        root,
        classes=847,
        meaning={65535: -1, **{i: i + 1 for i in range(847)}},
        image_path=lambda name: Path("images_detectron2/validation") / f"{name}.jpg",
        mask_path=lambda name: Path("annotations_detectron2/validation") / f"{name}.tif",
    )


CITY_TRAIN = {
    7: 1, 8: 2, 11: 3, 12: 4, 13: 5, 17: 6, 19: 7, 20: 8, 21: 9, 22: 10, 23: 11, 24: 12, 25: 13,
    26: 14, 27: 15, 28: 16, 31: 17, 32: 18, 33: 19,
}  # fmt: skip


def cityscapes(root: Path, *, raw: bool = False) -> Tree:
    other = {i: -1 for i in range(34) if i not in CITY_TRAIN}
    meaning = {**other, **CITY_TRAIN} if raw else {255: -1, **{i: i + 1 for i in range(19)}}
    ending = "labelIds" if raw else "labelTrainIds"
    return build(
        root,
        classes=19,
        meaning=meaning,
        image_path=lambda name: Path(f"leftImg8bit/val/{name[0]}/{name}_leftImg8bit.png"),
        mask_path=lambda name: Path(f"gtFine/val/{name[0]}/{name}_gtFine_{ending}.png"),
        sizes=((12, 24), (10, 20), (16, 32), (12, 24), (8, 16)),
    )


def loveda(root: Path) -> Tree:
    areas = {"a1": "Rural", "b2": "Rural", "c3": "Urban", "d4": "Urban", "e5": "Urban"}
    return build(
        root,
        classes=6,
        meaning={0: -1, 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6},
        image_path=lambda name: Path("Val") / areas[name] / "images_png" / f"{name}.png",
        mask_path=lambda name: Path("Val") / areas[name] / "masks_png" / f"{name}.png",
    )


def vaihingen(root: Path) -> Tree:
    return build(
        root,
        classes=6,
        meaning={0: -1, 255: -1, **{i: i for i in range(1, 7)}},
        image_path=lambda name: Path("img_dir/val") / f"{name}.png",
        mask_path=lambda name: Path("ann_dir/val") / f"{name}.png",
    )


def isaid(root: Path) -> Tree:
    return build(
        root,
        classes=15,
        meaning={255: -1, **{i: i for i in range(16)}},
        image_path=lambda name: Path("img_dir/val") / f"{name}.png",
        mask_path=lambda name: Path("ann_dir/val") / f"{name}_instance_color_RGB.png",
    )


def folder(root: Path) -> Tree:
    write_list(root / "names.txt", ["red", "green|lime", "blue"])
    return build(
        root,
        classes=3,
        meaning={0: 0, 255: -1, 1: 1, 2: 2, 3: 3},
        image_path=lambda name: Path("images") / f"{name}.png",
        mask_path=lambda name: Path("masks") / f"{name}.png",
    )


TREES: Mapping[str, tuple[str, Callable[[Path], Tree]]] = {
    "voc21": ("voc21", lambda root: voc(root, background=True)),
    "voc20": ("voc20", lambda root: voc(root, background=False)),
    "context60": ("context60", lambda root: context(root, background=True)),
    "context59": ("context59", lambda root: context(root, background=False)),
    "context459": ("context459", context459),
    "coco-object": ("coco-object", coco_object),
    "coco-object, raw ids": ("coco-object", lambda root: coco_object(root, raw=True)),
    "coco-stuff": ("coco-stuff", coco_stuff),
    "coco-stuff, raw ids": ("coco-stuff", lambda root: coco_stuff(root, raw=True)),
    "ade20k": ("ade20k", ade20k),
    "ade-full": ("ade-full", ade_full),
    "cityscapes": ("cityscapes", cityscapes),
    "cityscapes, raw ids": ("cityscapes", lambda root: cityscapes(root, raw=True)),
    "loveda": ("loveda", loveda),
    "vaihingen": ("vaihingen", vaihingen),
    "isaid": ("isaid", isaid),
    "folder": ("folder", folder),
}
