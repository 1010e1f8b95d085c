"""Small charts as inline SVG: no script, colours from the page, words for those who cannot see."""

from collections.abc import Sequence
from html import escape
from typing import Final

from ..prelabel.figures import number
from .calibration import Calibration
from .curve import Point

WIDE: Final = 460  # units of the drawing; a page scales it down to about three quarters at least
HIGH: Final = 250
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 44  # margins


def quality_by_order(points: Sequence[Point]) -> str:
    """Mean quality over the course of corrections; a new version starts at a dashed line."""
    total = points[-1].last

    def x(place: float) -> float:
        return LEFT + (WIDE - LEFT - RIGHT) * place / max(total, 1)

    middles = [(x((one.first - 1 + one.last) / 2), _y(one.quality)) for one in points]
    path = "M" + " L".join(f"{px:.1f} {py:.1f}" for px, py in middles)
    parts = [*_frame("quality"), f'<path class="line" d="{path}"/>']
    for before, one in zip([None, *points[:-1]], points, strict=True):
        if before is not None and before.version != one.version:
            at = x(one.first - 1)
            parts.append(f'<path class="change" d="M{at:.1f} {TOP} V{HIGH - BOTTOM}"/>')
            anchor, shift = ("end", -4) if at > WIDE * 0.6 else ("start", 4)
            parts.append(
                f'<text x="{at + shift:.1f}" y="{TOP - 8}" text-anchor="{anchor}">'
                f"{escape(short(one.version, 24))}</text>"
            )
    for (px, py), one in zip(middles, points, strict=True):
        told = f"corrections {one.first} to {one.last}: quality {one.quality:.2f}, {one.version}"
        parts.append(
            f'<circle class="dot" cx="{px:.1f}" cy="{py:.1f}" r="4.5"><title>{escape(told)}'
            "</title></circle>"
        )
    for place in dict.fromkeys((1, (total + 1) // 2, total)):
        parts.append(
            f'<text x="{x(place - 0.5):.1f}" y="{HIGH - BOTTOM + 18}" text-anchor="middle">'
            f"{number(place)}</text>"
        )
    parts.append(_below("corrected pictures, in their order"))
    first, last = points[0], points[-1]
    told = (
        f"Mean quality of the first {first.count} corrected pictures {first.quality:.2f}, "
        f"of the last {last.count} {last.quality:.2f}"
    )
    return _svg(parts, told)


def score_against_quality(found: Calibration) -> str:
    """Dots on the diagonal are honest; their size says how many pictures there are."""

    def x(score: float) -> float:
        return LEFT + (WIDE - LEFT - RIGHT) * score

    parts = [*_frame("measured quality")]
    parts.append(f'<path class="ideal" d="M{x(0):.1f} {_y(0):.1f} L{x(1):.1f} {_y(1):.1f}"/>')
    most = max(one.count for one in found.bins)
    for one in found.bins:
        radius = 3.5 + 9 * (one.count / most) ** 0.5
        told = f"{number(one.count)} pictures: score {one.score:.2f}, quality {one.quality:.2f}"
        parts.append(
            f'<circle class="bubble" cx="{x(one.score):.1f}" cy="{_y(one.quality):.1f}" '
            f'r="{radius:.1f}"><title>{told}</title></circle>'
        )
    for value in (0.0, 0.5, 1.0):
        parts.append(
            f'<text x="{x(value):.1f}" y="{HIGH - BOTTOM + 18}" text-anchor="middle">{value:g}'
            "</text>"
        )
    parts.append(_below("predicted score"))
    return _svg(parts, f"Predicted score against measured quality, error {found.error or 0:.2f}")


def short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _y(value: float) -> float:
    return HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * value


def _frame(title: str) -> list[str]:
    """Lines at 0, 0.25 ... 1, with the axis named above them."""
    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="grid" d="M{LEFT} {_y(value):.1f} H{WIDE - RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 7}" y="{_y(value) + 4.5:.1f}" text-anchor="end">{value:g}</text>'
        )
    parts.append(f'<text x="2" y="{TOP - 12}">{escape(title)}</text>')
    return parts


def _below(words: str) -> str:
    middle = (LEFT + WIDE - RIGHT) / 2
    return f'<text x="{middle:.0f}" y="{HIGH - 6}" text-anchor="middle">{escape(words)}</text>'


def _svg(parts: Sequence[str], told: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(told)}">'
        f"{''.join(parts)}</svg>"
    )
