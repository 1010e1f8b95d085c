"""Held-out tasks -> thresholds of presence and expected quality, both for one control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from cliper_model.stages.places import SIGNALS

FEWEST_JUDGED: Final = 10  # tasks; with less the expected quality is anybody's guess
HELD_BACK: Final = 0.5  # tasks' worth of doubt in every weight of the expected quality
STEPS: Final = 30  # of Newton's method
HIGHER: Final = tuple(round(0.05 * step, 2) for step in range(11, 20))  # 0.55 to 0.95
FEWEST_RAISED: Final = 40  # tasks; with less a higher threshold loses more masks than it cleans
FEWEST_REMOVED: Final = 4  # false labels a threshold must remove
DEARER: Final = 3.0  # a label lost costs as much as so many false ones
MOST_LOST: Final = 0.1  # share of right labels that may be lost
BINS: Final = 12


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One held-out task: its signals (`places.SIGNALS`), and how good its masks were."""

    signals: tuple[float, ...]
    quality: float
    weight: float = 1.0


def quality(judged: Sequence[Judged]) -> tuple[float, ...]:
    """Weights of the signals and a constant, whose logistic is the expected quality.

    Empty where too few tasks were judged. Logistic regression on shares, by Newton's method.
    """
    if len(judged) < FEWEST_JUDGED:
        return ()
    signals = np.array([[*one.signals, 1.0] for one in judged])
    target = np.clip([one.quality for one in judged], 0.0, 1.0)
    weight = np.array([one.weight for one in judged])
    doubt = HELD_BACK * np.diag([*([1.0] * len(SIGNALS)), 0.0])
    found: Float[np.ndarray, " weights"] = np.zeros(signals.shape[1])
    for _ in range(STEPS):
        told = 1.0 / (1.0 + np.exp(-signals @ found))
        slope = signals.T @ (weight * (told - target)) + doubt @ found
        bend = (signals.T * (weight * told * (1 - told))) @ signals + doubt
        bend[-1, -1] += 1e-9
        found = (found - np.linalg.solve(bend, slope)).clip(-30.0, 30.0)
    return tuple(round(float(value), 4) for value in found)


def thresholds(
    presence: Float[np.ndarray, "tasks labels"],
    painted: Bool[np.ndarray, "tasks labels"],
    needed: Sequence[float],
    names: Sequence[str],
) -> Mapping[str, float]:
    """Higher thresholds for labels that are often seen where nobody painted them.

    Only where clearly more false labels go than right ones are lost, and in either half of the
    tasks by itself; `needed` is what counts otherwise.
    """
    found: dict[str, float] = {}
    if len(presence) < FEWEST_RAISED:
        return found
    halves = (slice(0, None, 2), slice(1, None, 2))
    for number, name in enumerate(names):
        best = FEWEST_REMOVED - 1.0
        for higher in HIGHER:
            if higher <= needed[number]:
                continue
            parts = [
                _removed_and_lost(
                    presence[half, number], painted[half, number], needed[number], higher
                )
                for half in halves
            ]
            worth = [removed - DEARER * lost for removed, lost in parts]
            right = (presence[painted[:, number], number] > needed[number]).sum()
            lost = sum(lost for _, lost in parts)
            if min(worth) > 0 and lost <= MOST_LOST * right and sum(worth) > best:
                best, found[name] = sum(worth), higher
    return found


def _removed_and_lost(
    presence: Float[np.ndarray, " tasks"],
    painted: Bool[np.ndarray, " tasks"],
    needed: float,
    higher: float,
) -> tuple[int, int]:
    """False labels and right ones that a higher threshold would take away."""
    taken = (presence > needed) & (presence <= higher)
    return int((taken & ~painted).sum()), int((taken & painted).sum())


def as_presence(
    told: Float[np.ndarray, "..."],
    *,
    places: Float[np.ndarray, "..."],
    presence: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """What presence the whole model would give where places say `told`.

    `places` and `presence` are pairs of both, of the model without corrections; in between by
    medians that never fall.
    """
    order = np.argsort(places, axis=None, kind="stable")
    groups = [group for group in np.array_split(order, BINS) if len(group)]
    at = np.array([np.median(places.ravel()[group]) for group in groups])
    value = np.array([np.median(presence.ravel()[group]) for group in groups])
    interpolated: Float[np.ndarray, ...] = np.interp(
        told, [0.0, *at, 1.0], np.maximum.accumulate([0.0, *value, 1.0])
    )
    return interpolated
