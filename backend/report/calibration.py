"""Do scores tell the truth: predicted score against measured quality. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

BINS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Pictures whose score is from `low` up to `high`, with means of both."""

    low: float
    high: float
    count: int
    score: float
    quality: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """error  expected calibration error: the mean distance of both, weighted by pictures"""

    bins: tuple[Bin, ...]
    count: int
    error: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "pictures": self.count,
            "expected_calibration_error": None if self.error is None else round(self.error, 4),
            "bins": [
                {
                    "from": one.low,
                    "to": one.high,
                    "pictures": one.count,
                    "score": round(one.score, 4),
                    "quality": round(one.quality, 4),
                }
                for one in self.bins
            ],
        }


def calibration(scores: Sequence[float], qualities: Sequence[float]) -> Calibration:
    """Both from 0 to 1, in pairs; bins without any picture are left out."""
    score, quality = np.asarray(scores, float), np.asarray(qualities, float)
    number = np.minimum((score * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        inside = number == place
        if inside.any():
            bins.append(
                Bin(
                    low=place / BINS,
                    high=(place + 1) / BINS,
                    count=int(inside.sum()),
                    score=float(score[inside].mean()),
                    quality=float(quality[inside].mean()),
                )
            )
    count = len(score)
    error = sum(one.count * abs(one.score - one.quality) for one in bins) / count if count else None
    return Calibration(bins=tuple(bins), count=count, error=error)
