"""Of a task's annotations as Label Studio has them, the one that counts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

ONLY_OF_DRAFTS: Final = "was_postponed"  # a field that annotations lack


def that_counts(annotations: Sequence[Any]) -> Mapping[str, Any] | None:
    """Ground truth, else the one changed last, else the one made last; skipped ones and drafts
    never. None where none counts."""
    return max(filter(_is_submitted, annotations), key=_rank, default=None)


def moment(text: object) -> float | None:
    """`2026-02-01T00:00:00.5Z` -> seconds since 1970; None for what is no date.

    As texts they do not sort: Label Studio leaves out a fraction that is zero.
    """
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _is_submitted(one: object) -> bool:
    return (
        isinstance(one, Mapping)
        and not one.get("was_cancelled")
        and ONLY_OF_DRAFTS not in one
        and isinstance(one.get("result"), list)
    )


def _rank(one: Mapping[str, Any]) -> tuple[bool, float, int]:
    changed = moment(one.get("updated_at")) or moment(one.get("created_at")) or 0.0
    number = one.get("id")
    return bool(one.get("ground_truth")), changed, number if isinstance(number, int) else 0
