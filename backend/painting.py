"""Segmentations -> what Label Studio stores: one segmentation, written as every control asks."""

import hashlib
import heapq
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt16

from cliper_model import Decision, Segmentation
from cliper_model.stages.boxes import boxes_of

from .errors import CouldNotPredict
from .labelstudio import answers
from .labelstudio.label_config import ConfigLabel, Control
from .labelstudio.regions import FORMATS, RegionControl
from .labelstudio.regions.brush import enlarged
from .labelstudio.regions.pieces import Piece, pieces
from .labelstudio.tasks import Region
from .outcomes import ImageResult, Presence
from .vocabulary import RASTERS, ControlVocabulary

NO_NUMBERS = "the model gave no finite scores for this picture"


@dataclass(frozen=True, kw_only=True)
class Painted:
    """One control's share of a picture, and the numbers it was decided with.

    quality  how good its masks are expected to be, 0 to 1; None where nobody can say
    """

    one: ControlVocabulary
    segmentation: Segmentation
    decision: Decision
    quality: float | None = None

    def presence_needed(self, label: int) -> float:
        """What label number `label` must reach to be there."""
        needed = self.decision.presence_threshold
        return needed[label] if isinstance(needed, tuple) else needed


@dataclass(frozen=True, eq=False)
class Part:
    """One region: a piece of what a label covers, or all of it.

    `area` in pixels of the mask; `number` counts the pieces of a label. `paint` makes the mask at
    the size of all masks: only what is written takes memory of that size.
    """

    label: ConfigLabel
    area: int
    score: float | None
    paint: Callable[[], Bool[np.ndarray, "height width"]]
    number: int = 0


def image_result(
    painted: Sequence[Painted], *, size_hw: tuple[int, int], index: int | None, seed: str
) -> ImageResult:
    """Regions and answers of one picture; `size_hw` is the picture as displayed.

    `index` is its number in a list of pictures. Equal `seed`s give equal region ids. Raises
    CouldNotPredict where the model gave no numbers.
    """
    regions: list[Region] = []
    answered: list[float] = []
    presences: list[Presence] = []
    area = weighted = presence = 0.0
    for each in painted:
        segmentation = each.segmentation
        scores = _scores(segmentation)
        presence = max(presence, float(segmentation.presence.max(initial=0.0)))
        presences += _presences(each)
        if each.one.control.is_answer:
            said = _answers(each, seed=seed)
            answered += (one["score"] for one in said)
            regions += said
            continue
        written = [not each.one.is_taken(label) for label in each.one.sought]
        shares = segmentation.areas * written / math.prod(segmentation.size_hw)
        area += float(shares.sum())
        weighted += float((shares * scores).sum())
        regions += _regions(each, scores, size_hw=size_hw, index=index, seed=seed)
    return ImageResult(
        regions=json.dumps(regions, separators=(",", ":"), allow_nan=False).encode(),
        area=area,
        weighted_score=weighted,
        presence=presence,
        answers=tuple(answered),
        count=len({region["id"] for region in regions}),
        presences=tuple(presences),
        quality=_expected(painted),
    )


def masks(
    each: Painted, *, size_hw: tuple[int, int]
) -> Iterator[tuple[ConfigLabel, Bool[np.ndarray, "height width"]]]:
    """What `image_result` writes of a control, before it is put into a format: label by label in
    the order of the control, the rest last, one mask at a time, as large as the picture displayed.

    Pieces that are not written are left out, and so are labels without any. Raises
    CouldNotPredict where the model gave no numbers.
    """
    for _, together in groupby(parts(each), key=lambda part: part.label.result_name):
        first, *others = together
        mask = first.paint()
        for part in others:
            mask = mask | part.paint()
        yield first.label, mask if mask.shape == size_hw else enlarged(mask, size_hw)


def written_labels(one: ControlVocabulary) -> tuple[ConfigLabel, ...]:
    """Labels that the control may write, in its order, the rest last."""
    labels = one.sought if one.rest is None else (*one.sought, one.rest)
    return tuple(label for label in labels if not one.is_taken(label))


def label_map(each: Painted, *, size_hw: tuple[int, int]) -> UInt16[np.ndarray, "height width"]:
    """What `masks` gives as one map: 0 where nothing is written, else the number of a label in
    `written_labels`, from 1.

    Where masks overlap, the strongest label that is written there; else whichever is.
    """
    one, segmentation = each.one, each.segmentation
    numbers = {label.result_name: n for n, label in enumerate(written_labels(one), start=1)}
    sought = {label.result_name: n for n, label in enumerate(one.sought, start=1)}
    found = np.zeros(size_hw, np.uint16)
    for label, mask in masks(each, size_hw=size_hw):
        number = numbers[label.result_name]
        found[mask & (found == 0)] = number
        if segmentation.layers is not None and label.result_name in sought:
            strongest = segmentation.label_map == sought[label.result_name]
            if strongest.shape != size_hw:
                strongest = enlarged(strongest, size_hw)
            found[mask & strongest] = number
    return found


def _scores(segmentation: Segmentation) -> Float[np.ndarray, " classes"]:
    """Of the regions, 0 to 1. Raises CouldNotPredict."""
    scores = np.clip(segmentation.region_scores, 0.0, 1.0)
    if not (np.isfinite(scores).all() and np.isfinite(segmentation.presence).all()):
        raise CouldNotPredict(NO_NUMBERS)
    return scores


def _expected(painted: Sequence[Painted]) -> float | None:
    """Of all masks of the picture; None where that of any is not known."""
    known = [each.quality for each in painted if not each.one.control.is_answer]
    if not known or any(value is None for value in known):
        return None
    return float(np.mean([value for value in known if value is not None]))


def written_name(control: Control, label: ConfigLabel) -> str:
    """How results name a label; one of a Taxonomy with what it stands inside."""
    if control.kind == "taxonomy":
        return "/".join((*label.path, label.result_name))
    return label.result_name


def _presences(each: Painted) -> Iterator[Presence]:
    """Of every label that this control may write."""
    control = each.one.control
    for number, label in enumerate(each.one.sought):
        if not each.one.is_taken(label):
            value = min(max(float(each.segmentation.presence[number]), 0.0), 1.0)
            yield Presence(control.from_name, written_name(control, label), value)


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


def parts(each: Painted, scores: Float[np.ndarray, " classes"] | None = None) -> list[Part]:
    """A control's regions before they are written, label by label; of too many the largest.

    `scores`: of the labels, where they are known already. Raises CouldNotPredict.
    """
    if scores is None:
        scores = _scores(each.segmentation)
    return _largest(_parts(each, scores), each.one.most_regions)


def _regions(
    each: Painted,
    scores: Float[np.ndarray, " classes"],
    *,
    size_hw: tuple[int, int],
    index: int | None,
    seed: str,
) -> Iterator[Region]:
    """The control's regions. Names are matched by position: the model keeps the order of labels."""
    one = each.one
    for part in parts(each, scores):
        name = "" if part.number == 0 else str(part.number)
        yield from write(
            part.paint(),
            one,
            part.label,
            region_id=_id(seed, one.control.from_name, part.label.result_name, name),
            score=part.score,
            size_hw=size_hw,
            index=index,
        )


def _largest(parts: Iterable[Part], most: int) -> list[Part]:
    """The `most` largest in the order they came; of equal ones the first."""
    kept: list[tuple[int, int, Part]] = []
    for order, part in enumerate(parts):
        entry = (part.area, -order, part)
        if len(kept) < most:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)
    return [part for _, _, part in sorted(kept, key=lambda entry: -entry[1])]


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


def _parts(each: Painted, scores: Float[np.ndarray, " classes"]) -> Iterator[Part]:
    """What is there of every label, whole or in pieces, then the rest where a label asks for it."""
    one, segmentation = each.one, each.segmentation
    areas, pixels = segmentation.areas, math.prod(segmentation.size_hw)
    apart, smallest = one.each("model_instances"), one.each("model_min_area")
    whole = (slice(0, segmentation.size_hw[0]), slice(0, segmentation.size_hw[1]))
    boxes = boxes_of(segmentation.label_map, labels=len(areas))
    for number in map(int, np.flatnonzero(areas)):
        label, score = one.sought[number], round(float(scores[number]), 4)
        if one.is_taken(label):
            continue
        if one.control.kind in RASTERS and not apart[number]:
            mask = partial(segmentation.mask, number)
            yield Part(label, int(areas[number]), score, mask)
        else:
            rows, columns = (boxes[number + 1] if segmentation.layers is None else None) or whole
            yield from _pieces(
                segmentation.mask(number, rows, columns),
                each,
                label,
                corner=(rows.start, columns.start),
                smallest=smallest[number] * pixels,
                score=score,
            )
    if one.rest is not None and not one.is_taken(one.rest):
        rest = segmentation.rest_mask
        if one.control.kind not in RASTERS:
            yield from _pieces(rest, each, one.rest, corner=(0, 0), smallest=0.0, score=None)
        elif rest.any():
            yield Part(one.rest, int(np.count_nonzero(rest)), None, lambda: rest)


def _pieces(
    mask: Bool[np.ndarray, "box_h box_w"],
    each: Painted,
    label: ConfigLabel,
    *,
    corner: tuple[int, int],
    smallest: float,
    score: float | None,
) -> Iterator[Part]:
    """One part per piece of at least `smallest` pixels, the largest first.

    Pieces of a region share sides; what only touches over a corner is a piece of its own here,
    and may be a crumb. `corner`: row and column where the mask begins.
    """
    for number, piece in enumerate(pieces(mask, most=each.one.most_regions)):
        area = int(np.count_nonzero(piece.crop))
        if area >= smallest:
            paint = partial(_placed, piece, corner, each.segmentation.size_hw)
            yield Part(label, area, score, paint, number)


def _placed(
    piece: Piece, corner: tuple[int, int], size_hw: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """A piece alone, at the size of all masks."""
    left, top, right, bottom = piece.box_xyxy
    whole = np.zeros(size_hw, bool)
    whole[corner[0] + top : corner[0] + bottom, corner[1] + left : corner[1] + right] = piece.crop
    return whole


def _id(*parts: Any) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:12]
