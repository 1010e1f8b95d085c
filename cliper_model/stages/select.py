"""What a click means: points and a box pick out of a label's map what somebody points at.

A click never runs the network.

    the label's usual mask, as `decide` gives it among the other labels, its presence aside
    box        nothing outside; where the usual mask has hardly anything inside, the strong
               part of the label's map there
    positive   of the usual mask the piece that holds the point; beside the mask the piece of
               {map >= half its value at the point} that holds it, within what was decided
               to be the same thing; a higher level where that is too large
    negative   a piece that holds no positive point goes; else the piece is parted, each place
               going to the point that is nearer over the ups and downs of the map
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from ..segmenter import Decision, Scores
from .decide import decide, pixel_scores, upsampled_rows
from .tidy import OVER_CORNERS

Point = tuple[float, float]  # (x, y) in pixels of the picture
Box = tuple[float, float, float, float]
Cell = tuple[int, int]  # row, column
Spans = tuple[tuple[int, int], tuple[int, int]]  # of rows and of columns, ends exclusive

LONGEST_SIDE = 1024  # cells; larger pictures are selected on a coarser grid
MOST_VALUES = 4_000_000  # map values on that grid, so that many labels do not take seconds
LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95)  # shares of the map's value at a click beside the usual mask
HINT = 0.1  # of the map's range; a click on less has nothing to do with the usual mask
LARGEST_SHARE = 0.25  # of the picture; more of what was missed is no piece but a leak
BOX_LEVEL = 0.4  # of the range of values inside a box
BOX_FILLED = 0.25  # share of a box that the usual mask must fill to be what is meant
CLIMB = 8.0  # the whole range of the map is as far as so many times the longer side
PARTING_SIDE = 192  # cells

_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS = (  # one cell, the other, and how far they lie apart
    ((_ALL, _FIRST), (_ALL, _LAST), 1.0),
    ((_FIRST, _ALL), (_LAST, _ALL), 1.0),
    ((_FIRST, _FIRST), (_LAST, _LAST), math.sqrt(2)),
    ((_LAST, _FIRST), (_FIRST, _LAST), math.sqrt(2)),
)


def select(
    scores: Scores,
    label: int,
    *,
    positive: Sequence[Point] = (),
    negative: Sequence[Point] = (),
    box_xyxy: Box | None = None,
    decision: Decision,
) -> Bool[np.ndarray, "height width"]:
    """The pixels of label number `label` that are meant, at the size of the picture.

    Points are clipped to the picture. A positive point inside the box keeps its pixel, a
    negative one never does, also where both fall together; positive points outside the box
    say nothing. Without points and box this is the label's usual mask. Presence of the label
    and its smallest area are ignored: somebody says that it is there.

    Raises ValueError for a label that does not exist and a box without an inside.
    """
    if not 0 <= label < len(scores.labels):
        raise ValueError(f"label must be from 0 to {len(scores.labels) - 1}, got {label}")
    box = _pixel_box(box_xyxy, scores.size_hw)
    wanted = [pixel for pixel in _pixels(positive, scores.size_hw) if _inside(pixel, box)]
    unwanted = _pixels(negative, scores.size_hw)

    grid_hw = selection_grid(scores)
    to_grid = np.array(grid_hw) / np.array(scores.size_hw)
    keep, refuse = _cells(wanted, to_grid), _cells(unwanted, to_grid)
    allowed = np.zeros(grid_hw, bool)
    allowed[_cell_box(box, to_grid)] = True

    seen = _look(scores, label, decision, grid_hw, crumbs=bool(keep))
    if keep:
        chosen = np.zeros(grid_hw, bool)
        for cell in keep:
            if not chosen[cell]:
                chosen |= _piece_at(cell, seen, allowed)
    else:
        chosen = _usual_part(seen, allowed, boxed=box_xyxy is not None)
    chosen = _without(chosen, seen.values, keep, refuse)

    mask = _enlarged(chosen, scores.size_hw, certain=[*keep, *refuse])
    return _with_clicks(mask, wanted, unwanted, box)


def selection_grid(scores: Scores) -> tuple[int, int]:
    """Rows and columns that are looked at: the picture's own, or fewer where that is too many."""
    height, width = scores.size_hw
    values = len(scores.maps if scores.rows is None else scores.rows.values)
    ratio = min(
        1.0, LONGEST_SIDE / max(height, width), (MOST_VALUES / (values * height * width)) ** 0.5
    )
    return max(1, round(height * ratio)), max(1, round(width * ratio))


# --- what the label's map says ----------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """A label on the grid of the selection.

    values  its map, from 0 at the weakest place to 1 at the strongest
    usual   its mask as decided
    winner  number of what was decided at every cell, 0 for the background
    """

    values: Float[np.ndarray, "rows columns"]
    usual: Bool[np.ndarray, "rows columns"]
    winner: Int[np.ndarray, "rows columns"]


def _look(
    scores: Scores, label: int, decision: Decision, grid_hw: tuple[int, int], *, crumbs: bool
) -> _Seen:
    """Decide on a coarser grid, as if the label were present; with crumbs that may be clicked."""
    count = len(scores.labels)
    presence = scores.presence.copy()
    presence[label] = 1.0
    own = {
        name: decision.per_label(name, count).copy()
        for name in ("presence_threshold", "min_area", "min_piece")
    }
    own["presence_threshold"][label] = own["min_area"][label] = 0.0
    if crumbs:
        own["min_piece"][label] = 0.0
    here = replace(scores, presence=presence, size_hw=grid_hw)
    decided = decide(
        here,
        replace(
            decision,
            presence_threshold=tuple(map(float, own["presence_threshold"])),
            min_area=tuple(map(float, own["min_area"])),
            min_piece=tuple(map(float, own["min_piece"])),
            smooth=round(decision.smooth * grid_hw[0] / scores.size_hw[0]),
        ),
    )
    return _Seen(_values(here, label), decided.mask(label), decided.label_map)


def _values(scores: Scores, label: int) -> Float[np.ndarray, "rows columns"]:
    """The label's map or probability at every cell, stretched to [0, 1]; 0 where it is flat."""
    values = np.zeros(scores.size_hw, np.float32)
    if scores.rows is None:
        for rows, block in upsampled_rows(scores.maps[label : label + 1], size_hw=scores.size_hw):
            values[rows] = block[0]
    else:
        for rows, block, _ in pixel_scores(scores):
            values[rows] = block[label]
    values -= values.min()
    return values / max(float(values.max()), 1e-12)


def _usual_part(
    seen: _Seen, allowed: Bool[np.ndarray, "rows columns"], *, boxed: bool
) -> Bool[np.ndarray, "rows columns"]:
    """What is meant without a positive point."""
    part = seen.usual & allowed
    if not boxed or part.sum() >= BOX_FILLED * allowed.sum():
        return part
    inside = seen.values[allowed]
    level = inside.min() + BOX_LEVEL * (inside.max() - inside.min())
    return allowed & (seen.values >= level)


def _piece_at(
    cell: Cell, seen: _Seen, allowed: Bool[np.ndarray, "rows columns"]
) -> Bool[np.ndarray, "rows columns"]:
    """The piece a positive point means; never without the point's own cell."""
    if seen.usual[cell]:
        return _piece_with(seen.usual & allowed, [cell])
    alike = allowed & (seen.winner == seen.winner[cell])
    if seen.values[cell] >= HINT:  # perhaps the usual mask only ends too early
        alike |= allowed & seen.usual
    most = LARGEST_SHARE * allowed.size
    for level in LEVELS:
        piece = _piece_with(alike & (seen.values >= level * seen.values[cell]), [cell])
        if (piece & ~seen.usual).sum() <= most:
            return piece
    rows, columns = np.ogrid[: alike.shape[0], : alike.shape[1]]
    near = (rows - cell[0]) ** 2 + (columns - cell[1]) ** 2 <= max(1.0, most / np.pi)
    return _piece_with(piece & near, [cell])


# --- negative points --------------------------------------------------------------------------


def _without(
    chosen: Bool[np.ndarray, "rows columns"],
    values: Float[np.ndarray, "rows columns"],
    keep: Sequence[Cell],
    refuse: Sequence[Cell],
) -> Bool[np.ndarray, "rows columns"]:
    """`chosen` without the pieces, or the parts of pieces, that negative points mean."""
    hit = [cell for cell in refuse if chosen[cell]]
    if not hit:
        return chosen
    count, pieces = cv2.connectedComponents(chosen.view(np.uint8), connectivity=OVER_CORNERS)
    stays = np.arange(count) > 0
    stays[[pieces[cell] for cell in hit]] = False
    remaining = stays[pieces]
    for piece in sorted({int(pieces[cell]) for cell in keep} - set(np.flatnonzero(stays)) - {0}):
        wanted, refused = (
            [cell for cell in cells if pieces[cell] == piece] for cells in (keep, hit)
        )
        remaining |= _parted(pieces == piece, values, wanted, refused)
    return remaining


def _parted(
    piece: Bool[np.ndarray, "rows columns"],
    values: Float[np.ndarray, "rows columns"],
    keep: Sequence[Cell],
    refuse: Sequence[Cell],
) -> Bool[np.ndarray, "rows columns"]:
    """The part of a piece that is nearer to `keep`, walking over the map, than to `refuse`.

    A way is as long as it is across, plus `CLIMB` times all its ups and downs in the map: a
    valley between two hills parts them, and so does the foot of a slope. What is cut off from
    every kept point goes, too. Found on at most `PARTING_SIDE` cells, which are enough for
    maps that are no finer.
    """
    left, top, width, height = cv2.boundingRect(piece.view(np.uint8))
    box = (slice(top, top + height), slice(left, left + width))
    ratio = min(1.0, PARTING_SIDE / max(height, width))
    coarse_hw = max(1, round(height * ratio)), max(1, round(width * ratio))
    covered = _averaged(piece[box].astype(np.float32), coarse_hw) > 0
    ways = _ways(covered, _averaged(values[box], coarse_hw), step=1 / ratio / max(piece.shape))

    to_coarse = np.array(coarse_hw) / (height, width)
    numbers = np.cumsum(covered).reshape(coarse_hw) - 1
    kept, refused = (
        dijkstra(
            ways,
            directed=False,
            indices=[
                numbers[cell]
                for cell in _cells([(row - top, column - left) for row, column in cells], to_coarse)
            ],
            min_only=True,
        )
        for cells in (keep, refuse)
    )
    nearer = np.zeros(coarse_hw, np.float32)
    nearer[covered] = kept <= refused
    part = np.zeros_like(piece)
    part[box] = cv2.resize(nearer, (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5
    part &= piece
    for value, cells in ((False, refuse), (True, keep)):
        for cell in cells:
            part[cell] = value
    return _piece_with(part, keep)


def _averaged(
    values: Float[np.ndarray, "rows columns"], size_hw: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    smaller = cv2.resize(values, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.float32)


def _ways(
    inside: Bool[np.ndarray, "h w"], values: Float[np.ndarray, "h w"], *, step: float
) -> csr_array:
    """Lengths of the ways between neighbours inside, diagonal ones too; cells in reading order."""
    numbers = np.cumsum(inside).reshape(inside.shape) - 1
    count = int(inside.sum())
    starts, ends, lengths = [], [], []
    for one, other, cells in _NEIGHBOURS:
        both = inside[one] & inside[other]
        starts.append(numbers[one][both])
        ends.append(numbers[other][both])
        lengths.append(step * cells + CLIMB * np.abs(values[one] - values[other])[both])
    pairs = (np.concatenate(starts), np.concatenate(ends))
    return csr_array((np.concatenate(lengths), pairs), shape=(count, count))


def _piece_with(
    mask: Bool[np.ndarray, "rows columns"], cells: Sequence[Cell]
) -> Bool[np.ndarray, "rows columns"]:
    """The connected pieces of the mask that hold one of the cells."""
    count, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=OVER_CORNERS)
    held = np.zeros(count, bool)
    held[[pieces[cell] for cell in cells]] = True
    held[0] = False  # everything else
    return held[pieces]


# --- pixels and cells -------------------------------------------------------------------------


def _pixels(points: Sequence[Point], size_hw: tuple[int, int]) -> list[Cell]:
    """Row and column of the pixels that points lie in, clipped to the picture."""
    height, width = size_hw
    return [(int(min(max(y, 0), height - 1)), int(min(max(x, 0), width - 1))) for x, y in points]


def _pixel_box(box_xyxy: Box | None, size_hw: tuple[int, int]) -> Spans:
    """First and last row and column, exclusive, that the box touches; at least one pixel."""
    height, width = size_hw
    if box_xyxy is None:
        return (0, height), (0, width)
    x0, y0, x1, y1 = box_xyxy
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"box_xyxy must go from left to right and top to bottom, got {box_xyxy}")
    return _span(y0, y1, height), _span(x0, x1, width)


def _span(start: float, stop: float, length: int) -> tuple[int, int]:
    first = int(min(max(start, 0), length - 1))
    return first, max(first + 1, math.ceil(min(stop, length)))


def _inside(pixel: Cell, box: Spans) -> bool:
    return all(first <= at < end for at, (first, end) in zip(pixel, box, strict=True))


def _cells(pixels: Sequence[Cell], to_grid: Float[np.ndarray, " 2"]) -> list[Cell]:
    """The grid's cells that hold the centres of the pixels, each once."""
    found = [
        (int((row + 0.5) * to_grid[0]), int((column + 0.5) * to_grid[1])) for row, column in pixels
    ]
    return list(dict.fromkeys(found))


def _cell_box(box: Spans, to_grid: Float[np.ndarray, " 2"]) -> tuple[slice, slice]:
    """Cells that share something with the box."""
    (top, bottom), (left, right) = box
    return (
        slice(int(top * to_grid[0]), math.ceil(bottom * to_grid[0])),
        slice(int(left * to_grid[1]), math.ceil(right * to_grid[1])),
    )


def _enlarged(
    chosen: Bool[np.ndarray, "rows columns"], size_hw: tuple[int, int], *, certain: Sequence[Cell]
) -> Bool[np.ndarray, "height width"]:
    """At the size of the picture, bilinear and half; cells with a point stay whole."""
    if chosen.shape == size_hw:
        return chosen.copy()
    height, width = size_hw
    soft = cv2.resize(
        chosen.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR
    )
    mask: Bool[np.ndarray, "height width"] = np.asarray(soft) >= 128
    down, across = height / chosen.shape[0], width / chosen.shape[1]
    for row, column in certain:
        mask[
            math.ceil(row * down - 0.5) : math.ceil((row + 1) * down - 0.5),
            math.ceil(column * across - 0.5) : math.ceil((column + 1) * across - 0.5),
        ] = chosen[row, column]
    return mask


def _with_clicks(
    mask: Bool[np.ndarray, "height width"],
    wanted: Sequence[Cell],
    unwanted: Sequence[Cell],
    box: Spans,
) -> Bool[np.ndarray, "height width"]:
    """Nothing outside the box, every wanted pixel, no unwanted one."""
    (top, bottom), (left, right) = box
    limited = np.zeros_like(mask)
    limited[top:bottom, left:right] = mask[top:bottom, left:right]
    for value, pixels in ((True, wanted), (False, unwanted)):
        for pixel in pixels:
            limited[pixel] = value
    return limited
