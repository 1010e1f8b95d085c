"""What every label claims at every place, and how close the decision there was: only for eyes.

On the model's own grid; masks are decided on the picture's, from the same numbers.
"""

import cv2
import numpy as np
from jaxtyping import Float

from cliper_model import Decision, Scores
from cliper_model.stages.decide import likeliest_rows, row_probabilities, scale_to_strength

LONGEST = 160  # cells along the longer side; finer maps are shown coarser


def of_labels(
    scores: Scores, *, refined: bool = True
) -> tuple[Float[np.ndarray, "classes h w"], Float[np.ndarray, "h w"] | None]:
    """Each label's claim, the largest of a map being its published score; and what the likeliest
    background word claims, for methods whose words for it compete at every place."""
    if scores.rows is not None:
        chances = row_probabilities(_small(scores.rows.values), scale=scores.rows.scale)
        return likeliest_rows(chances, row_class=scores.rows.row_class, classes=len(scores.labels))
    maps = scores.maps if refined or scores.coarse is None else scores.coarse
    largest = maps.max(axis=(1, 2))
    scaled = scale_to_strength(maps, largest=largest, strength=scores.strength)
    return _small(scaled), None


def doubt(
    claims: Float[np.ndarray, "classes h w"],
    behind: Float[np.ndarray, "h w"] | None,
    scores: Scores,
    decision: Decision,
) -> Float[np.ndarray, "h w"]:
    """1 - |a - b| / (a + b) of the two strongest claims: 0 is clear, 1 a tie.

    Labels that are not there claim nothing; the background claims what the decision's rule gives
    it.
    """
    needed = decision.per_label("presence_threshold", len(scores.labels))
    present = claims[scores.presence > needed]
    best = present.max(axis=0) if len(present) else np.zeros(claims.shape[1:], np.float32)
    rivals = list(present)
    match decision.background:
        case "threshold":
            rivals.append(np.full(best.shape, decision.background_threshold, np.float32))
        case "quadratic":
            rivals.append((1 - np.clip(best, 0.0, 1.0)) ** 2)
        case _:
            pass
    if behind is not None and decision.background != "none":
        rivals.append(behind)
    if len(rivals) < 2:
        return np.zeros(claims.shape[1:], np.float32)
    first, second = np.sort(np.maximum(np.stack(rivals), 0.0), axis=0)[:-3:-1]
    found: Float[np.ndarray, "h w"] = 1 - (first - second) / np.maximum(first + second, 1e-9)
    return found.astype(np.float32)


def _small(maps: Float[np.ndarray, "some h w"]) -> Float[np.ndarray, "some h2 w2"]:
    height, width = maps.shape[1:]
    share = LONGEST / max(height, width)
    if share >= 1:
        return maps.astype(np.float32)
    size_wh = (max(1, round(width * share)), max(1, round(height * share)))
    shrunk = [cv2.resize(one, size_wh, interpolation=cv2.INTER_AREA) for one in maps]
    return np.stack(shrunk).astype(np.float32)
