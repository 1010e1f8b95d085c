"""What a check found: a state, one sentence, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"
LONGEST = 300  # characters of what somebody else's program said


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report.

    check    name of the check; filled in by whoever runs it
    state    ok, warn, fail or skip
    finding  what is so
    mend     what to do, or ""
    details  facts for programs, plain JSON values
    lines    shown below the line, for people
    """

    state: str
    finding: str
    mend: str = ""
    check: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def of(self, check: str) -> Self:
        return replace(self, check=check)

    def __str__(self) -> str:
        mend = f" -> {self.mend}" if self.mend else ""
        first = f"{self.state:<4}  {self.check}: {self.finding}{mend}"
        return "\n".join((first, *(f"      {line}" for line in self.lines)))

    def to_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "state": self.state,
            "finding": self.finding,
            "mend": self.mend or None,
            **self.details,
        }


def ok(finding: str, mend: str = "", *, lines: tuple[str, ...] = (), **details: Any) -> Finding:
    """Nothing to do; `mend` may say how to go on."""
    return Finding(state=OK, finding=finding, mend=mend, details=details, lines=lines)


def warn(finding: str, mend: str, *, lines: tuple[str, ...] = (), **details: Any) -> Finding:
    """It works, but not as somebody would expect."""
    return Finding(state=WARN, finding=finding, mend=mend, details=details, lines=lines)


def fail(finding: str, mend: str, *, lines: tuple[str, ...] = (), **details: Any) -> Finding:
    """It does not work."""
    return Finding(state=FAIL, finding=finding, mend=mend, details=details, lines=lines)


def skip(reason: str) -> Finding:
    """Nobody can say, because of something else."""
    return Finding(state=SKIP, finding=reason)


def brief(said: str) -> str:
    """What another program said, fit for one line."""
    line = " ".join(said.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
