"""All pictures at a glance: picture, truth and prediction side by side, with a legend."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .. import overlay
from .projects import Mask, Picture, label_colours
from .report import Answer

PANEL = 192  # pixels
GAP, MARGIN, TITLE, CAPTION, LEGEND_ROW = 6, 24, 64, 22, 24  # pixels
ACROSS = 3  # pictures side by side
INK, PAPER, FAINT = (34, 34, 42), (250, 249, 246), (120, 120, 130)


def draw(
    labels: Sequence[str], pictures: Sequence[Picture], answers: Sequence[Answer], headline: str
) -> Image.Image:
    """The whole sheet; answers belong to the pictures in the same order."""
    colours = label_colours(labels)
    shown = [
        label
        for label in labels
        if any(label in picture.truth for picture in pictures)
        or any(label in answer.masks for answer in answers)
    ]
    cell_wide, cell_high = 3 * PANEL + 2 * GAP, PANEL + CAPTION + 2 * GAP
    wide = 2 * MARGIN + ACROSS * cell_wide + (ACROSS - 1) * 4 * GAP
    rows = -(-len(pictures) // ACROSS)
    legend_across = max(1, (wide - 2 * MARGIN) // 150)
    legend_high = -(-len(shown) // legend_across) * LEGEND_ROW
    sheet = Image.new(
        "RGB", (wide, 2 * MARGIN + TITLE + rows * cell_high + GAP + legend_high), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), headline, INK, ImageFont.load_default(26))
    pen.text(
        (MARGIN, MARGIN + 34), "picture | truth | prediction", FAINT, ImageFont.load_default(16)
    )

    for index, (picture, answer) in enumerate(zip(pictures, answers, strict=True)):
        left = MARGIN + index % ACROSS * (cell_wide + 4 * GAP)
        top = MARGIN + TITLE + index // ACROSS * cell_high
        panels = (
            picture.image,
            paint(picture.image, picture.truth, colours),
            paint(picture.image, answer.masks, colours),
        )
        for number, panel in enumerate(panels):
            place = (left + number * (PANEL + GAP), top)
            sheet.paste(_fit(panel), place)
        pen.text(
            (left, top + PANEL + 3), _caption(picture, answer), FAINT, ImageFont.load_default(13)
        )

    top = MARGIN + TITLE + rows * cell_high + GAP
    for index, label in enumerate(shown):
        x = MARGIN + index % legend_across * 150
        y = top + index // legend_across * LEGEND_ROW
        pen.rounded_rectangle((x, y, x + 22, y + 15), 4, colours[label])
        pen.text((x + 30, y - 1), label, INK, ImageFont.load_default(15))
    return sheet


def paint(
    image: NDArray[np.uint8],
    masks: Mapping[str, Mask],
    colours: Mapping[str, tuple[int, int, int]],
) -> NDArray[np.uint8]:
    """The picture in grey with every mask in its label's colour, outlined; same size."""
    return overlay.on_grey(image, [(mask, colours[label]) for label, mask in masks.items()])


def _fit(panel: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(panel)
    return picture if picture.size == (PANEL, PANEL) else picture.resize((PANEL, PANEL))


def _caption(picture: Picture, answer: Answer) -> str:
    false = sorted(answer.masks.keys() - picture.truth.keys())
    missed = sorted(picture.truth.keys() - answer.masks.keys())
    parts = [picture.name.removesuffix(".png")]
    if false:
        parts.append(f"not there: {', '.join(false)}")
    if missed:
        parts.append(f"missed: {', '.join(missed)}")
    return _shorten("   ".join(parts), 88)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
