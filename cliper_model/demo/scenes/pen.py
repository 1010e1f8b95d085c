"""Draw one item inside its own unit box, wherever the box lies on the canvas."""

import math
from collections.abc import Sequence

from .canvas import Canvas, Point
from .palette import Colour

_ROUND = 26  # corners of an ellipse


class Pen:
    """Draws in a unit box (y down) that is centred, scaled, turned and perhaps mirrored."""

    def __init__(
        self,
        canvas: Canvas,
        item: int,
        centre: Point,
        size_wh: tuple[float, float],
        *,
        turn: float = 0.0,  # radians
        mirrored: bool = False,
    ) -> None:
        self._canvas, self._item, self._centre, self._size_wh = canvas, item, centre, size_wh
        self._cos, self._sin, self._mirrored = math.cos(turn), math.sin(turn), mirrored

    def _place(self, points: Sequence[Point]) -> list[Point]:
        """Box coordinates to canvas coordinates."""
        placed = []
        for x, y in points:
            across = 1 - x if self._mirrored else x
            dx, dy = (across - 0.5) * self._size_wh[0], (y - 0.5) * self._size_wh[1]
            placed.append(
                (
                    self._centre[0] + (dx * self._cos - dy * self._sin) * self._canvas.unit_x,
                    self._centre[1] + (dx * self._sin + dy * self._cos) * self._canvas.unit_y,
                )
            )
        return placed

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self._canvas.polygon(self._item, self._place(points), colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def ellipse(
        self,
        x: float,
        y: float,
        radius_x: float,
        radius_y: float,
        colour: Colour,
        start: float = 0.0,
        end: float = 2 * math.pi,
    ) -> None:
        """A whole ellipse, or the segment from angle `start` to `end`."""
        angles = [start + (end - start) * i / _ROUND for i in range(_ROUND + 1)]
        self.polygon(
            [(x + radius_x * math.cos(a), y + radius_y * math.sin(a)) for a in angles], colour
        )

    def line(
        self, x0: float, y0: float, x1: float, y1: float, thickness: float, colour: Colour
    ) -> None:
        length = math.hypot(x1 - x0, y1 - y0) + 1e-6
        nx, ny = -(y1 - y0) / length * thickness / 2, (x1 - x0) / length * thickness / 2
        corners = [(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)]
        self.polygon(corners, colour)


def star_points(rays: int, outer: float, inner: float) -> list[Point]:
    """A star around the middle of the box, first ray up."""
    radii = (outer, inner)
    angles = [-math.pi / 2 + i * math.pi / rays for i in range(2 * rays)]
    return [
        (0.5 + radii[i % 2] * math.cos(a), 0.5 + radii[i % 2] * math.sin(a))
        for i, a in enumerate(angles)
    ]
