"""The contact sheet as one picture: every tile beside what was found in it, and a legend."""

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from .figures import plural
from .tiles import Palette, Tile

BOX = 240  # pixels, the longer side of a picture here
ACROSS = 3  # tiles side by side, each picture and masks
GAP, MARGIN, TITLE, CAPTION, LEGEND_ROW, LEGEND_WIDE = 4, 24, 56, 44, 26, 190  # pixels
INK, PAPER, FAINT, CARD, ALARM = (
    (34, 34, 42),
    (250, 249, 246),
    (104, 104, 114),
    (236, 233, 226),
    (156, 44, 36),
)
MOST_IN_LEGEND = 60
NAME = 20  # letters of a label in the legend


def draw(tiles: Sequence[Tile], palette: Palette, headline: str) -> Image.Image:
    """All tiles in their order; a failed one says why."""
    shown = list(dict.fromkeys(label for tile in tiles for label in tile.labels))[:MOST_IN_LEGEND]
    cell_wide = 2 * BOX + GAP
    wide = 2 * MARGIN + ACROSS * cell_wide + (ACROSS - 1) * MARGIN
    rows = [tiles[first : first + ACROSS] for first in range(0, len(tiles), ACROSS)]
    highs = [max(_high(tile) for tile in row) for row in rows]
    across = max(1, (wide - 2 * MARGIN) // LEGEND_WIDE)
    legend = -(-len(shown) // across) * LEGEND_ROW
    high = 2 * MARGIN + TITLE + sum(one + CAPTION for one in highs) + legend
    sheet = Image.new("RGB", (wide, high), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), headline, INK, ImageFont.load_default(24))

    top = MARGIN + TITLE
    for row, row_high in zip(rows, highs, strict=True):
        for place, tile in enumerate(row):
            left = MARGIN + place * (cell_wide + MARGIN)
            _put(sheet, pen, tile, (left, top), row_high)
        top += row_high + CAPTION
    for place, label in enumerate(shown):
        x = MARGIN + place % across * LEGEND_WIDE
        y = top + place // across * LEGEND_ROW
        pen.rounded_rectangle((x, y + 1, x + 20, y + 16), 4, palette.colour(*label), CARD)
        name = textwrap.shorten(label[1], NAME, placeholder="…") or label[1][:NAME]
        pen.text((x + 28, y - 1), name, INK, ImageFont.load_default(15))
    return sheet


def _put(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, place_xy: tuple[int, int], high: int
) -> None:
    """One tile at its place, with its caption below the row."""
    left, top = place_xy
    if tile.picture is None or tile.painted is None:
        pen.rounded_rectangle((left, top, left + 2 * BOX + GAP, top + high), 8, CARD)
        words = "\n".join(textwrap.wrap(tile.reason, 58)[:6])
        pen.text((left + 16, top + 14), "failed", ALARM, ImageFont.load_default(18))
        pen.multiline_text((left + 16, top + 42), words, INK, ImageFont.load_default(14))
    else:
        for number, panel in enumerate((tile.picture, tile.painted)):
            sheet.paste(_fit(panel), (left + number * (BOX + GAP), top))
    pen.text((left, top + high + 5), caption(tile), FAINT, ImageFont.load_default(14))


def caption(tile: Tile) -> str:
    """`task 12 · 5 regions · score 0.83`."""
    parts = [f"task {tile.task}"]
    if tile.index is not None:
        parts[0] += f", picture {tile.index + 1} of {tile.of}"
    if tile.picture is not None:
        parts.append(plural(tile.regions, "region"))
    if tile.score is not None:
        parts.append(f"score {tile.score:.2f}")
    return " · ".join(parts)


def _high(tile: Tile) -> int:
    return 120 if tile.picture is None else _fitted(tile.picture)[1]


def _fitted(panel: UInt8[np.ndarray, "tile_h tile_w 3"]) -> tuple[int, int]:
    """Width and height in the box."""
    height, width = panel.shape[:2]
    factor = BOX / max(height, width)
    return max(round(width * factor), 1), max(round(height * factor), 1)


def _fit(panel: UInt8[np.ndarray, "tile_h tile_w 3"]) -> Image.Image:
    return Image.fromarray(panel).resize(_fitted(panel), Image.Resampling.LANCZOS)
