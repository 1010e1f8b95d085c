"""Lines and areas on a plane, in short sides of the picture."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..canvas import Point


def winding(
    rng: np.random.Generator, middle: Point, turn: float, bend: float, *, reach: float
) -> list[Point]:
    """A line in the direction `turn`, `reach` to either side of `middle`, bent by up to `bend`."""
    phase, speed = rng.uniform(0, 6.28), rng.uniform(2.5, 6)
    line = []
    for t in np.linspace(-reach, reach, 2 * round(reach / 0.06) + 1):
        off = bend * math.sin(speed * t + phase)
        x = middle[0] + t * math.cos(turn) - off * math.sin(turn)
        line.append((float(x), float(middle[1] + t * math.sin(turn) + off * math.cos(turn))))
    return line


def strip(line: Sequence[Point], width: float) -> list[Point]:
    """The band of that width around a line."""
    points = np.array(line)
    along = np.gradient(points, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1)[:, None]
    left, right = points + normal * width / 2, points - normal * width / 2
    return [(float(x), float(y)) for x, y in np.concatenate([left, right[::-1]])]


def beside(line: Sequence[Point], towards: Point, start: float) -> list[Point]:
    """Everything on the side of a line where the unit vector `towards` points, from `start` on."""
    (a, b), far = towards, math.dist(line[0], line[-1])
    near = [(x + a * start, y + b * start) for x, y in line]
    return near + [(x + a * far, y + b * far) for x, y in reversed(line)]


def cut(piece: Sequence[Point], middle: Point, turn: float) -> list[list[Point]]:
    """The two parts of a convex polygon on either side of a line through `middle`."""
    parts: list[list[Point]] = [[], []]
    normal = (-math.sin(turn), math.cos(turn))
    sides = [(x - middle[0]) * normal[0] + (y - middle[1]) * normal[1] for x, y in piece]
    for k, (x, y) in enumerate(piece):
        parts[int(sides[k] > 0)].append((x, y))
        (a, b), here, there = piece[(k + 1) % len(piece)], sides[k], sides[(k + 1) % len(piece)]
        if (here > 0) != (there > 0):
            share = here / (here - there)
            crossing = (x + (a - x) * share, y + (b - y) * share)
            parts[0].append(crossing)
            parts[1].append(crossing)
    return parts


def area(piece: Sequence[Point]) -> float:
    """Of a polygon that does not cross itself."""
    x, y = np.array(piece).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def moved(mask: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    """A mask moved right and down by `step` pixels."""
    there = np.zeros_like(mask)
    there[step:, step:] = mask[: mask.shape[0] - step, : mask.shape[1] - step]
    return there
