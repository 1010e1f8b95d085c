"""VectorLabels and Vector: closed paths of straight lines, read with curves (protocol notes §6).

The editor draws the lines that `prevPointId` names, and fills a path where `closed` is true and
its tag has `closable="true"`; it closes one by naming the last vertex as the first one's
predecessor, and so do we (Label Studio 1.23.2, KonvaVector).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ...errors import BadMask
from ..tasks import Region
from . import fill, outline, percent
from .base import RegionControl, results
from .pieces import pieces

PIECES_OF_A_CURVE = 16
LEAN = 0.3  # how far along a straight line the editor puts the control point of a plain vertex

Point = Float[np.ndarray, " 2"]


def encode(mask: Bool[np.ndarray, "height width"], control: RegionControl) -> list[Region]:
    """One closed path per piece, the largest first; none for an empty mask."""
    size_hw = control.size_hw or (mask.shape[0], mask.shape[1])
    regions = []
    for number, piece in enumerate(pieces(mask)):
        ring = outline.trace(piece, (mask.shape[0], mask.shape[1]), control)
        value = {"vertices": _vertices(ring), "closed": True}
        regions += results(control, value, size_hw=size_hw, number=number)
    return regions


def is_area(value: Mapping[str, Any]) -> bool:
    """Whether the path is closed: an open one is a line."""
    return bool(value.get("closed"))


def decode(region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Pixels whose centre lies inside the closed path; none for an open one. Raises BadMask."""
    value = percent.value_of(region, "vertices")
    vertices = value["vertices"]
    if not isinstance(vertices, list) or not all(isinstance(one, Mapping) for one in vertices):
        raise BadMask("the region's vertices are not a list of points")
    corners = percent.points([[one.get("x"), one.get("y")] for one in vertices])
    if not len(corners):
        raise BadMask("the region's path has no vertices")
    if not is_area(value):
        return np.zeros(size_hw, bool)
    order = _along_the_path(vertices)
    ring = [
        part
        for index, following in zip(order, [*order[1:], order[0]], strict=True)
        for part in _line(
            (vertices[index], corners[index]), (vertices[following], corners[following])
        )
    ]
    return fill.ring(percent.to_pixels(np.concatenate(ring), size_hw), size_hw)


def _vertices(ring: outline.Ring) -> list[dict[str, Any]]:
    return [
        {
            "x": x,
            "y": y,
            "id": f"v{index}",
            "isBezier": False,
            "prevPointId": f"v{(index or len(ring)) - 1}",
        }
        for index, (x, y) in enumerate(ring.tolist())
    ]


def _along_the_path(vertices: Sequence[Mapping[str, Any]]) -> list[int]:
    """Indices as `prevPointId` links them; as listed where the links are not one closed path.

    A vertex without a link follows the one listed before it.
    """
    listed = list(range(len(vertices)))
    known = {str(one["id"]): index for index, one in enumerate(vertices) if one.get("id")}
    before = {
        index: known.get(str(one.get("prevPointId")), index - 1)
        for index, one in enumerate(vertices)
        if one.get("prevPointId") or index > 0
    }
    ends = set(listed) - set(before.values())
    if 0 not in before and len(ends) == 1:
        before[0] = ends.pop()
    after = {previous: index for index, previous in before.items()}
    path, at = [0], after.get(0)
    while at is not None and at != 0 and len(path) < len(listed):
        path.append(at)
        at = after.get(at)
    return path if len(path) == len(listed) and at == 0 else listed


def _line(
    start: tuple[Mapping[str, Any], Point], end: tuple[Mapping[str, Any], Point]
) -> list[Float[np.ndarray, "points 2"]]:
    """Points from start (with it) to end (without it): one, or those of a cubic curve."""
    (leaving, first), (arriving, last) = start, end
    out, into = _control_point(leaving, "controlPoint2"), _control_point(arriving, "controlPoint1")
    if out is None and into is None:
        return [first[None]]
    second = first + LEAN * (last - first) if out is None else out
    third = last - LEAN * (last - first) if into is None else into
    t = np.arange(PIECES_OF_A_CURVE)[:, None] / PIECES_OF_A_CURVE
    curve = (
        (1 - t) ** 3 * first
        + 3 * (1 - t) ** 2 * t * second
        + 3 * (1 - t) * t**2 * third
        + t**3 * last
    )
    return [curve]


def _control_point(vertex: Mapping[str, Any], name: str) -> Point | None:
    point = vertex.get(name)
    if not vertex.get("isBezier") or not isinstance(point, Mapping):
        return None
    return percent.points([[point.get("x"), point.get("y")]])[0]
