"""What a project's corrections taught so far, as the store tells it: versions and verdicts.

Only read, and forgiving: a report is made whatever the store holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MOST_SHOWN: Final = 10  # versions, and the active one
ACTIVE: Final = "active"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What held-out tasks said of one control's lesson; mIoU in points, None where not measured."""

    control: str
    better: bool
    reason: str
    tasks: int
    before: float | None = None
    after: float | None = None
    noise: float | None = None
    per_label: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "control": self.control,
            "better": self.better,
            "reason": self.reason,
            "tasks": self.tasks,
            "before": self.before,
            "after": self.after,
            "noise": self.noise,
            "per_label": {name: list(pair) for name, pair in self.per_label.items()},
        }


@dataclass(frozen=True, kw_only=True)
class LearntVersion:
    """One outcome of learning.

    digest  None: nothing came out that would be used
    when    seconds since 1970
    state   active, candidate or retired
    """

    digest: str | None
    tasks: int
    when: float | None
    state: str
    judgements: tuple[Judgement, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "tasks": self.tasks,
            "when": self.when,
            "state": self.state,
            "verdicts": [one.to_json() for one in self.judgements],
        }


def versions_in(told: object) -> tuple[LearntVersion, ...]:
    """Of the record of versions, newest first; what cannot be read is left out."""
    listed = told.get("versions") if isinstance(told, Mapping) else told
    if not isinstance(listed, list):
        return ()
    found = [_version(one) for one in listed if isinstance(one, Mapping)]
    return tuple(
        one for place, one in enumerate(found) if place < MOST_SHOWN or one.state == ACTIVE
    )


def _version(told: Mapping[str, Any]) -> LearntVersion:
    verdicts = told.get("verdicts")
    return LearntVersion(
        digest=str(told["digest"]) if told.get("digest") else None,
        tasks=int(_figure(told.get("tasks")) or 0),
        when=_figure(told.get("when")),
        state=str(told.get("state") or "candidate"),
        judgements=tuple(
            _judgement(str(control), one)
            for control, one in sorted((verdicts if isinstance(verdicts, Mapping) else {}).items())
            if isinstance(one, Mapping)
        ),
    )


def _judgement(control: str, told: Mapping[str, Any]) -> Judgement:
    labels = told.get("per_label")
    return Judgement(
        control=control,
        better=bool(told.get("better")),
        reason=str(told.get("reason") or "no reason was kept"),
        tasks=int(_figure(told.get("tasks")) or 0),
        before=_figure(told.get("before")),
        after=_figure(told.get("after")),
        noise=_figure(told.get("noise")),
        per_label={
            str(name): (float(pair[0]), float(pair[1]))
            for name, pair in (labels if isinstance(labels, Mapping) else {}).items()
            if isinstance(pair, list | tuple)
            and len(pair) == 2
            and all(_figure(value) is not None for value in pair)
        },
    )


def _figure(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return float(value)
