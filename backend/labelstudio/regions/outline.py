"""A piece of a mask -> one valid ring of few points, holes cut open.

Label Studio's polygons are one ring: a hole is reached from outside through a slit far thinner
than anybody sees. The outline runs half-way between the centres of painted and bare pixels, so
that without simplification every pixel's centre lies on its own side.

The points are simplified as Douglas and Peucker do, without changing which ring lies in which,
and further so until they are few enough.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import shapely
from contourpy import FillType, contour_generator
from jaxtyping import Bool, Float, Shaped
from shapely.geometry import LineString, MultiPolygon, Point, Polygon
from shapely.ops import nearest_points

from . import percent
from .base import RegionControl
from .pieces import Piece

MOST_PIXELS = 4_000_000  # of a piece's box; larger ones are reduced. 40 bytes each while tracing
HALF = 0.5
FEWEST_POINTS = 4
POINTS_OF_A_HOLE = 7  # three of its own and four of its slit
MOST_HOLES = 300  # cut open, however many points are allowed: the time grows with their square
FIRST_STEP = 0.5  # pixels: the first tolerance tried after one of zero
STEP = 1.5
MOST_STEPS = 32  # 0.5 * 1.5 ** 32 = 200,000 pixels: wider than any picture

# The slit in pixels of the picture. Outlines lie on half pixels, and so does the line from one to
# the next: moved aside a little, the slit passes beside the centres of pixels. Its ends reach far
# enough beyond the rings to open them.
HALF_SLIT = 0.004
ASIDE = 0.02
BEYOND = 0.1

Ring = Float[np.ndarray, "points 2"]


def trace(piece: Piece, mask_hw: tuple[int, int], control: RegionControl) -> Ring:
    """The piece's outline as x, y in percent of the displayed picture; not closed by a point.

    A hole smaller than the tolerance squared is closed, and of many holes the largest stay.
    """
    size_hw = control.size_hw or mask_hw
    outline = _polygon(piece, (size_hw[1] / mask_hw[1], size_hw[0] / mask_hw[0]))
    most = max(control.most_points, FEWEST_POINTS)
    most_holes = min(most // POINTS_OF_A_HOLE, MOST_HOLES)
    for tolerance in _tolerances(control.tolerance):
        simple = _without_small_holes(outline, tolerance**2, most_holes)
        simple = simple.simplify(tolerance, preserve_topology=True)
        if shapely.get_num_coordinates(simple) > 2 * most:
            continue  # slits add a few points, and may take some away
        ring = percent.from_pixels(_ring(_opened(simple).exterior), size_hw)
        if len(ring) <= most and _is_valid(ring):
            return ring
    left, top, right, bottom = outline.bounds
    box = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return percent.from_pixels(box, size_hw)


def _polygon(piece: Piece, scale_xy: tuple[float, float]) -> Polygon:
    """Outer ring and holes in pixels of the picture."""
    left, top, right, bottom = piece.box_xyxy
    for field in _fields(piece.crop):
        cell_xy = np.array([(right - left) / field.shape[1], (bottom - top) / field.shape[0]])
        generator = contour_generator(z=np.pad(field, 1), fill_type=FillType.OuterOffset)
        shapes = []
        for points, offsets in zip(*generator.filled(HALF, 2.0), strict=True):
            pixels = ((points - HALF) * cell_xy + (left, top)) * scale_xy
            outer, *holes = np.split(pixels, offsets[1:-1])
            shapes.append(Polygon(outer, holes))
        if len(shapes) == 1:
            return shapes[0]
    return max(shapes, key=lambda shape: shape.area)


def _fields(crop: Bool[np.ndarray, "box_h box_w"]) -> Iterator[Shaped[np.ndarray, "h w"]]:
    """What share of each cell is painted, in 0 to 1; cells are pixels unless there are too many.

    A thing thinner than the cells may fall apart when reduced; the second field then paints
    every cell it touches.
    """
    factor = int(np.ceil(np.sqrt(crop.size / MOST_PIXELS)))
    if factor <= 1:
        yield crop.astype(np.float64)
        return
    size_wh = (-(-crop.shape[1] // factor), -(-crop.shape[0] // factor))
    grey = cv2.resize(crop.view(np.uint8) * 255, size_wh, interpolation=cv2.INTER_AREA)
    yield grey / 255
    yield (grey > 0).astype(np.float64)


def _tolerances(wanted: float) -> Iterator[float]:
    yield wanted
    for step in range(MOST_STEPS):
        yield max(wanted, FIRST_STEP) * STEP ** (step + 1)


def _without_small_holes(outline: Polygon, smallest: float, most: int) -> Polygon:
    holes = sorted((Polygon(hole) for hole in outline.interiors), key=lambda hole: -hole.area)
    kept = [hole.exterior for hole in holes[:most] if hole.area >= smallest]
    return Polygon(outline.exterior, kept)


def _opened(shape: Polygon) -> Polygon:
    """The polygon with a slit from every hole to the outside; a hole that resists is closed.

    The hole nearest to the outside comes first: no other one lies between, which a slit could
    cut twice, and cut off what is between.
    """
    while shape.interiors:
        near, *others = sorted(shape.interiors, key=shape.exterior.distance)
        for slit in _slits(*nearest_points(near, shape.exterior)):
            cut = shape.difference(slit)
            if isinstance(cut, MultiPolygon):
                cut = max(cut.geoms, key=lambda part: part.area)
            if isinstance(cut, Polygon) and len(cut.interiors) < len(shape.interiors):
                shape = cut
                break
        else:
            shape = Polygon(shape.exterior, others)
    return shape


def _slits(inner: Point, outer: Point) -> Iterator[Polygon]:
    """Ways from one point to the other, the next for where the one before misses a ring."""
    start, end = (np.array([point.x, point.y]) for point in (inner, outer))
    length = float(np.hypot(*(end - start)))
    if length > HALF_SLIT:
        along = (end - start) / length
        for aside in (ASIDE, -ASIDE, 0.0):
            shift = aside * np.array([-along[1], along[0]])
            line = LineString([start - BEYOND * along + shift, end + BEYOND * along + shift])
            yield line.buffer(HALF_SLIT, cap_style="flat")
    yield LineString([start, end]).buffer(BEYOND)


def _ring(exterior: shapely.LinearRing) -> Ring:
    return shapely.get_coordinates(exterior)[:-1]


def _is_valid(ring: Ring) -> bool:
    return len(ring) >= 3 and bool(Polygon(ring).is_valid) and Polygon(ring).area > 0
