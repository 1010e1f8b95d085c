"""How quality went along, correction by correction. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from .tally import Line

MOST_POINTS: Final = 12
FEWEST: Final = 5  # corrections in one point, where there are as many


@dataclass(frozen=True, kw_only=True)
class Point:
    """Corrections number `first` to `last`, from 1, in the order in which they were made.

    version  of most of their predictions
    """

    first: int
    last: int
    quality: float
    untouched: float
    version: str

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "last": self.last,
            "pictures": self.count,
            "quality": round(self.quality, 4),
            "untouched_share": round(self.untouched, 4),
            "version": self.version,
        }


def by_order(lines: Sequence[Line]) -> list[Point]:
    """Equal parts of all corrections by the time of their annotation; those without one are left
    out."""
    dated = [(one.created, one.task, one) for one in lines if one.created is not None]
    ordered = [one for _, _, one in sorted(dated, key=lambda entry: entry[:2])]
    count = len(ordered)
    parts = max(1, min(MOST_POINTS, count // FEWEST))
    found = []
    for part in range(parts if count else 0):
        first, end = count * part // parts, count * (part + 1) // parts
        inside = ordered[first:end]
        versions = [one.version for one in inside]
        found.append(
            Point(
                first=first + 1,
                last=end,
                quality=sum(one.quality for one in inside) / len(inside),
                untouched=sum(one.kind == "untouched" for one in inside) / len(inside),
                version=max(dict.fromkeys(versions), key=versions.count),
            )
        )
    return found
