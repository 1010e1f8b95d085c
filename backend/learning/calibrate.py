"""Presence thresholds and expected quality from held-out tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One held-out task: signals of its picture, and how good its masks were."""

    signals: tuple[float, ...]
    quality: float
    weight: float = 1.0


def quality(judged: Sequence[Judged]) -> tuple[float, ...]:
    raise NotImplementedError


def thresholds(*given: object) -> Mapping[str, float]:
    raise NotImplementedError
