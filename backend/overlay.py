"""Masks as pictures: a label map with a palette, and an overlay with a legend."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image, ImageColor, ImageDraw, ImageFont

Colour = tuple[int, int, int]

TURN = 0.61803398875  # the golden ratio's fraction: neighbours in a list get distant hues
OPACITY = 0.5
STRONG = 0.65  # opacity on grey
INK, PAPER, FAINT = (34, 34, 42), (255, 255, 255), (110, 110, 120)
ROW, SWATCH, MARGIN, FONT = 26, 16, 12, 15  # pixels of the legend
LEGEND_FITS = 700  # pixels; the height of a picture whose legend is as large as on a page
LONGEST_COLOUR = 60  # characters, of a colour's name
MOST = 255  # labels a palette has room for beside the background


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the legend."""

    text: str
    note: str
    colour: Colour


def colours(count: int) -> list[Colour]:
    """Distinct colours, the same for the same place in the list."""
    chosen = []
    for index in range(count):
        hue = (0.02 + index * TURN) % 1.0
        light, strength = ((0.50, 0.85), (0.38, 0.75), (0.65, 0.90))[index // 12 % 3]
        red, green, blue = colorsys.hls_to_rgb(hue, light, strength)
        chosen.append((round(red * 255), round(green * 255), round(blue * 255)))
    return chosen


def colour_of(text: str) -> Colour | None:
    """A colour as a label config writes it, such as #e5484d or `red`; None where it says nothing
    that is known."""
    if not 0 < len(text) <= LONGEST_COLOUR:
        return None
    try:
        red, green, blue, *_ = ImageColor.getrgb(text.strip())
    except ValueError:
        return None
    return red, green, blue


def label_map(
    indices: Integer[np.ndarray, "height width"], palette: Sequence[Colour]
) -> Image.Image:
    """Indexed picture: 0 is background (black), label number `i` of the palette is `i + 1`.

    Raises ValueError for more labels than a palette has room for.
    """
    if len(palette) > MOST:
        raise ValueError(f"a label map holds at most {MOST} labels, got {len(palette)}")
    picture = Image.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, *(channel for colour in palette for channel in colour)])
    return picture


def overlay(
    image: UInt8[np.ndarray, "height width 3"],
    masks: Sequence[tuple[Bool[np.ndarray, "height width"], Colour]],
    legend: Sequence[Entry],
) -> Image.Image:
    """The picture with every mask tinted and outlined, and a legend at its right."""
    painted = image.astype(np.float32)
    for mask, colour in masks:
        painted[mask] = (1 - OPACITY) * painted[mask] + OPACITY * np.array(colour, np.float32)
    for mask, colour in masks:
        painted[outline(mask)] = colour
    return with_legend(painted.round().astype(np.uint8), legend)


def tinted(
    image: UInt8[np.ndarray, "height width 3"],
    indices: Integer[np.ndarray, "height width"],
    palette: Sequence[Colour],
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture with every label of a label map in its colour, half and half; outlined."""
    colours = np.array([(0, 0, 0), *palette], np.uint8)[indices]
    painted = ((image.astype(np.uint16) + colours) // 2).astype(np.uint8)
    painted[indices == 0] = image[indices == 0]
    padded = np.pad(indices, 1, mode="edge")
    edge = np.zeros(indices.shape, bool)
    height, width = indices.shape
    for down, across in ((1, 0), (1, 2), (0, 1), (2, 1)):
        edge |= padded[down : down + height, across : across + width] != indices
    edge &= indices > 0
    painted[edge] = colours[edge]
    return painted


def with_legend(
    painted: UInt8[np.ndarray, "height width 3"], legend: Sequence[Entry]
) -> Image.Image:
    """The picture with the legend at its right, larger where the picture is."""
    picture = Image.fromarray(painted)
    panel = _legend(legend, scale=max(1, round(picture.height / LEGEND_FITS)))
    sheet = Image.new(
        "RGB", (picture.width + panel.width, max(picture.height, panel.height)), PAPER
    )
    sheet.paste(picture, (0, 0))
    sheet.paste(panel, (picture.width, 0))
    return sheet


def on_grey(
    image: UInt8[np.ndarray, "height width 3"],
    masks: Sequence[tuple[Bool[np.ndarray, "height width"], Colour]],
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture in pale grey with every mask in its colour, outlined; same size."""
    grey = image.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2)
    painted = 0.5 * grey + 110
    for mask, colour in masks:
        painted[mask] = (1 - STRONG) * grey[mask] + STRONG * np.array(colour, np.float32)
    for mask, colour in masks:
        painted[outline(mask)] = 0.6 * np.array(colour, np.float32)
    return np.asarray(painted.clip(0, 255), np.uint8)


def outline(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels of the mask with a neighbour outside of it; the picture's border is no outline."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: Bool[np.ndarray, "height width"] = mask & ~inside
    return edge


def _legend(entries: Sequence[Entry], scale: int = 1) -> Image.Image:
    """`scale`: how many times as large as for a picture on a page."""
    row, swatch, margin = scale * ROW, scale * SWATCH, scale * MARGIN
    font = ImageFont.load_default(scale * FONT)
    gap = swatch + 2 * margin
    lines = entries or [Entry(text="nothing found", note="", colour=PAPER)]
    text_wide = max(round(font.getlength(entry.text)) for entry in lines)
    note_wide = max(round(font.getlength(entry.note)) for entry in lines)
    wide = gap + text_wide + margin + note_wide + margin
    panel = Image.new("RGB", (wide, margin + len(lines) * row + margin), PAPER)
    pen = ImageDraw.Draw(panel)
    for number, entry in enumerate(lines):
        y = margin + number * row
        pen.rounded_rectangle((margin, y, margin + swatch, y + swatch), 4 * scale, entry.colour)
        pen.text((gap, y - scale), entry.text, INK, font)
        pen.text((gap + text_wide + margin, y - scale), entry.note, FAINT, font)
    return panel
