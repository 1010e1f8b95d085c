"""Class maps or row logits -> label map: a slider costs no network.

In numpy; where a card made the maps, pixels are labelled there, with the same result to the bit.

Source: cliper §9; proxyclip §5 for row logits; cliptrase §4 for the vote of clusters.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from ..segmenter import Decision, RowLogits, Scores, Segmentation
from .bilinear import between, taps
from .contenders import Contenders
from .on_card import OnCard
from .tidy import tidy

logger = logging.getLogger(__name__)

OVERLAP_SHARE = 0.5  # of the likeliest label's probability
BLOCK_VALUES = 8_000_000  # values held at once while upsampling: 32 MB of float32


def upsampled_rows(
    maps: Float[np.ndarray, "classes h w"], *, size_hw: tuple[int, int]
) -> Iterator[tuple[slice, Float[np.ndarray, "classes rows width"]]]:
    """Bilinear upsampling (half-pixel centres, no antialias), a block of image rows at a time."""
    height, width = size_hw
    left, right, across = taps(maps.shape[2], width)
    upper, lower, down = taps(maps.shape[1], height)
    for rows in _row_blocks(maps, size_hw):
        first = int(upper[rows].min())
        near = maps[:, first : int(lower[rows].max()) + 1]
        wide = between(near, left, right, across, axis=2)
        over, under = upper[rows] - first, lower[rows] - first
        yield rows, between(wide, over, under, down[rows, None], axis=1)


def _row_blocks(maps: Float[np.ndarray, "classes h w"], size_hw: tuple[int, int]) -> list[slice]:
    """Image rows that are enlarged at once."""
    height, width = size_hw
    source_rows = max(1.0, maps.shape[1] / height)  # per image row, where maps are the finer
    step = max(1, int(BLOCK_VALUES / (maps.shape[0] * width * source_rows)))
    return [slice(start, min(start + step, height)) for start in range(0, height, step)]


def row_probabilities(
    logits: Float[np.ndarray, "rows *place"], *, scale: float
) -> Float[np.ndarray, "rows *place"]:
    """Softmax of `scale` times the logits over all text rows."""
    shifted = np.exp(scale * (logits - logits.max(axis=0, keepdims=True)))
    return shifted / shifted.sum(axis=0, keepdims=True)


def likeliest_rows(
    values: Float[np.ndarray, "rows *place"], *, row_class: Sequence[int], classes: int
) -> tuple[Float[np.ndarray, "classes *place"], Float[np.ndarray, "*place"] | None]:
    """Largest row of each class, and of the background (class -1) or None without such rows."""
    owner = np.asarray(row_class)
    behind = values[owner < 0].max(axis=0) if (owner < 0).any() else None
    if list(owner[:classes]) == list(range(classes)) and (owner[classes:] < 0).all():
        return values[:classes], behind
    return np.stack([values[owner == label].max(axis=0) for label in range(classes)]), behind


PixelBlock = tuple[
    slice, Float[np.ndarray, "classes rows width"], Float[np.ndarray, "rows width"] | None
]


def pixel_scores(scores: Scores) -> Iterator[PixelBlock]:
    """Class values at every pixel, a block of image rows at a time, and the background's."""
    if scores.rows is None:
        for rows, block in upsampled_rows(scores.maps, size_hw=scores.size_hw):
            yield rows, block, None
        return
    given: RowLogits = scores.rows
    for rows, block in upsampled_rows(given.values, size_hw=scores.size_hw):
        likely, behind = likeliest_rows(
            row_probabilities(block, scale=given.scale),
            row_class=given.row_class,
            classes=len(scores.labels),
        )
        yield rows, likely, behind


def extremes(
    blocks: Iterable[Float[np.ndarray, "classes rows width"]],
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """Smallest and largest value of every class over all pixels."""
    lows, highs = zip(
        *((block.min(axis=(1, 2)), block.max(axis=(1, 2))) for block in blocks), strict=True
    )
    return np.min(lows, axis=0), np.max(highs, axis=0)


def scale_to_strength(
    block: Float[np.ndarray, "classes rows width"],
    *,
    largest: Float[np.ndarray, " classes"],
    strength: Float[np.ndarray, " classes"],
) -> Float[np.ndarray, "classes rows width"]:
    """Each map's maximum becomes the class's published score (specification §9 step 3)."""
    return block * strength_factor(strength, largest=largest)[:, None, None]


def strength_factor(
    strength: Float[np.ndarray, " classes"], *, largest: Float[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    """What `scale_to_strength` multiplies by."""
    return strength / (largest + np.float32(1e-5))


def label_block(
    scaled: Float[np.ndarray, "classes rows width"],
    *,
    allowed: Bool[np.ndarray, "classes rows width"] | Bool[np.ndarray, "classes 1 1"],
    background: str,
    background_threshold: float,
    behind: Float[np.ndarray, "rows width"] | None = None,
) -> Int[np.ndarray, "rows width"]:
    """0 for background, else index + 1 of the winning class (specification §9 step 4).

    `behind` is what the likeliest background word claims; a label must beat it, unless every
    pixel has to get a label ("none").
    """
    if background == "none":
        contest = np.where(allowed, scaled, -np.inf)
        winner = contest.argmax(axis=0)
        return np.where(np.isfinite(contest.max(axis=0)), winner + 1, 0).astype(np.int32)
    contest = np.where(allowed, scaled, np.float32(0.0))
    if background == "threshold":
        contest[contest < background_threshold] = 0.0
        best = contest.max(axis=0)
        won = best > 0 if behind is None else (best > 0) & (best >= behind)
        return np.where(won, contest.argmax(axis=0) + 1, 0).astype(np.int32)
    best = contest.max(axis=0)
    beaten = (1 - best) ** 2 >= best  # ties go to the background: it stands first
    if behind is not None:
        beaten |= behind > best
    return np.where(beaten, 0, contest.argmax(axis=0) + 1).astype(np.int32)


def own_claims(
    scaled: Float[np.ndarray, "classes rows width"],
    *,
    threshold: float,
    behind: Float[np.ndarray, "rows width"] | None,
    compete: bool,
) -> Bool[np.ndarray, "classes rows width"]:
    """Pixels every label claims for itself, so that masks may overlap.

    Probabilities of a softmax (`compete`) say nothing by themselves: such a label must also
    be at least half as likely as the likeliest one there, background words included.
    """
    claims: Bool[np.ndarray, "classes rows width"] = scaled >= threshold
    if compete:
        best = scaled.max(axis=0) if behind is None else np.maximum(scaled.max(axis=0), behind)
        claims &= scaled >= OVERLAP_SHARE * best
    return claims


def stretch(
    scaled: Float[np.ndarray, "classes rows width"],
    *,
    smallest: Float[np.ndarray, " classes"],
    largest: Float[np.ndarray, " classes"],
) -> Float[np.ndarray, "classes rows width"]:
    """Per class: subtract the minimum, divide by what is then the maximum (`is_normalize`)."""
    return (scaled - smallest[:, None, None]) / stretch_span(smallest, largest)[:, None, None]


def stretch_span(
    smallest: Float[np.ndarray, " classes"], largest: Float[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    """What `stretch` divides by."""
    return (largest - smallest) + np.float32(1e-6)


def decide(scores: Scores, decision: Decision) -> Segmentation:
    """Masks at image size. A label must pass its presence threshold; a pixel the mask rule.

    Runs a second time without labels whose whole area stays below `decision.min_area`, so
    their pixels go to the next best instead of leaving holes. Tidied at the end, where the
    decision asks for it.
    """
    if not decision.refined and scores.coarse is not None:
        scores = replace(scores, maps=scores.coarse)
    count = len(scores.labels)
    thresholds = decision.per_label("presence_threshold", count).astype(np.float32)
    present = scores.presence > thresholds
    segmentation = _decide_among(scores, decision, present)
    smallest_area = decision.per_label("min_area", count) * scores.size_hw[0] * scores.size_hw[1]
    if smallest_area.any():
        areas = segmentation.areas
        specks = (areas > 0) & (areas < smallest_area)
        if specks.any():
            segmentation = _decide_among(scores, decision, present & ~specks)
    return tidy(
        segmentation,
        min_piece=tuple(decision.per_label("min_piece", count)),
        largest_hole=decision.largest_hole,
        smooth=decision.smooth,
    )


def _decide_among(
    scores: Scores, decision: Decision, present: Bool[np.ndarray, " classes"]
) -> Segmentation:
    """Maps of absent labels decide nothing and are left out; rows share a softmax and stay."""
    if scores.rows is not None or present.all() or not present.any():
        return _decide_pixels(scores, decision, present)
    kept = np.flatnonzero(present)
    shares = decision.per_label("mask_threshold", len(present)).astype(np.float32)[kept]
    few = replace(
        scores,
        labels=tuple(scores.labels[label] for label in kept),
        maps=scores.maps[kept],
        strength=scores.strength[kept],
        presence=scores.presence[kept],
    )
    decided = _decide_pixels(
        few, replace(decision, mask_threshold=tuple(map(float, shares))), present[kept]
    )
    confidence = np.zeros(len(present), np.float32)
    confidence[kept] = decided.confidence
    layers = None
    if decided.layers is not None:
        layers = np.zeros((len(present), *scores.size_hw), bool)
        layers[kept] = decided.layers
    numbers = np.concatenate([[0], kept + 1]).astype(np.int32)
    return replace(
        decided,
        labels=scores.labels,
        label_map=numbers[decided.label_map],
        confidence=confidence,
        presence=scores.presence,
        layers=layers,
    )


def _pixel_blocks(scores: Scores) -> Callable[[], Iterable[PixelBlock]]:
    """`pixel_scores` again and again: kept where they are few, else computed anew."""
    values = scores.maps if scores.rows is None else scores.rows.values
    if len(values) * scores.size_hw[0] * scores.size_hw[1] > BLOCK_VALUES:
        return lambda: pixel_scores(scores)
    kept = list(pixel_scores(scores))
    return lambda: kept


def _decide_pixels(
    scores: Scores, decision: Decision, present: Bool[np.ndarray, " classes"]
) -> Segmentation:
    if present.any() and _leaves_losers_out(scores, decision):
        if scores.device is not None and present.all():
            try:
                return _decide_on_card(scores, decision, scores.device)
            except torch.OutOfMemoryError:  # full of what was seen of pictures; numpy needs none
                logger.info("no room to label pixels on %s: done on the processor", scores.device)
        return _decide_tiles(scores, decision, present)
    count, (height, width) = len(scores.labels), scores.size_hw
    label_map = np.zeros((height, width), np.int32)
    layers = np.zeros((count, height, width), bool) if decision.overlap else None
    tally = _Tally(count)
    if present.any():
        blocks = _pixel_blocks(scores)
        scale = _Scale.of(scores, decision, blocks)
        for rows, block, behind in blocks():
            scaled = scale.apply(block)
            allowed = present[:, None, None] & (block >= scale.floors)
            label_map[rows] = label_block(
                scaled,
                allowed=allowed,
                background=decision.background,
                background_threshold=decision.background_threshold,
                behind=behind,
            )
            if layers is not None:
                layers[:, rows] = allowed & own_claims(
                    scaled,
                    threshold=decision.background_threshold,
                    behind=behind,
                    compete=scores.rows is not None,
                )
            if scores.clusters is None:
                _tally_block(tally, scale, block, label_map[rows], layers, rows)
        if scores.clusters is not None:
            label_map = vote(label_map, scores.clusters, classes=count)
            if layers is not None:
                layers = vote_each(layers, scores.clusters)
            for rows, block, _ in blocks():
                _tally_block(tally, scale, block, label_map[rows], layers, rows)
    return Segmentation(
        labels=scores.labels,
        label_map=label_map,
        confidence=tally.means,
        presence=scores.presence,
        rest=scores.rest,
        layers=layers,
    )


def _tally_block(
    tally: "_Tally",
    scale: "_Scale",
    block: Float[np.ndarray, "classes rows width"],
    winners: Int[np.ndarray, "rows width"],
    layers: Bool[np.ndarray, "classes height width"] | None,
    rows: slice,
) -> None:
    if layers is None:
        won = np.take_along_axis(block, np.maximum(winners - 1, 0)[None], axis=0)[0]
        tally.add(scale.certainty_of(won, winners), winners)
    else:
        tally.add_layers(scale.certainty(block), layers[:, rows])


def _leaves_losers_out(scores: Scores, decision: Decision) -> bool:
    """Whether a label that loses a pixel leaves no trace there, and more is never worth less."""
    alone = scores.rows is None and scores.clusters is None and not decision.overlap
    return alone and bool(np.isfinite(scores.maps).all() and (scores.strength >= 0).all())


def _decide_tiles(
    scores: Scores, decision: Decision, present: Bool[np.ndarray, " classes"]
) -> Segmentation:
    """As `_decide_pixels`, to the bit, but labels that win nowhere in a tile are left out there."""
    contenders = Contenders(scores.maps, size_hw=scores.size_hw)
    scale = _Scale.between(*contenders.extremes(), scores=scores, decision=decision)
    label_map, sure = np.zeros(scores.size_hw, np.int32), np.zeros(scores.size_hw, np.float32)
    for rows, columns, lowest, highest in contenders.tiles():
        labels = np.flatnonzero(present & _may_win(scale, lowest, highest, present, decision))
        if not len(labels):
            continue
        block, few = contenders.values(labels, rows, columns), scale.of_labels(labels)
        winners = label_block(
            few.apply(block),
            allowed=block >= few.floors,
            background=decision.background,
            background_threshold=decision.background_threshold,
        )
        won = np.take_along_axis(block, np.maximum(winners - 1, 0)[None], axis=0)[0]
        sure[rows, columns] = few.certainty_of(won, winners)
        label_map[rows, columns] = np.concatenate([[0], labels + 1])[winners]
    return _of_pixels(scores, label_map, sure)


def _decide_on_card(scores: Scores, decision: Decision, device: str) -> Segmentation:
    """As `_decide_tiles`, to the bit, where every label is there."""
    card = OnCard(scores.maps, size_hw=scores.size_hw, device=device)
    scale = _Scale.between(*card.extremes(), scores=scores, decision=decision)
    span = scale.span
    label_map, sure = card.labelled(
        floors=scale.floors[:, 0, 0],
        factor=strength_factor(scores.strength, largest=scale.largest),
        span=None if span is None else (span[0], stretch_span(*span)),
        largest=scale.largest + np.float32(1e-5),
        background=decision.background,
        background_threshold=decision.background_threshold,
    )
    return _of_pixels(scores, label_map, sure)


def _of_pixels(
    scores: Scores,
    label_map: Int[np.ndarray, "height width"],
    sure: Float[np.ndarray, "height width"],
) -> Segmentation:
    """`sure`: certainty of the label that won, at every pixel."""
    tally = _Tally(len(scores.labels))
    for rows in _row_blocks(scores.maps, scores.size_hw):
        tally.add(sure[rows], label_map[rows])
    return Segmentation(
        labels=scores.labels,
        label_map=label_map,
        confidence=tally.means,
        presence=scores.presence,
        rest=scores.rest,
    )


def _may_win(
    scale: "_Scale",
    lowest: Float[np.ndarray, " classes"],
    highest: Float[np.ndarray, " classes"],
    present: Bool[np.ndarray, " classes"],
    decision: Decision,
) -> Bool[np.ndarray, " classes"]:
    """Labels that are not beaten at every pixel of a tile, by their bounds there."""
    floors = scale.floors[:, 0, 0]
    least, most = (scale.apply(bound[:, None, None])[:, 0, 0] for bound in (lowest, highest))
    beats_all = least[present & (lowest >= floors)].max(initial=-np.inf)
    may = (highest >= floors) & (most >= beats_all)
    if decision.background == "threshold":
        may &= most >= decision.background_threshold
    return may


@dataclass(frozen=True)
class _Scale:
    """What turns a label's raw values into those that are compared.

    Maps are scaled to the published per-class score and judged by their own maximum; row
    probabilities are compared as they are.
    """

    floors: Float[np.ndarray, "classes 1 1"]
    largest: Float[np.ndarray, " classes"]
    span: tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]] | None
    strength: Float[np.ndarray, " classes"] | None  # None for row probabilities

    @classmethod
    def of(
        cls, scores: Scores, decision: Decision, blocks: Callable[[], Iterable[PixelBlock]]
    ) -> "_Scale":
        shares = decision.per_label("mask_threshold", len(scores.labels))
        if scores.rows is None or decision.normalise or shares.any():
            smallest, largest = extremes(block for _, block, _ in blocks())
        else:  # nobody asks for them, and a softmax at every pixel is not for nothing
            smallest, largest = scores.strength, scores.strength
        return cls.between(smallest, largest, scores=scores, decision=decision)

    @classmethod
    def between(
        cls,
        smallest: Float[np.ndarray, " classes"],
        largest: Float[np.ndarray, " classes"],
        *,
        scores: Scores,
        decision: Decision,
    ) -> "_Scale":
        """`smallest` and `largest` value of every label over all pixels."""
        shares = decision.per_label("mask_threshold", len(scores.labels)).astype(np.float32)
        strength = scores.strength if scores.rows is None else None
        factor = np.float32(1) if strength is None else strength_factor(strength, largest=largest)
        return cls(
            floors=(shares * largest)[:, None, None],
            largest=largest,
            span=(smallest * factor, largest * factor) if decision.normalise else None,
            strength=strength,
        )

    def of_labels(self, labels: Int[np.ndarray, " some"]) -> "_Scale":
        return _Scale(
            floors=self.floors[labels],
            largest=self.largest[labels],
            span=None if self.span is None else (self.span[0][labels], self.span[1][labels]),
            strength=None if self.strength is None else self.strength[labels],
        )

    def apply(
        self, block: Float[np.ndarray, "classes rows width"]
    ) -> Float[np.ndarray, "classes rows width"]:
        if self.strength is not None:
            block = scale_to_strength(block, largest=self.largest, strength=self.strength)
        if self.span is not None:
            block = stretch(block, smallest=self.span[0], largest=self.span[1])
        return block

    def certainty(
        self, block: Float[np.ndarray, "classes rows width"]
    ) -> Float[np.ndarray, "classes rows width"]:
        """From 0 to 1: the probability itself, or a share of the label's own maximum."""
        if self.strength is None:
            return block
        return np.clip(block / (self.largest[:, None, None] + np.float32(1e-5)), 0.0, 1.0)

    def certainty_of(
        self, won: Float[np.ndarray, "rows width"], winners: Int[np.ndarray, "rows width"]
    ) -> Float[np.ndarray, "rows width"]:
        """`certainty` of what the winning label has at every pixel; anything where none wins."""
        if self.strength is None:
            return won
        largest = self.largest[np.maximum(winners - 1, 0)]
        return np.clip(won / (largest + np.float32(1e-5)), 0.0, 1.0)


class _Tally:
    """Mean certainty of the pixels each label won."""

    def __init__(self, count: int) -> None:
        self._sums, self._areas = np.zeros(count), np.zeros(count)

    def add(
        self, certainty: Float[np.ndarray, "rows width"], winners: Int[np.ndarray, "rows width"]
    ) -> None:
        """Count label numbers."""
        count = len(self._sums) + 1
        numbers = winners.ravel().astype(np.intp)  # what bincount does itself, much slower
        weights = certainty.ravel().astype(np.float64)
        self._sums += np.bincount(numbers, weights=weights, minlength=count)[1:]
        self._areas += np.bincount(numbers, minlength=count)[1:]

    def add_layers(
        self,
        certainty: Float[np.ndarray, "classes rows width"],
        claims: Bool[np.ndarray, "classes rows width"],
    ) -> None:
        """Count overlapping masks."""
        self._sums += (certainty * claims).sum(axis=(1, 2), dtype=np.float64)
        self._areas += claims.sum(axis=(1, 2))

    @property
    def means(self) -> Float[np.ndarray, " classes"]:
        """0 for a label without pixels."""
        zeros = np.zeros(len(self._sums))
        return np.divide(self._sums, self._areas, out=zeros, where=self._areas > 0).astype(
            np.float32
        )


def strongest_cluster(
    clusters: Float[np.ndarray, "clusters h w"], *, size_hw: tuple[int, int]
) -> Int[np.ndarray, "height width"]:
    """Cluster with the largest upsampled map at every pixel; ties go to the first."""
    assigned = np.zeros(size_hw, np.int32)
    for rows, block in upsampled_rows(clusters, size_hw=size_hw):
        assigned[rows] = block.argmax(axis=0)
    return assigned


def vote(
    label_map: Int[np.ndarray, "height width"],
    clusters: Float[np.ndarray, "clusters h w"],
    *,
    classes: int,
) -> Int[np.ndarray, "height width"]:
    """The most frequent label of a cluster takes all its pixels.

    Ties go to the lower label; background, 0 here, counts as the last one, as published.
    Source: cliptrase §4 steps 5 and 6.
    """
    assigned = strongest_cluster(clusters, size_hw=(label_map.shape[0], label_map.shape[1]))
    order = np.where(label_map == 0, classes, label_map - 1)
    pairs = assigned.astype(np.int64) * (classes + 1) + order
    counts = np.bincount(pairs.ravel(), minlength=len(clusters) * (classes + 1))
    winner = counts.reshape(len(clusters), classes + 1).argmax(axis=1)
    return np.where(winner == classes, 0, winner + 1).astype(np.int32)[assigned]


def vote_each(
    layers: Bool[np.ndarray, "classes height width"], clusters: Float[np.ndarray, "clusters h w"]
) -> Bool[np.ndarray, "classes height width"]:
    """Each label takes the clusters of which it claims at least half."""
    assigned = strongest_cluster(clusters, size_hw=(layers.shape[1], layers.shape[2]))
    sizes = np.maximum(1, np.bincount(assigned.ravel(), minlength=len(clusters)))
    voted = np.zeros_like(layers)
    for label, claims in enumerate(layers):
        held = np.bincount(assigned[claims], minlength=len(clusters))
        voted[label] = (2 * held >= sizes)[assigned]
    return voted


def demo_index(
    maps: Float[np.ndarray, "classes h w"],
    strength: Float[np.ndarray, " classes"],
    *,
    size_hw: tuple[int, int],
    segmentation_threshold: float,
    class_threshold: float,
) -> Int[np.ndarray, "height width"]:
    """Label index of the authors' demo: 0 for background, else number of classes + class (§10).

    Weak classes are zeroed, and as many constant background channels as there are classes
    stand in front of them, which is why indices start at the number of classes.
    """
    count = maps.shape[0]
    index = np.zeros(size_hw, np.int32)
    strong = (strength >= class_threshold)[:, None, None]
    for rows, block in upsampled_rows(maps, size_hw=size_hw):
        contest = np.where(strong, block, np.float32(0.0))
        beaten = contest.max(axis=0) <= segmentation_threshold
        index[rows] = np.where(beaten, 0, contest.argmax(axis=0) + count)
    return index


def voc_palette(count: int) -> UInt8[np.ndarray, "count 3"]:
    """Pascal VOC's colours: bits of the index spread over the three channels, high bits first."""
    colours = np.zeros((count, 3), np.uint8)
    for index in range(count):
        value = index
        for bit in range(7, -1, -1):
            for channel in range(3):
                colours[index, channel] |= ((value >> channel) & 1) << bit
            value >>= 3
    return colours
