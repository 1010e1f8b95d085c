"""Contact sheets of the demo weights on held-out scenes, for the documentation.

    python -m benchmarks.demo_sheets [--out docs/images]

`demo-masks.jpg`: twelve scenes with their truth and the masks without and with refinement.
`demo-styles.jpg`: twelve scenes in every style, with the masks found. The model is given the words
that are in the picture; every pixel gets its best one. mIoU is in percent, over one picture in
the first sheet and over the twelve of a style in the second. Nothing here is random: the same
weights draw the same sheets.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import cliper_model
from backend.demo.projects import HELD_OUT, label_colours
from cliper_model.demo.scenes import LABELS, STYLES, Scene, make_scene
from cliper_model.evaluation import confusion
from cliper_model.segmenter import Segmenter

from .compare import best_labels

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MASKS_SEED, STYLES_SEED = 40, 41  # with `HELD_OUT`; no seed of training, validation or test
SCENES = 12
FEWEST = 3  # labels of a scene; with fewer there is little to find
LEAST_LABELLED = 0.9  # share of the picture; elsewhere the best of the words means nothing
MOST_BYTES = 480_000

INK, FAINT, PAPER, NOTHING = (30, 30, 36), (110, 110, 118), (255, 255, 255), (44, 44, 50)
MARGIN, GAP, LINE = 12, 4, 18  # pixels; LINE is the height of a line of text
LEGEND_COLUMNS = 12
LOOKS: Final = {
    "storybook": "what the weights were trained on",
    "flat": "a poster",
    "pencil": "paper, outlines, hatching; no colour",
    "night": "dark and bluish; lamps, windows, moon and stars stay bright",
    "aerial": "seen from above; a layout of its own",
    "palette": "hues turned, saturation changed",
}

Labels = NDArray[np.int64]  # [H, W], 0 for nothing, else 1 + index in LABELS


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet, and what stands below it."""

    picture: NDArray[np.uint8]  # [H, W, 3]
    caption: str = ""


def held_out(style: str, seed: int) -> Iterator[Scene]:
    """Scenes with enough labels on labelled ground, the same ones whenever this is called."""
    for index in count():
        scene = make_scene(np.random.default_rng([HELD_OUT, seed, index]), style=style)
        labelled = (scene.label_map() > 0).mean()
        if len(scene.masks()) >= FEWEST and labelled >= LEAST_LABELLED:
            yield scene


def found(method: Segmenter, scene: Scene) -> Labels:
    """The best of the picture's own words at every pixel."""
    words = method.read(list(scene.masks()), background=())
    return best_labels(method, method.score(method.observe(scene.image), words))


def matrix(scene: Scene, labels: Labels) -> NDArray[np.int64]:
    """Counted like every accuracy of this project; pixels without truth are left out."""
    truth = scene.label_map().astype(np.int64)
    known = np.where(truth > 0, truth, confusion.IGNORED)
    counted: NDArray[np.int64] = confusion.count(known, labels, labels=len(LABELS) + 1)
    return counted


def miou(counted: Sequence[NDArray[np.int64]]) -> float:
    """Percent, over all pictures together."""
    return confusion.figures(np.sum(counted, axis=0)).miou


def coloured(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    palette = np.array([NOTHING, *label_colours(LABELS).values()], np.uint8)
    return palette[labels]


# ---- drawing


def font(size: int = 12) -> Any:
    return ImageFont.load_default(size)


def page(wide: int, high: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (wide, high), PAPER)
    return sheet, ImageDraw.Draw(sheet)


def place(sheet: Image.Image, panel: Panel, left: int, top: int, tile: int) -> None:
    small = Image.fromarray(panel.picture).resize((tile, tile), Image.Resampling.LANCZOS)
    sheet.paste(small, (left, top))
    middle = (left + tile // 2, top + tile + LINE // 2)
    ImageDraw.Draw(sheet).text(middle, panel.caption, FAINT, font(11), anchor="mm")


def legend(labels: Sequence[str], wide: int) -> Image.Image:
    """A swatch and a word for every label, and for what has none."""
    entries = [(label, label_colours(LABELS)[label]) for label in labels] + [("no label", NOTHING)]
    rows = -(-len(entries) // LEGEND_COLUMNS)
    strip, pen = page(wide, rows * LINE + MARGIN)
    step = (wide - 2 * MARGIN) // LEGEND_COLUMNS
    for k, (label, colour) in enumerate(entries):
        left, top = MARGIN + k % LEGEND_COLUMNS * step, k // LEGEND_COLUMNS * LINE
        pen.rectangle((left, top + 3, left + 12, top + 14), colour, FAINT)
        pen.text((left + 18, top + 9), label, INK, font(), anchor="lm")
    return strip


def with_legend(sheet: Image.Image, scenes: Sequence[Scene]) -> Image.Image:
    """The sheet, and below it the labels that are in the scenes."""
    there = {label for scene in scenes for label in scene.masks()}
    strip = legend([label for label in LABELS if label in there], sheet.width)
    whole, _ = page(sheet.width, sheet.height + strip.height)
    whole.paste(sheet, (0, 0))
    whole.paste(strip, (0, sheet.height))
    return whole


def masks_sheet(method: Segmenter, unrefined: Segmenter) -> Image.Image:
    """Twelve scenes, two beside each other: picture, truth, without and with refinement."""
    tile, columns = 160, ("picture", "truth", "without refinement", "with refinement")
    group = len(columns) * (tile + GAP) + 2 * MARGIN
    sheet, pen = page(
        2 * group + MARGIN, MARGIN + LINE + SCENES // 2 * (tile + LINE + GAP) + MARGIN
    )
    for k in range(2 * len(columns)):
        left = MARGIN + k // 4 * group + k % 4 * (tile + GAP)
        pen.text((left + tile // 2, MARGIN), columns[k % 4], INK, font(), anchor="mm")
    scenes = list(islice(held_out("storybook", MASKS_SEED), SCENES))
    for k, scene in enumerate(tqdm(scenes, desc="masks", unit="scene", disable=None)):
        panels = [Panel(scene.image), Panel(coloured(scene.label_map()))]
        for model in (unrefined, method):
            labels = found(model, scene)
            panels.append(Panel(coloured(labels), f"mIoU {miou([matrix(scene, labels)]):.0f}"))
        top = MARGIN + LINE + k // 2 * (tile + LINE + GAP)
        for column, panel in enumerate(panels):
            place(sheet, panel, MARGIN + k % 2 * group + column * (tile + GAP), top, tile)
    return with_legend(sheet, scenes)


def styles_sheet(method: Segmenter) -> Image.Image:
    """Per style a row of twelve scenes and a row of the masks found in them."""
    tile = 110
    block = LINE + 2 * (tile + GAP) + MARGIN
    sheet, pen = page(2 * MARGIN + SCENES * (tile + GAP), MARGIN + len(STYLES) * block)
    shown = []
    for row, style in enumerate(STYLES):
        scenes = list(islice(held_out(style, STYLES_SEED), SCENES))
        top, counted = MARGIN + row * block, []
        for column, scene in enumerate(tqdm(scenes, desc=style, unit="scene", disable=None)):
            labels, left = found(method, scene), MARGIN + column * (tile + GAP)
            place(sheet, Panel(scene.image), left, top + LINE, tile)
            place(sheet, Panel(coloured(labels)), left, top + LINE + tile + GAP, tile)
            counted.append(matrix(scene, labels))
        pen.text((MARGIN, top + 8), style, INK, font(13), anchor="lm")
        pen.text((MARGIN + 84, top + 8), LOOKS[style], FAINT, font(), anchor="lm")
        right = sheet.width - MARGIN - GAP
        pen.text((right, top + 8), f"mIoU {miou(counted):.0f}", FAINT, font(), anchor="rm")
        shown += scenes
    return with_legend(sheet, shown)


def save(sheet: Image.Image, path: Path) -> None:
    """As good a JPEG as `MOST_BYTES` allow."""
    for quality in range(92, 40, -3):
        file = BytesIO()
        sheet.save(file, "JPEG", quality=quality, optimize=True, progressive=True)
        if file.tell() <= MOST_BYTES:
            break
    path.write_bytes(file.getvalue())
    print(f"{path}: {sheet.width} x {sheet.height}, {file.tell() // 1024} KiB, quality {quality}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder to write to")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    method: Any = cliper_model.load("demo")
    save(masks_sheet(method, method.with_numbers(refinement="none")), args.out / "demo-masks.jpg")
    save(styles_sheet(method), args.out / "demo-styles.jpg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
