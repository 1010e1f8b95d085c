"""Stores of scenes that are told item by item."""

from itertools import pairwise

import numpy as np

from cliper_model.demo.scene_store import COLOUR_WORDS, MOST_ITEMS, SceneStore
from cliper_model.demo.scenes import HOURS, LABEL_IDS, PATTERNS

SIDE = 96


def store_of(items, scenes=1):
    """Scenes of equal upright bands, one per item."""
    edges = np.linspace(0, SIDE, len(items) + 1).astype(int)
    instances = np.zeros((SIDE, SIDE), np.uint8)
    for number, (left, right) in enumerate(pairwise(edges), 1):
        instances[:, left:right] = number
    tables = {name: np.zeros(1 + MOST_ITEMS, np.uint8) for name in ("l", "c", "p", "h")}
    for number, item in enumerate(items, 1):
        tables["l"][number] = LABEL_IDS.get(item.label, 0)
        for name, words, word in (
            ("c", COLOUR_WORDS, item.colour),
            ("p", PATTERNS, item.pattern),
            ("h", HOURS, item.hour),
        ):
            tables[name][number] = 1 + words.index(word) if word else 0
    rows = [np.stack([tables[name]] * scenes) for name in ("l", "c", "p", "h")]
    images = np.full((scenes, SIDE, SIDE, 3), 128, np.uint8)
    return SceneStore(images, np.stack([instances] * scenes), *rows)
