"""Projects whose pictures or words the demo model does not know well, each in one way only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from cliper_model.demo import unseen
from cliper_model.demo.captions import SYNONYMS
from cliper_model.demo.scenes import LABELS, Scene, make_scene
from cliper_model.demo.scenes.styles.noise import smooth_noise

SIZE = 192  # pixels
SWAPPED = (
    ("car", "bus"), ("dog", "cat"), ("sun", "moon"), ("balloon", "ball"), ("tent", "umbrella"),
    ("plane", "bird"),
)  # fmt: skip

Pixels = UInt8[np.ndarray, "height width 3"]
LabelMap = Int[np.ndarray, "height width"]
Chance = np.random.Generator


@dataclass(frozen=True)
class Shift:
    """A project: its labels, the word each is asked for with, and how its pictures are drawn.

    draw  chance -> picture, and label numbers from 1 on, 0 where nothing is painted
    """

    words: Mapping[str, str]
    draw: Callable[[Chance], tuple[Pixels, LabelMap]]


def in_style(style: str) -> Callable[[Chance], tuple[Pixels, LabelMap]]:
    def draw(chance: Chance) -> tuple[Pixels, LabelMap]:
        scene = make_scene(chance, SIZE, style=style)
        return scene.image, scene.label_map().astype(np.int64)

    return draw


def textured(chance: Chance) -> tuple[Pixels, LabelMap]:
    """Every item in a coarse pattern of its own, colours paler."""
    scene = make_scene(chance, SIZE)
    return _patterned(scene, chance), scene.label_map().astype(np.int64)


def _patterned(scene: Scene, chance: Chance) -> Pixels:
    pixels = scene.image.astype(np.float32)
    grey = pixels.mean(-1, keepdims=True)
    pale = grey + 0.6 * (pixels - grey)
    height, width = scene.instances.shape
    y, x = np.mgrid[:height, :width]
    out = pale.copy()
    for item in range(len(scene.items) + 1):
        kind, turn = chance.integers(3), chance.uniform(0, np.pi)
        period = chance.uniform(5, 14)
        along = np.sin(2 * np.pi * (np.cos(turn) * x + np.sin(turn) * y) / period)
        across = np.sin(2 * np.pi * (np.cos(turn) * y - np.sin(turn) * x) / period)
        spots = smooth_noise(chance, (height, width), coarseness=max(2, int(period / 3)))
        pattern = (along, 1.4 * along * across, np.clip(spots, -1.5, 1.5))[kind]
        here = scene.instances == item
        out[here] = pale[here] * (1 + 0.45 * pattern[here])[:, None]
    return np.asarray(out.clip(0, 255), np.uint8)


def strangers(chance: Chance) -> tuple[Pixels, LabelMap]:
    """A thing of a class the model never saw; only such things are painted."""
    names = list(unseen.UNSEEN)
    number = int(chance.integers(len(names)))
    shown = unseen.picture(names[number], int(chance.integers(1_000_000)))
    return shown.image, np.where(shown.mask, number + 1, 0)


OWN = {label: label for label in LABELS}
_POOR = dict([*OWN.items(), *SWAPPED, *((b, a) for a, b in SWAPPED)])

SHIFTS: Mapping[str, Shift] = {
    "familiar": Shift(OWN, in_style("storybook")),
    "palette": Shift(OWN, in_style("palette")),
    "texture": Shift(OWN, textured),
    "night": Shift(OWN, in_style("night")),
    "renamed": Shift({label: SYNONYMS[label][-1] for label in LABELS}, in_style("storybook")),
    "poor word": Shift(_POOR, in_style("storybook")),
    "unseen": Shift({name: one.words for name, one in unseen.UNSEEN.items()}, strangers),
}
APPEARANCE = ("palette", "texture", "night")
"""Same labels and words, other looks."""
