"""How much time predictions saved, and what that rests on. Pure.

    saved = what pictures take by hand - what people spent on them with a prediction

Both are measured where the editor counted seconds (`lead_time`) on enough pictures, as medians: a
tab left open over night says nothing. What is not measured is assumed, and what somebody states is
taken instead of either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from .comparing import KINDS, REDONE, TOUCHED, UNTOUCHED
from .tally import Line

FEWEST: Final = 5  # pictures with seconds, before their median counts
PER_MASK: Final = 30.0  # seconds to paint a mask; COCO took 79 (Lin et al. 2014, 22 h per 1,000)
PER_TOUCH: Final = 10.0  # seconds to mend a mask
PER_LOOK: Final = 3.0  # seconds to look at a picture

GIVEN: Final = "given"
MEASURED: Final = "measured"
ASSUMED: Final = "assumed"


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Seconds that somebody states; None leaves them to measurement, else to the defaults."""

    per_mask: float | None = None
    per_touch: float | None = None
    per_look: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a picture takes: `picture` seconds, and `mask` seconds for each of its masks.

    words  where it is from, as part of a sentence
    """

    picture: float
    mask: float
    basis: str
    words: str

    def of(self, masks: int) -> float:
        return self.picture + self.mask * masks

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds_per_picture": round(self.picture, 2),
            "seconds_per_mask": round(self.mask, 2),
            "basis": self.basis,
        }


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Over all corrected pictures. Seconds; `by_hand` and `spent` are sums."""

    pictures: int
    kinds: dict[str, int]
    by_hand: float
    spent: float
    hand: Cost
    costs: dict[str, Cost]

    @property
    def seconds(self) -> float:
        """Saved; below 0 where predictions cost more than they brought."""
        return self.by_hand - self.spent

    def share(self, kind: str) -> float:
        return self.kinds[kind] / self.pictures if self.pictures else 0.0

    @property
    def assumption(self) -> str:
        """What it rests on, in one sentence."""
        return f"Assumption: by hand a picture takes {self.hand.words}."

    @property
    def details(self) -> str:
        """What people spent, kind by kind."""
        told = "; ".join(f"one {WORDS[kind]} {self.costs[kind].words}" for kind in KINDS)
        return f"With a prediction: {told}."

    def to_json(self) -> dict[str, Any]:
        return {
            "corrected": self.pictures,
            **self.kinds,
            "shares": {kind: round(self.share(kind), 4) for kind in KINDS},
            "seconds_saved": round(self.seconds, 1),
            "seconds_by_hand": round(self.by_hand, 1),
            "seconds_spent": round(self.spent, 1),
            "by_hand": self.hand.to_json(),
            "costs": {kind: self.costs[kind].to_json() for kind in KINDS},
            "assumption": f"{self.assumption} {self.details}",
        }


WORDS: Final = {
    UNTOUCHED: "taken as it was",
    TOUCHED: "touched up",
    REDONE: "redone",
}


def saving(lines: Sequence[Line], unaided: Sequence[float], stated: Stated) -> Saving:
    """Of lines that people corrected; `unaided` are seconds of pictures without any prediction."""
    seconds = {
        kind: [one.seconds for one in lines if one.kind == kind and one.seconds is not None]
        for kind in KINDS
    }
    hand = _by_hand(unaided, seconds[REDONE], stated)
    costs = {
        UNTOUCHED: _untouched(seconds[UNTOUCHED], stated),
        TOUCHED: _touched(seconds[TOUCHED], stated),
        REDONE: _redone(seconds[REDONE], hand, stated),
    }
    by_hand = sum(hand.of(one.masks) for one in lines)
    spent = sum(
        costs[one.kind].of(one.changed if one.kind == TOUCHED else one.masks) for one in lines
    )
    kinds = {kind: sum(one.kind == kind for one in lines) for kind in KINDS}
    return Saving(
        pictures=len(lines), kinds=kinds, by_hand=by_hand, spent=spent, hand=hand, costs=costs
    )


def _by_hand(unaided: Sequence[float], redone: Sequence[float], stated: Stated) -> Cost:
    if stated.per_mask is not None:
        return _per_mask(stated.per_mask, stated, GIVEN, "as stated")
    if len(unaided) >= FEWEST:
        return _measured(unaided, "pictures without a prediction")
    if len(redone) >= FEWEST:
        return _measured(redone, "redone pictures")
    return _per_mask(PER_MASK, stated, ASSUMED, "assumed")


def _per_mask(seconds: float, stated: Stated, basis: str, word: str) -> Cost:
    look = PER_LOOK if stated.per_look is None else stated.per_look
    words = f"{look:g} s and {seconds:g} s per mask ({word})"
    return Cost(picture=look, mask=seconds, basis=basis, words=words)


def _measured(seconds: Sequence[float], of: str) -> Cost:
    middle = float(median(seconds))
    words = f"{middle:.0f} s (measured, median of {len(seconds)} {of})"
    return Cost(picture=middle, mask=0.0, basis=MEASURED, words=words)


def _untouched(seconds: Sequence[float], stated: Stated) -> Cost:
    if stated.per_look is not None:
        words = f"{stated.per_look:g} s (as stated)"
        return Cost(picture=stated.per_look, mask=0.0, basis=GIVEN, words=words)
    if len(seconds) >= FEWEST:
        return _measured(seconds, "pictures")
    return Cost(picture=PER_LOOK, mask=0.0, basis=ASSUMED, words=f"{PER_LOOK:g} s (assumed)")


def _touched(seconds: Sequence[float], stated: Stated) -> Cost:
    look = PER_LOOK if stated.per_look is None else stated.per_look
    if stated.per_touch is None and len(seconds) >= FEWEST:
        return _measured(seconds, "pictures")
    touch = PER_TOUCH if stated.per_touch is None else stated.per_touch
    basis, word = (ASSUMED, "assumed") if stated.per_touch is None else (GIVEN, "as stated")
    words = f"{look:g} s and {touch:g} s per changed mask ({word})"
    return Cost(picture=look, mask=touch, basis=basis, words=words)


def _redone(seconds: Sequence[float], hand: Cost, stated: Stated) -> Cost:
    """As by hand and a look more, where nobody counted: what was wrong had to be taken away."""
    if stated.per_mask is None and len(seconds) >= FEWEST:
        return _measured(seconds, "pictures")
    look = PER_LOOK if stated.per_look is None else stated.per_look
    words = f"as long as by hand and {look:g} s more"
    return Cost(picture=hand.picture + look, mask=hand.mask, basis=hand.basis, words=words)
