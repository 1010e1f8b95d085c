"""An annotator's prompts -> which label, where, and which control gets the answer.

The editor sends every prompt of the same tool and label that was not accepted yet, the newest
last (protocol notes §1.5).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool

from cliper_model import Decision, Scores
from cliper_model.stages.select import select

from .labelstudio.tasks import Region
from .vocabulary import ControlVocabulary

OUTPUTS: Final = (
    "brushlabels", "brush", "bitmasklabels", "bitmask", "polygonlabels", "polygon",
    "vectorlabels", "vector",
)  # fmt: skip
LONGEST_SIDE: Final = 1_000_000  # pixels of a picture an annotator has seen
MOST_PROMPTS: Final = 100  # the newest; each costs a pass over the picture
Share = tuple[float, float]  # x, y in [0, 1] of the displayed picture


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What one label is asked for, in shares of the displayed picture.

    boxes are x, y, x, y; `index` is the picture's number in a list of pictures.
    """

    label: str
    to_name: str
    positive: tuple[Share, ...] = ()
    negative: tuple[Share, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    index: int | None = None


def read(context: Mapping[str, Any]) -> Prompt | None:
    """The prompts in a request's `context`, of the newest one's label; None where there are none.

    Items that are no key point or rectangle with a label, or have no finite numbers, are passed
    over: an annotator's click must not fail for a neighbour of another kind.
    """
    given = context.get("result")
    newest = given[-MOST_PROMPTS:] if isinstance(given, list) else []
    items = [one for one in newest if isinstance(one, dict)]
    known = [one for one in items if _label(one) is not None and _shares(one) is not None]
    if not known:
        return None
    last = known[-1]
    label, to_name, index = _label(last), str(last.get("to_name")), last.get("item_index")
    positive, negative, boxes = [], [], []
    for item in known:
        if (_label(item), str(item.get("to_name")), item.get("item_index")) != (
            label,
            to_name,
            index,
        ):
            continue
        shares = _shares(item)
        if shares is None:
            continue
        left, top, width, height = shares
        if _is_box(item):
            boxes.append((left, top, left + width, top + height))
        elif item.get("is_positive", True) in (False, 0, "0", "false"):
            negative.append((left, top))
        else:
            positive.append((left, top))
    return Prompt(
        label=str(label),
        to_name=to_name,
        positive=tuple(dict.fromkeys(positive)),  # two items of one id are one prompt
        negative=tuple(dict.fromkeys(negative)),
        boxes=tuple(dict.fromkeys(boxes)),
        index=index if isinstance(index, int) else None,
    )


def target(
    prompt: Prompt, wanted: Sequence[ControlVocabulary]
) -> tuple[ControlVocabulary, int] | None:
    """The first mask or outline control with the prompt's label on its picture, and the label's
    number among the sought; None where no control can hold the answer."""
    for one in wanted:
        if one.control.kind not in OUTPUTS or one.control.to_name != prompt.to_name:
            continue
        for number, label in enumerate(one.sought):
            if prompt.label in (label.result_name, label.name):
                return one, number
    return None


def selected(
    scores: Scores, label: int, prompt: Prompt, decision: Decision
) -> Bool[np.ndarray, "height width"]:
    """What the prompt selects of label number `label`, at the scores' own size; boxes add up."""
    height, width = scores.size_hw

    def points(shares: Sequence[Share]) -> list[tuple[float, float]]:
        return [(x * width, y * height) for x, y in shares]

    boxes = [(x * width, y * height, x2 * width, y2 * height) for x, y, x2, y2 in prompt.boxes]
    masks = [
        select(
            scores,
            label,
            positive=points(prompt.positive),
            negative=points(prompt.negative),
            box_xyxy=box,
            decision=decision,
        )
        for box in (boxes or (None,))
    ]
    return np.logical_or.reduce(masks)


def _label(item: Region) -> str | None:
    value = item.get("value")
    if not isinstance(value, dict):
        return None
    names = value.get(str(item.get("type"))) or value.get("labels")
    return str(names[0]) if isinstance(names, list) and names else None


def _is_box(item: Region) -> bool:
    return "height" in item["value"]


def _shares(item: Region) -> tuple[float, float, float, float] | None:
    """x, y, width, height as shares; a key point has no extent. None for other forms.

    A tool whose labels are in a Labels tag sends two items of one id and place. Of a turned
    rectangle the box around it counts.
    """
    if not str(item.get("type")).startswith(("keypoint", "rectangle", "labels")):
        return None
    value = item["value"]
    names = ("x", "y", "width", "height") if _is_box(item) else ("x", "y")
    try:
        numbers = [float(value[name]) / 100 for name in names]
        degrees = float(value.get("rotation") or 0.0)
    except (KeyError, TypeError, ValueError, OverflowError):  # of whole numbers beyond all floats
        return None
    if not all(-10.0 <= number <= 10.0 for number in numbers) or not math.isfinite(degrees):
        return None  # NaN fails too
    left, top, width, height = (*numbers, 0.0, 0.0)[:4]
    if _is_box(item):
        if width <= 0 or height <= 0:
            return None
        if degrees:
            return _box_around(left, top, width, height, degrees, aspect=_aspect(item))
    return left, top, width, height


def _aspect(item: Region) -> float:
    """Width over height of the displayed picture, as far as the item says."""
    width, height = item.get("original_width"), item.get("original_height")
    if not isinstance(width, int | float) or not isinstance(height, int | float):
        return 1.0
    return width / height if 0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE else 1.0


def _box_around(
    left: float, top: float, width: float, height: float, degrees: float, *, aspect: float
) -> tuple[float, float, float, float]:
    """The upright box around a rectangle that was turned about its first corner."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [
        (left + x * cosine - y * sine / aspect, top + x * sine * aspect + y * cosine)
        for x, y in ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
    ]
    across, down = [x for x, _ in corners], [y for _, y in corners]
    return min(across), min(down), max(across) - min(across), max(down) - min(down)
