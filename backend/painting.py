"""Segmentations -> what Label Studio stores: one segmentation, written as every control asks."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from cliper_model import Decision, Segmentation

from .errors import CouldNotPredict
from .labelstudio import answers
from .labelstudio.label_config import ConfigLabel
from .labelstudio.regions import FORMATS, RegionControl
from .labelstudio.regions.pieces import pieces
from .labelstudio.tasks import Region
from .outcomes import ImageResult
from .vocabulary import ControlVocabulary

WHOLE = frozenset({"brushlabels", "brush", "bitmasklabels", "bitmask"})
"""Types whose one region holds everything a label covers; all others are piece by piece."""


@dataclass(frozen=True, kw_only=True)
class Painted:
    """One control's share of a picture, and the numbers it was decided with."""

    one: ControlVocabulary
    segmentation: Segmentation
    decision: Decision

    def presence_needed(self, label: int) -> float:
        """What label number `label` must reach to be there."""
        needed = self.decision.presence_threshold
        return needed[label] if isinstance(needed, tuple) else needed


@dataclass(frozen=True, eq=False)
class _Part:
    """One region to be written; `area` in pixels of the mask."""

    label: ConfigLabel
    mask: Bool[np.ndarray, "height width"]
    area: int
    score: float | None
    number: int


def image_result(
    painted: Sequence[Painted], *, size_hw: tuple[int, int], index: int | None, seed: str
) -> ImageResult:
    """Regions and answers of one picture; `size_hw` is the picture as displayed.

    `index` is its number in a list of pictures. Equal `seed`s give equal region ids. Raises
    CouldNotPredict where the model gave no numbers.
    """
    regions: list[Region] = []
    area = weighted = presence = 0.0
    for each in painted:
        segmentation = each.segmentation
        shares = segmentation.areas / math.prod(segmentation.size_hw)
        scores = np.clip(segmentation.region_scores, 0.0, 1.0)
        if not (np.isfinite(scores).all() and np.isfinite(segmentation.presence).all()):
            raise CouldNotPredict("the model gave no finite scores for this picture")
        presence = max(presence, float(segmentation.presence.max(initial=0.0)))
        if each.one.control.is_answer:
            regions += _answers(each, seed=seed)
            continue
        area += float(shares.sum())
        weighted += float((shares * scores).sum())
        regions += _regions(each, scores, size_hw=size_hw, index=index, seed=seed)
    return ImageResult(
        regions=json.dumps(regions, separators=(",", ":"), allow_nan=False).encode(),
        area=area,
        weighted_score=weighted,
        presence=presence,
    )


def _answers(each: Painted, *, seed: str) -> list[Region]:
    """What is in the picture as a whole, the likeliest first."""
    one, presence = each.one, each.segmentation.presence
    found = [
        (float(presence[index]), label)
        for index, label in enumerate(one.sought)
        if presence[index] > each.presence_needed(index)
    ]
    found.sort(key=lambda pair: -pair[0])
    return answers.encode(
        [(*label.path, label.result_name) for _, label in found],
        control=one.control,
        region_id=_id(seed, one.control.from_name, ""),
        score=round(min(max(found[0][0], 0.0), 1.0), 4) if found else None,
    )


def _regions(
    each: Painted,
    scores: Float[np.ndarray, " classes"],
    *,
    size_hw: tuple[int, int],
    index: int | None,
    seed: str,
) -> Iterator[Region]:
    """The control's regions, label by label; of too many the largest.

    Names are matched by position: the model keeps the order of the labels.
    """
    one = each.one
    parts = list(_parts(each, scores))
    if len(parts) > one.most_regions:
        kept = sorted(parts, key=lambda part: -part.area)[: one.most_regions]
        parts = [part for part in parts if part in kept]
    for part in parts:
        name = "" if part.number == 0 else str(part.number)
        yield from write(
            part.mask,
            one,
            part.label,
            region_id=_id(seed, one.control.from_name, part.label.result_name, name),
            score=part.score,
            size_hw=size_hw,
            index=index,
        )


def write(
    mask: Bool[np.ndarray, "height width"],
    one: ControlVocabulary,
    label: ConfigLabel,
    *,
    region_id: str,
    score: float | None,
    size_hw: tuple[int, int],
    index: int | None,
) -> list[Region]:
    """One mask as the control's results; none where it is empty."""
    control = one.control
    told = RegionControl(
        from_name=control.from_name,
        to_name=control.to_name,
        kind=control.kind,
        label=label.result_name,
        labels_name=control.labels_name,
        region_id=region_id,
        score=score,
        size_hw=size_hw,
        item_index=index,
    )
    return FORMATS[control.kind].encode(mask, told)


def _parts(each: Painted, scores: Float[np.ndarray, " classes"]) -> Iterator[_Part]:
    """What is there of every label, whole or in pieces, then the rest where a label asks for it."""
    one, segmentation = each.one, each.segmentation
    apart = one.each("model_instances")
    for number in map(int, np.flatnonzero(segmentation.areas)):
        label = one.sought[number]
        if not label.taken:
            score = round(float(scores[number]), 4)
            yield from _split(segmentation.mask(number), one, label, apart[number], score)
    if one.rest is not None and not one.rest.taken:
        yield from _split(segmentation.rest_mask, one, one.rest, False, None)


def _split(
    mask: Bool[np.ndarray, "height width"],
    one: ControlVocabulary,
    label: ConfigLabel,
    apart: bool,
    score: float | None,
) -> Iterator[_Part]:
    if not mask.any():
        return
    if one.control.kind in WHOLE and not apart:
        yield _Part(label, mask, int(mask.sum()), score, 0)
        return
    for number, piece in enumerate(pieces(mask, most=one.most_regions)):
        left, top, right, bottom = piece.box_xyxy
        alone = np.zeros_like(mask)
        alone[top:bottom, left:right] = piece.crop
        yield _Part(label, alone, int(piece.crop.sum()), score, number)


def _id(*parts: Any) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:12]
