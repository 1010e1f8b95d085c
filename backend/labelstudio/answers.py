"""Choices and Taxonomy: what is in the picture as a whole (protocol notes §6)."""

from collections.abc import Sequence

from .label_config import Control
from .tasks import Region


def encode(
    found: Sequence[tuple[str, ...]],
    *,
    control: Control,
    region_id: str,
    score: float | None = None,
) -> list[Region]:
    """One result for all that was found, the likeliest first; none where nothing was.

    `found` are paths of result names, of one name each for Choices. A control that takes one
    choice gets the first.
    """
    if not found:
        return []
    chosen = found if control.several else found[:1]
    value = (
        {"taxonomy": [list(path) for path in chosen]}
        if control.kind == "taxonomy"
        else {"choices": [path[-1] for path in chosen]}
    )
    result: Region = {
        "id": region_id,
        "from_name": control.from_name,
        "to_name": control.to_name,
        "type": control.kind,
        "value": value,
    }
    if score is not None:
        result["score"] = score
    return [result]
