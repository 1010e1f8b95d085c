"""Masks people want to keep: round outlines, no crumbs, no holes. Label map in, label map out.

    smooth   outlines are rounded; every pixel goes to what fills most of its surroundings
    pieces   crumbs of a label go to whatever surrounds them
    holes    what nobody claims inside a label becomes part of it

in this order: rounding may cut a thin bridge and so make a crumb, a crumb that went may leave
a hole that is now whole, and a filled hole makes neither crumbs nor corners. All three keep the
map a partition: no gaps, no overlaps, and no unclaimed pixel where every pixel had a label.

Pieces of a label hold together over corners, what lies between them over edges only, so that
a closed outline always separates its inside from its outside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from ..segmenter import Segmentation
from .boxes import boxes_of

TILE = 512  # pixels; side of the squares that are smoothed at once
BLOCK_ROWS = 256  # rows whose borders are counted at once
UNSETTLED = -1

OVER_CORNERS, OVER_EDGES = 8, 4  # neighbours of a pixel


def tidy(
    segmentation: Segmentation,
    *,
    min_piece: float | Sequence[float] = 0.0,
    largest_hole: float = 0.0,
    smooth: int = 0,
) -> Segmentation:
    """`segmentation` with round outlines, without crumbs and without holes; 0 leaves it alone.

    min_piece     pieces of a label below this share of the picture vanish; one or one per label
    largest_hole  holes up to this share of the picture are filled; 1 fills all
    smooth        radius of the rounding in pixels

    Overlapping masks are tidied one by one, as if each were alone. Confidence stays that of
    the pixels the method chose, and is 0 for a label that lost all of them.
    """
    limits = np.broadcast_to(np.asarray(min_piece, np.float64), (len(segmentation.labels),))
    if not (limits.any() or largest_hole or smooth):
        return segmentation
    pixels = segmentation.label_map.size
    rules = _Rules(smooth, limits * pixels, largest_hole * pixels)
    if segmentation.layers is None:
        tidied = replace(segmentation, label_map=rules.map(segmentation.label_map))
    else:
        layers = np.zeros(segmentation.layers.shape, bool)  # what stays empty takes no memory
        for label in np.flatnonzero(segmentation.areas):
            layers[label] = rules.layer(segmentation.layers[label], label)
        shown = strongest_layer(segmentation.label_map, layers, strength=segmentation.region_scores)
        tidied = replace(segmentation, label_map=shown, layers=layers)
    return replace(
        tidied,
        confidence=np.where(tidied.areas > 0, segmentation.confidence, 0).astype(np.float32),
    )


@dataclass(frozen=True)
class _Rules:
    """What is asked, in pixels."""

    radius: int
    smallest: Float[np.ndarray, " classes"]
    largest_hole: float

    def map(self, label_map: Int[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
        if self.radius:
            label_map = smooth_map(label_map, radius=self.radius)
        if self.smallest.any():
            label_map = drop_pieces(label_map, smallest=self.smallest)
        if self.largest_hole:
            label_map = fill_holes(label_map, largest=self.largest_hole)
        return label_map

    def layer(
        self, layer: Bool[np.ndarray, "height width"], label: int
    ) -> Bool[np.ndarray, "height width"]:
        alone = replace(self, radius=0, smallest=self.smallest[label : label + 1])
        if self.radius:
            layer = smooth_mask(layer, radius=self.radius)
        return alone.map(layer.astype(np.int32)) > 0


def strongest_layer(
    label_map: Int[np.ndarray, "height width"],
    layers: Bool[np.ndarray, "classes height width"],
    *,
    strength: Float[np.ndarray, " classes"],
) -> Int[np.ndarray, "height width"]:
    """`label_map` where its label's own layer agrees, else the strongest label that claims it."""
    shown = np.zeros_like(label_map)
    painted = np.array([layer.any() for layer in layers], bool)
    for label in np.argsort(strength, kind="stable"):
        if painted[label]:
            shown[layers[label]] = label + 1
    for label in np.flatnonzero(painted):
        shown[layers[label] & (label_map == label + 1)] = label + 1
    return shown


# --- outlines ---------------------------------------------------------------------------------


def smooth_map(
    label_map: Int[np.ndarray, "height width"], *, radius: int
) -> Int[np.ndarray, "height width"]:
    """Every pixel goes to the label, or the background, with the most weight around it.

    Weights are those of `blurred`: exact whole numbers, so that tiles leave no seam. Ties stay
    with the label that is there already, else they go to the lower number.
    """
    smoothed = label_map.copy()
    for inner, outer, place in _tiles(label_map.shape, margin=radius):
        near = label_map[outer]
        present = np.flatnonzero(np.bincount(near.ravel()))
        if len(present) == 1:
            continue
        most = np.zeros(label_map[inner].shape, np.int32)
        winner = smoothed[inner]
        for label in present:
            here = (near == label).astype(np.uint8)
            votes = 2 * blurred(here, radius=radius)[place] + here[place]
            np.copyto(winner, label, where=votes > most)
            np.maximum(most, votes, out=most)
    return smoothed


def smooth_mask(
    mask: Bool[np.ndarray, "height width"], *, radius: int
) -> Bool[np.ndarray, "height width"]:
    """One mask by itself: pixels with at least half of the weight around them inside."""
    smoothed = mask.copy()
    for inner, outer, place in _tiles(mask.shape, margin=radius):
        near = mask[outer]
        if near.all() or not near.any():
            continue
        inside = blurred(near.astype(np.uint8), radius=radius)[place]
        everything = blurred(np.ones(near.shape, np.uint8), radius=radius)[place]
        smoothed[inner] = 2 * inside >= everything
    return smoothed


def blurred(
    mask: UInt8[np.ndarray, "height width"], *, radius: int
) -> Int[np.ndarray, "height width"]:
    """How much of the mask lies within `radius`, near pixels counting more: two boxes in a row.

    What lies outside the array has no weight. The largest sum is (radius + 1)⁴, 7 million for
    a radius of 50.
    """
    first, second = radius // 2, radius - radius // 2
    sums: Int[np.ndarray, "height width"] = mask.astype(np.int32)
    for reach in (first, second):
        side = 2 * reach + 1
        summed = cv2.boxFilter(
            sums, cv2.CV_32S, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        sums = np.asarray(summed, np.int32)
    return sums


Window = tuple[slice, slice]


def _tiles(shape: tuple[int, ...], *, margin: int) -> Iterator[tuple[Window, Window, Window]]:
    """Squares that cover the picture, each with its surroundings, and where it lies in them."""
    height, width = shape
    for top in range(0, height, TILE):
        rows = _with_margin(top, height, margin)
        for left in range(0, width, TILE):
            columns = _with_margin(left, width, margin)
            yield (rows[0], columns[0]), (rows[1], columns[1]), (rows[2], columns[2])


def _with_margin(start: int, end: int, margin: int) -> tuple[slice, slice, slice]:
    stop, first = min(start + TILE, end), max(0, start - margin)
    inner, outer = slice(start, stop), slice(first, min(stop + margin, end))
    return inner, outer, slice(start - first, stop - first)


# --- pieces -----------------------------------------------------------------------------------


def drop_pieces(
    label_map: Int[np.ndarray, "height width"], *, smallest: Float[np.ndarray, " classes"]
) -> Int[np.ndarray, "height width"]:
    """Pieces of label k with fewer than `smallest[k - 1]` pixels go to what surrounds them most.

    That is the label, or the background, with the longest border among those that stay; ties
    go to the lower number. Crumbs that only touch crumbs follow when those have gone. Where
    every piece is a crumb and there is no background, the largest one stays.
    """
    crumbs, sizes = _crumbs(label_map, smallest)
    if len(sizes) and int(sizes.sum()) == label_map.size:
        crumbs[crumbs == int(sizes.argmax()) + 1] = 0  # something has to stay
    if not crumbs.any():
        return label_map
    # crumbs are numbered from 1; behind them comes one number for what stays of each label
    count = len(sizes) + 1
    crumby = crumbs > 0
    nodes = np.where(crumby, crumbs, count + label_map)
    first, second, lengths = _borders(nodes, of=crumby)
    heirs = _heirs(first, second, lengths, crumbs=count, labels=len(smallest) + 1)
    return np.where(crumby, heirs.astype(label_map.dtype)[crumbs], label_map)


def _crumbs(
    label_map: Int[np.ndarray, "height width"], smallest: Float[np.ndarray, " classes"]
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, " crumbs"]]:
    """Number of the crumb at every pixel, 0 elsewhere, and how many pixels each has."""
    crumbs = np.zeros(label_map.shape, np.int32)
    sizes: list[Int[np.ndarray, " some"]] = [np.zeros(0, np.int64)]
    known = 0
    boxes = boxes_of(label_map, labels=max(len(smallest), int(label_map.max(initial=0))))
    for label, limit in enumerate(smallest, 1):
        box = boxes[label]
        if box is None or limit <= 1:
            continue
        pieces, areas, _ = _pieces(label_map[box] == label, OVER_CORNERS)
        small = areas < limit
        small[0] = False  # not the label at all
        if not small.any():
            continue
        numbers = np.zeros(len(areas), np.int32)
        numbers[small] = known + 1 + np.arange(small.sum())
        crumbs[box] += numbers[pieces]
        sizes.append(areas[small])
        known += int(small.sum())
    return crumbs, np.concatenate(sizes)


def _pieces(
    mask: Bool[np.ndarray, "height width"], connectivity: int
) -> tuple[
    Int[np.ndarray, "height width"],
    Int[np.ndarray, " pieces"],
    Bool[np.ndarray, " pieces"],
]:
    """Connected pieces, their areas, and whether they touch the edge; 0 is everything else."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    height, width = mask.shape
    at_edge = (left == 0) | (top == 0) | (right == width) | (bottom == height)
    return pieces, stats[:, cv2.CC_STAT_AREA].astype(np.int64), at_edge


def _borders(
    nodes: Int[np.ndarray, "height width"], *, of: Bool[np.ndarray, "height width"]
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Pairs of different numbers that share pixel edges, and how many; at least one pixel `of`.

    In both directions, sorted by the first number.
    """
    top = int(nodes.max()) + 1
    keys, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, nodes.shape[0], BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS + 1)  # one more: edges to the next block
        if not of[rows].any():
            continue
        down = _unlike(nodes[rows], of[rows])
        across = _unlike(nodes[rows][:BLOCK_ROWS].T, of[rows][:BLOCK_ROWS].T)
        one, other = (np.concatenate(halves) for halves in zip(down, across, strict=True))
        ordered = np.minimum(one, other).astype(np.int64) * top + np.maximum(one, other)
        unique, counts = np.unique(ordered, return_counts=True)
        keys.append(unique)
        lengths.append(counts)
    pairs, where = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(where, weights=np.concatenate(lengths), minlength=len(pairs))
    first = np.concatenate([pairs // top, pairs % top])
    second = np.concatenate([pairs % top, pairs // top])
    order = np.argsort(first, kind="stable")
    return first[order], second[order], np.tile(total, 2)[order].astype(np.int64)


def _unlike(
    nodes: Int[np.ndarray, "height width"], of: Bool[np.ndarray, "height width"]
) -> tuple[Int[np.ndarray, " edges"], Int[np.ndarray, " edges"]]:
    """Numbers above and below every edge between rows where they differ."""
    differ = (nodes[:-1] != nodes[1:]) & (of[:-1] | of[1:])
    return nodes[:-1][differ], nodes[1:][differ]


def _heirs(
    first: Int[np.ndarray, " pairs"],
    second: Int[np.ndarray, " pairs"],
    lengths: Int[np.ndarray, " pairs"],
    *,
    crumbs: int,
    labels: int,
) -> Int[np.ndarray, " crumbs"]:
    """The label every crumb goes to; numbers from `crumbs` on are labels that stay.

    Pairs are sorted by `first`. Each round settles the crumbs that touch what was settled in
    the round before, so that every border is looked at once.
    """
    heirs = np.full(crumbs + labels, UNSETTLED, np.int64)
    heirs[crumbs:] = np.arange(labels)
    starts = np.searchsorted(first, np.arange(crumbs + labels + 1))
    settled = np.arange(crumbs, crumbs + labels)
    while len(settled):
        pairs = _ranges(starts[settled], starts[settled + 1])
        pairs = pairs[heirs[second[pairs]] == UNSETTLED]
        claims = second[pairs] * labels + heirs[first[pairs]]
        unique, where = np.unique(claims, return_inverse=True)
        length = np.bincount(where, weights=lengths[pairs], minlength=len(unique))
        crumb, label = unique // labels, unique % labels
        order = np.lexsort((label, -length, crumb))
        settled, longest = np.unique(crumb[order], return_index=True)
        heirs[settled] = label[order][longest]
    return heirs[:crumbs]


def _ranges(
    starts: Int[np.ndarray, " n"], stops: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " total"]:
    """All whole numbers of [start, stop), one range after the other."""
    lengths = stops - starts
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)


# --- holes ------------------------------------------------------------------------------------


def fill_holes(
    label_map: Int[np.ndarray, "height width"], *, largest: float
) -> Int[np.ndarray, "height width"]:
    """Unclaimed areas of at most `largest` pixels go to the label whose hole they lie in.

    They must touch that label, and it alone must part them from the edge of the picture;
    other labels in the same hole stay what they are. Of two labels around an area the inner
    one takes it. An area that touches the edge of the picture is no hole.
    """
    gaps, areas = _gaps(label_map, largest)
    if not len(areas):
        return label_map
    classes = int(label_map.max()) + 1
    inside = gaps > 0
    gap, label, _ = _borders(np.where(inside, classes - 1 + gaps, label_map), of=inside)
    gap, label = gap[gap >= classes] - classes, label[gap >= classes]
    neighbours = np.bincount(gap, minlength=len(areas))
    owner = np.zeros(len(areas), np.int64)
    alone = neighbours[gap] == 1
    owner[gap[alone]] = label[alone]
    _give_to_innermost(owner, label_map, gaps, gap[~alone], label[~alone])
    owners = np.concatenate([[0], owner]).astype(label_map.dtype)
    return np.where(inside, owners[gaps], label_map)


def _gaps(
    label_map: Int[np.ndarray, "height width"], largest: float
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, " gaps"]]:
    """Numbers of unclaimed areas that are small enough and inside, from 1, and their areas."""
    pieces, areas, at_edge = _pieces(label_map == 0, OVER_EDGES)
    wanted = ~at_edge & (areas <= largest)
    wanted[0] = False  # the labels
    numbers = np.zeros(len(areas), np.int32)
    numbers[wanted] = 1 + np.arange(wanted.sum())
    return numbers[pieces], areas[wanted]


def _give_to_innermost(
    owner: Int[np.ndarray, " gaps"],
    label_map: Int[np.ndarray, "height width"],
    gaps: Int[np.ndarray, "height width"],
    gap: Int[np.ndarray, " pairs"],
    label: Int[np.ndarray, " pairs"],
) -> None:
    """Write into `owner` who owns the gaps that touch several labels, 0 for nobody.

    Of the neighbours in whose hole a gap lies, the one with the smallest hole: holes of
    different labels that share a pixel lie one inside the other.
    """
    if not len(gap):
        return
    where = _first_pixels(gaps, len(owner))[gap]
    smallest = np.full(len(owner), np.iinfo(np.int64).max)
    boxes = boxes_of(label_map, labels=int(label_map.max()))
    for candidate in np.unique(label[label > 0]):
        asked = label == candidate
        box = boxes[candidate]
        if box is None:
            continue
        rows, columns = where[asked, 0] - box[0].start, where[asked, 1] - box[1].start
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        mine = gap[asked][inside]
        holes, areas, at_edge = _pieces(label_map[box] != candidate, OVER_EDGES)
        hole = holes[rows[inside], columns[inside]]
        better = ~at_edge[hole] & (areas[hole] < smallest[mine])
        owner[mine[better]] = candidate
        smallest[mine[better]] = areas[hole[better]]


def _first_pixels(
    numbers: Shaped[np.ndarray, "height width"], count: int
) -> Int[np.ndarray, "count 2"]:
    """Row and column of one pixel of each number from 1 to `count`."""
    rows, columns = np.nonzero(numbers)
    found = numbers[rows, columns] - 1
    first = np.zeros((count, 2), np.int64)
    first[found[::-1], 0], first[found[::-1], 1] = rows[::-1], columns[::-1]
    return first
