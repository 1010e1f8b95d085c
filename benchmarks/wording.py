"""What the choice of words does to masks, with the demo weights on held-out drawn scenes.

    python -m benchmarks.wording [--scenes 60]

Four questions, each with everything else left alone: how long the list of labels is; what a label
is called; which background words stand beside it; and where the thresholds lie. Writes
`results/wording.json`, from which `python scripts/write_word_docs.py` makes the page.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import cliper_model
from cliper_model import presets
from cliper_model.demo.scenes import LABELS, THINGS, make_scene
from cliper_model.profiles import demo_card
from cliper_model.segmenter import Decision, ImageState, Label, Segmenter, Vocabulary

from . import record
from .compare import best_labels
from .demo_accuracy import Tally

TEST_SEED: Final = 3  # never used for training or for choosing numbers
ABSENT: Final = 6  # labels added to those of the picture in the middle row
SCORE_THRESHOLDS: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
MASK_THRESHOLDS: Final = (0.0, 0.2, 0.4, 0.6, 0.8)

Words = dict[str, tuple[str, ...]]
Mask = NDArray[np.bool_]


def spellings() -> dict[str, Words]:
    """Ways to write the labels that have synonyms; the name stays, the words change.

    The card of the demo weights lists what each label was taught as, the name first.
    """
    taught: dict[str, list[str]] = demo_card()["labels"]
    several = {label: words for label, words in taught.items() if len(words) > 1}
    following = dict(zip(LABELS, (*LABELS[1:], LABELS[0]), strict=True))
    return {
        "its usual word": {label: (words[0],) for label, words in several.items()},
        "another word for it": {label: (words[1],) for label, words in several.items()},
        "all its words": {label: tuple(words) for label, words in several.items()},
        "a word that is too narrow: red ...": {
            label: (f"red {words[0]}",) for label, words in several.items() if label in THINGS
        },
        "its word, and one of another label": {
            label: (words[0], taught[following[label]][0]) for label, words in several.items()
        },
    }


def least_cosine(method: Segmenter) -> float:
    """Of two words of one label, over all labels: how far apart the model hears synonyms."""
    rows = [
        method.read([Label(word, (word,)) for word in words], background=()).rows
        for words in spellings()["all its words"].values()
    ]
    return min(float((one @ one.T).min()) for one in rows)


class Presence:
    """Labels named against labels there, over all scenes."""

    def __init__(self) -> None:
        self.right = self.named = self.there = self.scenes = 0

    def add(self, named: set[str], there: set[str]) -> None:
        self.right += len(named & there)
        self.named += len(named)
        self.there += len(there)
        self.scenes += 1

    def figures(self) -> dict[str, float]:
        """Percent, and wrong labels per scene."""
        return {
            "precision": round(100 * self.right / max(1, self.named), 1),
            "recall": round(100 * self.right / max(1, self.there), 1),
            "wrong labels per scene": round((self.named - self.right) / max(1, self.scenes), 2),
        }


class Painted:
    """Masks of single labels against their truth: means over masks, in percent."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float]] = []

    def add(self, mask: Mask, truth: Mask) -> None:
        both = np.count_nonzero(mask & truth)
        self._rows.append(
            (
                both / max(1, np.count_nonzero(mask | truth)),
                both / max(1, np.count_nonzero(mask)),
                both / max(1, np.count_nonzero(truth)),
            )
        )

    def figures(self) -> dict[str, float]:
        iou, precise, complete = 100 * np.mean(self._rows, axis=0)
        return {
            "IoU": round(float(iou), 1),
            "painted and right": round(float(precise), 1),
            "there and painted": round(float(complete), 1),
            "masks": len(self._rows),
        }


def named(method: Segmenter, state: ImageState, words: Vocabulary, decision: Decision) -> set[str]:
    """Labels that get a mask."""
    found = cliper_model.decide(method.score(state, words), decision)
    return {label for label, area in zip(found.labels, found.areas, strict=True) if area}


def list_lengths(present: Sequence[str], index: int) -> dict[str, list[str]]:
    """Labels asked for: those of the picture, a few more, all there are."""
    others = [label for label in LABELS if label not in present]
    few = np.random.default_rng((TEST_SEED, index, ABSENT)).permutation(others)[:ABSENT]
    return {
        "the picture's own": list(present),
        f"and {ABSENT} that are not in it": [*present, *few.tolist()],
        f"all {len(LABELS)}": list(LABELS),
    }


def beside(asked: str, present: Sequence[str], preset: Sequence[str]) -> dict[str, Sequence[str]]:
    """Background words beside one asked label; a word that equals it is dropped by the method."""
    around = [label for label in present if label != asked]
    return {
        "none": (),
        "what else is in the picture": around,
        "the preset's list": preset,
    }


def measure(scenes: int) -> dict[str, Any]:
    """Every figure over the first `scenes` held-out scenes."""
    method = cliper_model.load("demo", device="cpu", dtype="float32")
    own, whole = method.decision("objects"), method.decision("whole-scene")
    everything, listed = method.read(LABELS), presets.get("objects", "demo").background
    spelt = {
        how: (
            method.read([Label(name, words.get(name, ())) for name in LABELS], background=()),
            Tally(),
        )
        for how, words in spellings().items()
    }
    several = set(spellings()["all its words"])
    lengths: dict[str, tuple[Tally, Presence]] = {}
    surroundings: dict[str, Painted] = {}
    score_thresholds = {value: Presence() for value in SCORE_THRESHOLDS}
    mask_thresholds = {value: Painted() for value in MASK_THRESHOLDS}
    for index in tqdm(range(scenes), unit="scene", disable=None):
        scene = make_scene(np.random.default_rng((TEST_SEED, index)))
        truth = scene.label_map().astype(np.int64)
        masks = scene.masks()
        present = [label for label in LABELS if label in masks]
        state = method.observe(scene.image)

        for how, asked in list_lengths(present, index).items():
            tally, presence = lengths.setdefault(how, (Tally(), Presence()))
            words = method.read(asked, background=())
            tally.add(best_labels(method, method.score(state, words)), truth)
            presence.add(named(method, state, words, whole), set(present))

        counted = np.isin(truth, [LABELS.index(label) + 1 for label in several])
        for vocabulary, tally in spelt.values():
            found = best_labels(method, method.score(state, vocabulary))
            tally.add(found, np.where(counted, truth, 0))

        scores = method.score(state, everything)
        for value, presence in score_thresholds.items():
            decided = cliper_model.decide(scores, replace(own, presence_threshold=value))
            some = {label for label, area in zip(LABELS, decided.areas, strict=True) if area}
            presence.add(some, set(present))

        things = [label for label in present if label in THINGS]
        if not things:
            continue
        thing = max(things, key=lambda label: int(masks[label].sum()))
        for how, around in beside(thing, present, listed).items():
            words = method.read([thing], background=around, preset="objects")
            alone = cliper_model.decide(method.score(state, words), own)
            surroundings.setdefault(how, Painted()).add(alone.mask(0), masks[thing])
        words = method.read([thing], preset="objects")
        scores = method.score(state, words)
        for value, painted in mask_thresholds.items():
            alone = cliper_model.decide(scores, replace(own, mask_threshold=value))
            painted.add(alone.mask(0), masks[thing])
    return {
        "profile": "demo",
        "scenes": scenes,
        "labels": len(LABELS),
        "labels with synonyms": len(several),
        "least cosine of synonyms": round(least_cosine(method), 3),
        "list": {
            how: {"mIoU": round(tally.miou(), 1), **presence.figures()}
            for how, (tally, presence) in lengths.items()
        },
        "spelling": {how: round(tally.miou(), 1) for how, (_, tally) in spelt.items()},
        "background": {how: painted.figures() for how, painted in surroundings.items()},
        "model_score_threshold": {
            str(value): presence.figures() for value, presence in score_thresholds.items()
        },
        "model_mask_threshold": {
            str(value): painted.figures() for value, painted in mask_thresholds.items()
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=60)
    figures = measure(parser.parse_args().scenes)
    print(record.write("wording", figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
