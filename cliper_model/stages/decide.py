"""Class maps -> label map: numpy only, so a slider costs no network (specification §9)."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..segmenter import Decision, Scores, Segmentation

BLOCK_VALUES = 8_000_000  # values held at once while upsampling: 32 MB of float32


def _taps(
    small: int, large: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Neighbours and weight of bilinear sampling with half-pixel centres along one axis."""
    centres = np.maximum((np.arange(large) + 0.5) * (small / large) - 0.5, 0.0)
    lower = np.minimum(centres.astype(np.int64), small - 1)
    return lower, np.minimum(lower + 1, small - 1), (centres - lower).astype(np.float32)


def upsampled_rows(
    maps: Float[np.ndarray, "classes h w"], *, size_hw: tuple[int, int]
) -> Iterator[tuple[slice, Float[np.ndarray, "classes rows width"]]]:
    """Bilinear upsampling (half-pixel centres, no antialias), a block of image rows at a time."""
    height, width = size_hw
    left, right, across = _taps(maps.shape[2], width)
    wide = maps[:, :, left] * (1 - across) + maps[:, :, right] * across
    upper, lower, down = _taps(maps.shape[1], height)
    step = max(1, BLOCK_VALUES // max(1, maps.shape[0] * width))
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        weight = down[rows, None]
        yield rows, wide[:, upper[rows]] * (1 - weight) + wide[:, lower[rows]] * weight


def extremes(
    maps: Float[np.ndarray, "classes h w"], *, size_hw: tuple[int, int]
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """Smallest and largest value of every upsampled map."""
    smallest = np.full(maps.shape[0], np.inf, np.float32)
    largest = np.full(maps.shape[0], -np.inf, np.float32)
    for _, block in upsampled_rows(maps, size_hw=size_hw):
        smallest = np.minimum(smallest, block.min(axis=(1, 2)))
        largest = np.maximum(largest, block.max(axis=(1, 2)))
    return smallest, largest


def scale_to_strength(
    block: Float[np.ndarray, "classes rows width"],
    *,
    largest: Float[np.ndarray, " classes"],
    strength: Float[np.ndarray, " classes"],
) -> Float[np.ndarray, "classes rows width"]:
    """Each map's maximum becomes the class's published score (specification §9 step 3)."""
    factor = strength / (largest + np.float32(1e-5))
    return block * factor[:, None, None]


def label_block(
    scaled: Float[np.ndarray, "classes rows width"],
    *,
    allowed: Bool[np.ndarray, "classes rows width"] | Bool[np.ndarray, "classes 1 1"],
    background: str,
    background_threshold: float,
) -> Int[np.ndarray, "rows width"]:
    """0 for background, else index + 1 of the winning class (specification §9 step 4)."""
    if background == "none":
        contest = np.where(allowed, scaled, -np.inf)
        winner = contest.argmax(axis=0)
        return np.where(np.isfinite(contest.max(axis=0)), winner + 1, 0).astype(np.int32)
    contest = np.where(allowed, scaled, np.float32(0.0))
    if background == "threshold":
        contest[contest < background_threshold] = 0.0
        best = contest.max(axis=0)
        return np.where(best > 0, contest.argmax(axis=0) + 1, 0).astype(np.int32)
    best = contest.max(axis=0)
    beaten = (1 - best) ** 2 >= best  # ties go to the background: it stands first
    return np.where(beaten, 0, contest.argmax(axis=0) + 1).astype(np.int32)


def stretch(
    scaled: Float[np.ndarray, "classes rows width"],
    *,
    smallest: Float[np.ndarray, " classes"],
    largest: Float[np.ndarray, " classes"],
) -> Float[np.ndarray, "classes rows width"]:
    """Per class: subtract the minimum, divide by what is then the maximum (`is_normalize`)."""
    span = (largest - smallest) + np.float32(1e-6)
    return (scaled - smallest[:, None, None]) / span[:, None, None]


def _per_label(value: float | Sequence[float], labels: int) -> Float[np.ndarray, " classes"]:
    numbers = np.broadcast_to(np.asarray(value, np.float32), (labels,))
    return numbers


def decide(scores: Scores, decision: Decision) -> Segmentation:
    """Masks at image size. A label must pass its presence threshold; a pixel the mask rule.

    Runs a second time without labels whose whole area stays below `decision.min_area`, so
    their pixels go to the next best instead of leaving holes.
    """
    count = len(scores.labels)
    thresholds = _per_label(decision.presence_threshold, count)
    present = scores.presence > thresholds
    segmentation = _decide_among(scores, decision, present)
    smallest_area = decision.min_area * scores.size_hw[0] * scores.size_hw[1]
    specks = (segmentation.areas > 0) & (segmentation.areas < smallest_area)
    if specks.any():
        segmentation = _decide_among(scores, decision, present & ~specks)
    return segmentation


def _decide_among(
    scores: Scores, decision: Decision, present: Bool[np.ndarray, " classes"]
) -> Segmentation:
    count, (height, width) = len(scores.labels), scores.size_hw
    label_map = np.zeros((height, width), np.int32)
    layers = np.zeros((count, height, width), bool) if decision.overlap else None
    sums, areas = np.zeros(count), np.zeros(count)
    if present.any():
        smallest, largest = extremes(scores.maps, size_hw=scores.size_hw)
        floors = _per_label(decision.mask_threshold, count)[:, None, None] * largest[:, None, None]
        factor = scores.strength / (largest + np.float32(1e-5))
        for rows, block in upsampled_rows(scores.maps, size_hw=scores.size_hw):
            scaled = scale_to_strength(block, largest=largest, strength=scores.strength)
            if decision.normalise:
                scaled = stretch(scaled, smallest=smallest * factor, largest=largest * factor)
            allowed = present[:, None, None] & (block >= floors)
            labels = label_block(
                scaled,
                allowed=allowed,
                background=decision.background,
                background_threshold=decision.background_threshold,
            )
            label_map[rows] = labels
            certainty = np.clip(block / (largest[:, None, None] + np.float32(1e-5)), 0.0, 1.0)
            if layers is not None:
                claims = allowed & (scaled >= decision.background_threshold)
                layers[:, rows] = claims
                sums += (certainty * claims).sum(axis=(1, 2), dtype=np.float64)
                areas += claims.sum(axis=(1, 2))
            else:
                found = labels > 0
                winners = labels[found] - 1
                won = np.take_along_axis(certainty, np.maximum(labels - 1, 0)[None], axis=0)[0]
                sums += np.bincount(winners, weights=won[found], minlength=count)
                areas += np.bincount(winners, minlength=count)
    confidence = np.divide(sums, areas, out=np.zeros(count), where=areas > 0).astype(np.float32)
    return Segmentation(
        labels=scores.labels,
        label_map=label_map,
        confidence=confidence,
        presence=scores.presence,
        rest=scores.rest,
        layers=layers,
    )


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
