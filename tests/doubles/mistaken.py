"""A segmenter that knows the truth and gets some of it wrong, always in the same way."""

import zlib
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

from cliper_model.evaluation.runner import Prediction

from .benchmark_trees import Tree, blocks


def predictions(tree: Tree, *, share: float = 0.3) -> list[np.ndarray]:
    """The truth with about `share` of its 4-pixel patches replaced by another label."""
    found = []
    for number, truth in enumerate(tree.truths):
        rng = np.random.default_rng((7, number))
        present = np.unique(truth[truth > 0])
        choices = [0, *present.tolist(), int(rng.integers(1, tree.classes + 1))]
        wrong = blocks(truth.shape, choices, rng)
        flipped = blocks(truth.shape, [0, 1], rng) * (rng.random(truth.shape) < 2 * share) > 0
        said = np.where(truth < 0, wrong, truth)
        found.append(np.where(flipped, wrong, said))
    return found


def by_content(
    images: Iterable[np.ndarray], answers: Iterable[np.ndarray]
) -> Callable[[np.ndarray], Prediction]:
    """Each picture's answer, found by its pixels."""
    known = {
        zlib.crc32(image.tobytes()): answer for image, answer in zip(images, answers, strict=True)
    }

    def segment(image: np.ndarray) -> Prediction:
        return Prediction(label_map=known[zlib.crc32(image.tobytes())])

    return segment


def mistaken(tree: Tree) -> Callable[[np.ndarray], Prediction]:
    """A segmenter for all pictures of a tree."""
    images = (np.asarray(Image.open(path).convert("RGB")) for path in tree.pictures)
    return by_content(images, predictions(tree))
