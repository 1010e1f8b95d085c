"""The figures of an evaluation again, pixel by pixel and class by class: slow and plain."""

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]  # (truth, prediction) per picture


def region_figures(pairs: Pairs, labels: int) -> Mapping[str, float]:
    """Percent. Truth below 0 is not counted; means run over labels that the truth shows."""
    both = [0] * labels
    shown = [0] * labels
    said = [0] * labels
    for truth, predicted in pairs:
        for row in range(truth.shape[0]):
            for column in range(truth.shape[1]):
                t, p = int(truth[row, column]), int(predicted[row, column])
                if t < 0:
                    continue
                shown[t] += 1
                said[p] += 1
                if t == p:
                    both[t] += 1
    there = [label for label in range(labels) if shown[label]]
    iou = {label: both[label] / (shown[label] + said[label] - both[label]) for label in there}
    total = sum(shown)
    return {
        "miou": 100 * sum(iou.values()) / len(there),
        "pixel_accuracy": 100 * sum(both) / total,
        "mean_accuracy": 100 * sum(both[label] / shown[label] for label in there) / len(there),
        "frequency_weighted_iou": 100 * sum(iou[label] * shown[label] / total for label in there),
        **{f"iou of {label}": 100 * iou[label] for label in there},
    }


def presence_figures(pairs: Pairs, labels: int) -> Mapping[str, float]:
    """Classes are there where any pixel is; background is no class."""
    right = claimed = there = 0
    for truth, predicted in pairs:
        for label in range(1, labels):
            in_truth, in_prediction = (truth == label).any(), (predicted == label).any()
            there += in_truth
            claimed += in_prediction
            right += in_truth and in_prediction
    return {
        "presence_precision": 100 * right / claimed,
        "presence_recall": 100 * right / there,
        "presence_false_per_image": (claimed - right) / len(pairs),
    }


def boundary_f(pairs: Pairs, labels: int) -> float:
    """Every boundary pixel looks for its partner by itself.

    Truth below 0 takes the label of its nearest labelled pixel, which must be one label; what
    lies further from everything labelled than the tolerance is no boundary.
    """
    per_picture = []
    for truth, predicted in pairs:
        reach = max(1, round(0.0075 * sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2)))
        whole, too_far = _filled(truth, reach)
        scores = []
        for label in range(1, labels):
            true_edge = [point for point in _edge(whole, label) if point not in too_far]
            edge = [point for point in _edge(predicted, label) if point not in too_far]
            if not true_edge:
                continue
            precision = _share_near(edge, true_edge, reach)
            recall = _share_near(true_edge, edge, reach)
            both = precision + recall
            scores.append(2 * precision * recall / both if both else 0.0)
        if scores:
            per_picture.append(100 * sum(scores) / len(scores))
    return sum(per_picture) / len(per_picture)


def _filled(truth: np.ndarray, reach: int) -> tuple[np.ndarray, set[tuple[int, int]]]:
    """Truth without gaps, and the pixels of the gaps that are too far from its edges."""
    height, width = truth.shape
    known = [(r, c) for r in range(height) for c in range(width) if truth[r, c] >= 0]
    filled, too_far = truth.copy(), set()
    for row in range(height):
        for column in range(width):
            if truth[row, column] >= 0:
                continue
            apart = [((row - r) ** 2 + (column - c) ** 2, int(truth[r, c])) for r, c in known]
            closest = min(distance for distance, _ in apart)
            (filled[row, column],) = {label for distance, label in apart if distance == closest}
            if closest > reach**2:
                too_far.add((row, column))
    return filled, too_far


def _edge(label_map: np.ndarray, label: int) -> list[tuple[int, int]]:
    height, width = label_map.shape
    found = []
    for row in range(height):
        for column in range(width):
            if label_map[row, column] != label:
                continue
            around = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            if any(
                0 <= r < height and 0 <= c < width and label_map[r, c] != label for r, c in around
            ):
                found.append((row, column))
    return found


def _share_near(points: list[tuple[int, int]], others: list[tuple[int, int]], reach: int) -> float:
    if not points:
        return 0.0
    near = sum(any((a - c) ** 2 + (b - d) ** 2 <= reach**2 for c, d in others) for a, b in points)
    return near / len(points)
