"""What becomes of a task: predicted, or not this time. Never mixed.

Predicted       masks, or none because nothing was found; Label Studio stores it
NotPredicted    it could not be done this time; nothing is stored, it is asked again
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self


class Presence(NamedTuple):
    """How likely a label is in a picture, found or not: 0 to 1."""

    control: str
    label: str
    value: float


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What was found in one picture: regions as JSON, and what the task's score needs.

    regions         a JSON list
    count           of the regions
    area            share of the picture under regions
    weighted_score  sum of area times score over the regions
    presence        highest over the labels
    answers         scores of what was answered about the picture as a whole
    presences       of every label that was looked for
    quality         how good the masks are expected to be, 0 to 1; None where nobody can say
    """

    regions: bytes
    area: float
    weighted_score: float
    presence: float
    answers: tuple[float, ...] = ()
    count: int = 0
    presences: tuple[Presence, ...] = ()
    quality: float | None = None

    @property
    def nbytes(self) -> int:
        return len(self.regions) + 200 + 100 * len(self.presences)

    def to_bytes(self) -> bytes:
        """A line of JSON, and the regions as they are, with a checksum: half of them would make
        the answer to a whole request unreadable."""
        plain = {name: value for name, value in vars(self).items() if name != "regions"}
        plain |= {"check": zlib.crc32(self.regions)}
        return b"%b\n%b" % (json.dumps(plain).encode(), self.regions)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ValueError, TypeError and KeyError for what was not written here, or only half."""
        header, _, regions = data.partition(b"\n")
        plain = json.loads(header)
        if plain.pop("check") != zlib.crc32(regions):
            raise ValueError("the regions are not what they were")
        plain["answers"] = tuple(plain["answers"])
        plain["presences"] = tuple(Presence(*one) for one in plain.get("presences", ()))
        return cls(**plain, regions=regions)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """An answer Label Studio stores; without regions it means: nothing found.

    `presences` are for us, not for Label Studio: one tuple per picture, as `regions`.
    """

    regions: tuple[bytes, ...]  # JSON lists
    score: float | None
    model_version: str
    count: int = 0  # of the regions
    presences: tuple[tuple[Presence, ...], ...] = ()

    def to_json(self) -> str:
        inside = b",".join(part[1:-1] for part in self.regions if part != b"[]")
        rest = json.dumps({"score": self.score, "model_version": self.model_version})
        return f'{{"result":[{inside.decode()}],{rest[1:]}'


@dataclass(frozen=True, kw_only=True)
class NotPredicted:
    """No answer this time. Without `result` Label Studio stores nothing and asks again."""

    reason: str
    later: bool = False  # only for want of time
    refused: bool = False  # asking again does not help; the config must change
    passing: bool = False  # a server did not answer: asking again may help
    kind: str = ""  # of the reason, a word per kind

    def to_json(self) -> str:
        return json.dumps({"error": self.reason})


Outcome = Predicted | NotPredicted


def combined(results: Sequence[ImageResult], version: str) -> Predicted:
    """The expected quality where corrections taught it. Else the area-weighted mean of the region
    scores; without a region the mean of the answers'; with neither 1 - highest presence."""
    area = sum(result.area for result in results)
    answers = [score for result in results for score in result.answers]
    expected = [result.quality for result in results if result.quality is not None]
    if results and len(expected) == len(results):
        score = sum(expected) / len(expected)
    elif area > 0:
        score = sum(result.weighted_score for result in results) / area
    elif answers:
        score = sum(answers) / len(answers)
    else:
        score = 1.0 - max((result.presence for result in results), default=0.0)
    return Predicted(
        regions=tuple(result.regions for result in results),
        score=round(min(max(score, 0.0), 1.0), 4),
        model_version=version,
        count=sum(result.count for result in results),
        presences=tuple(result.presences for result in results),
    )
