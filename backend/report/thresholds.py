"""What a higher `model_score_threshold` would have done, label by label, and where to raise it.

The threshold compares presence, and a region's score is presence times confidence, so never above
it. A mask that scores more than a threshold surely stays: what is counted here goes at most. Pure.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from .comparing import Name

STEPS: Final = tuple(round(0.05 * step, 2) for step in range(1, 20))
FEWEST_REMOVED: Final = 3  # false masks that have to go at least
DEARER: Final = 2.0  # a right mask that is lost costs as much as so many false ones
MOST_LOST: Final = 0.1  # share of the right ones that may be lost


@dataclass
class Masks:
    """Scores of a label's masks: on pictures where people painted it, and where they did not."""

    right: "array[float]" = field(default_factory=lambda: array("d"))
    false: "array[float]" = field(default_factory=lambda: array("d"))

    def take(self, score: float, *, is_right: bool) -> None:
        (self.right if is_right else self.false).append(score)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Masks that score `threshold` at most, and so would go."""

    threshold: float
    removed: int  # false ones
    lost: int  # right ones


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One label. `advice` is the step to take, if any is clear."""

    name: Name
    right: int
    false: int
    steps: tuple[Step, ...]
    advice: Step | None

    @property
    def sentence(self) -> str:
        """What to do, or why nothing."""
        label = self.name.label
        if self.advice is None:
            if not self.false:
                return f"“{label}” was never painted where it is not"
            if self.false < FEWEST_REMOVED:
                of = self.false + self.right
                return f"“{label}” was wrong too seldom to say anything ({self.false} of {of})"
            return f"no threshold parts right from false masks of “{label}” clearly"
        removed, lost = self.advice.removed, self.advice.lost
        cost = f"lose at most {lost} of {self.right} right ones" if lost else "lose no right one"
        return (
            f"raising model_score_threshold of “{label}” to {self.advice.threshold:g} would remove "
            f"up to {removed} of {self.false} false masks and {cost}"
        )

    @property
    def attribute(self) -> str | None:
        """To paste into the label config."""
        if self.advice is None:
            return None
        value = quoteattr(self.name.label)
        return f'<Label value={value} model_score_threshold="{self.advice.threshold:g}"/>'

    def to_json(self) -> dict[str, Any]:
        return {
            "control": self.name.control,
            "label": self.name.label,
            "right": self.right,
            "false": self.false,
            "steps": [
                {"threshold": one.threshold, "removed": one.removed, "lost": one.lost}
                for one in self.steps
            ],
            "advice": None if self.advice is None else self.advice.threshold,
            "sentence": self.sentence,
            "attribute": self.attribute,
        }


def sweeps(masks: Mapping[Name, Masks]) -> list[Sweep]:
    """One per label that was predicted at all; those with advice first, then by false masks."""
    found = [_sweep(name, one) for name, one in masks.items()]
    return sorted(found, key=lambda one: (one.advice is None, -one.false, one.name))


def _sweep(name: Name, masks: Masks) -> Sweep:
    steps = tuple(
        Step(
            threshold=threshold,
            removed=sum(score <= threshold for score in masks.false),
            lost=sum(score <= threshold for score in masks.right),
        )
        for threshold in STEPS
    )
    best, advice = FEWEST_REMOVED - 1.0, None
    for one in steps:
        worth = one.removed - DEARER * one.lost
        if one.lost <= MOST_LOST * len(masks.right) and worth > best:
            best, advice = worth, one
    return Sweep(
        name=name,
        right=len(masks.right),
        false=len(masks.false),
        steps=steps,
        advice=advice,
    )
