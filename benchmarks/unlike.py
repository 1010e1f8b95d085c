"""How sure the demo model is of anything, on pictures like its training pictures and unlike them.

    python -m benchmarks.unlike [--pictures 40]

For each kind of picture the highest presence of any label is taken per picture, all labels asked
and six of them, and the median over samples of 24 pictures: that is what `cliper preview` looks
at. Writes `results/unlike-demo.json`; exit status 1 if the bound of the preview does not part the
two.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from backend.demo.projects import Picture, everything
from backend.labelstudio.tasks import Task
from backend.outcomes import Predicted
from backend.predictor import Predictor
from backend.prelabel.preview import UNLIKE
from cliper_model.demo.scenes import LABELS, make_scene
from cliper_model.demo.scenes.styles import STYLES

from . import record
from .chain import labels_of
from .region_counts import predictor_of

SEED = 23  # of scenes that serve no other purpose
SIZE = 192  # pixels
SAMPLE = 24  # pictures of a preview
DRAWS = 200  # samples drawn to see how far their medians lie apart
FEW = ("sky", "grass", "house", "tree", "person", "car")

Pixels = UInt8[np.ndarray, "height width 3"]
Maker = Callable[[np.random.Generator, Pixels], Pixels]


def noise(chance: np.random.Generator, scene: Pixels) -> Pixels:
    return chance.integers(0, 256, scene.shape, dtype=np.uint8)


def clouds_of_noise(chance: np.random.Generator, scene: Pixels) -> Pixels:
    """Brightness falls with frequency, as in photographs."""
    rows, columns = np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / SIZE)
    white = np.fft.fft2(chance.normal(size=(SIZE, SIZE, 3)), axes=(0, 1))
    picture = np.fft.ifft2(white * falling[..., None], axes=(0, 1)).real
    return np.asarray(np.clip(128 + 50 * picture / picture.std(), 0, 255), np.uint8)


def gradient(chance: np.random.Generator, scene: Pixels) -> Pixels:
    from_, to = chance.integers(0, 256, (2, 3))
    steps = np.linspace(0, 1, SIZE)[:, None, None]
    whole = (from_ + (to - from_) * steps).repeat(SIZE, axis=1)
    return np.asarray(np.rot90(whole, int(chance.integers(4))), np.uint8)


def plain(chance: np.random.Generator, scene: Pixels) -> Pixels:
    return np.full_like(scene, chance.integers(0, 256, 3))


def grey_rods(chance: np.random.Generator, scene: Pixels) -> Pixels:
    """Like a microscope's: bright rods on dark grey."""
    picture = np.full((SIZE, SIZE), 40, np.uint8)
    for _ in range(25):
        x, y = map(int, chance.integers(0, SIZE, 2))
        axes = (int(chance.integers(8, 20)), 4)
        turn = float(chance.uniform(0, 180))
        cv2.ellipse(picture, (x, y), axes, turn, 0, 360, int(chance.integers(120, 255)), -1)
    return np.repeat(cv2.GaussianBlur(picture, (0, 0), 1.2)[..., None], 3, axis=2)


def lines_of_text(chance: np.random.Generator, scene: Pixels) -> Pixels:
    picture = np.full((SIZE, SIZE, 3), 250, np.uint8)
    for y in range(16, SIZE, 14):
        letters = "".join(chance.choice(list("abcdefghijklmnop rstu"), 24))
        cv2.putText(picture, letters, (6, y), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (20, 20, 20))
    return picture


def inverted(chance: np.random.Generator, scene: Pixels) -> Pixels:
    return np.asarray(255 - scene, np.uint8)


def upside_down(chance: np.random.Generator, scene: Pixels) -> Pixels:
    return np.ascontiguousarray(scene[::-1])


def close_up(chance: np.random.Generator, scene: Pixels) -> Pixels:
    """A twelfth of the side, enlarged."""
    side = SIZE // 12
    top, left = chance.integers(0, SIZE - side, 2)
    crop = scene[top : top + side, left : left + side]
    return np.asarray(cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), np.uint8)


def far_away(chance: np.random.Generator, scene: Pixels) -> Pixels:
    """A tenth of the side, on white."""
    side = SIZE // 10
    picture = np.full_like(scene, 255)
    small = cv2.resize(scene, (side, side), interpolation=cv2.INTER_AREA)
    top, left = chance.integers(0, SIZE - side, 2)
    picture[top : top + side, left : left + side] = small
    return picture


FOREIGN: Mapping[str, Maker] = {
    "noise": noise,
    "noise as in photographs": clouds_of_noise,
    "gradients": gradient,
    "plain colours": plain,
    "grey rods": grey_rods,
    "text": lines_of_text,
    "close-ups": close_up,
    "scenes far away": far_away,
}
RELATED: Mapping[str, Maker] = {"inverted": inverted, "upside down": upside_down}


def main() -> int:
    parser = argparse.ArgumentParser(description="Presence on pictures like and unlike.")
    parser.add_argument("--pictures", type=int, default=40, help="of each kind")
    args = parser.parse_args()

    scenes = [one.image for one in everything(args.pictures, SEED).pictures]
    kinds: dict[str, list[Pixels]] = {"own scenes": scenes}
    for name, make in {**RELATED, **FOREIGN}.items():
        chance = np.random.default_rng([SEED, len(kinds)])
        kinds[name] = [make(chance, scene) for scene in scenes]
    for style in STYLES:
        kinds[f"style {style}"] = list(in_style(style, args.pictures))
    found: dict[str, Any] = {}
    for name, pictures in kinds.items():
        found[name] = {
            "all labels": figures(highest(pictures, LABELS)),
            "six labels": figures(highest(pictures, FEW)),
        }
        print(name, found[name], flush=True)
    own = [one["medians of samples"][0] for one in found["own scenes"].values()]
    foreign = {
        name: max(one["medians of samples"][2] for one in found[name].values()) for name in FOREIGN
    }
    bound = UNLIKE["demo"]
    caught = sorted(name for name, most in foreign.items() if most < bound)
    passed = min(own) > bound and len(caught) * 2 >= len(foreign)
    path = record.write(
        "unlike-demo",
        {
            "seed": SEED,
            "pictures of a kind": args.pictures,
            "sample": SAMPLE,
            "highest presence": found,
            "bound": bound,
            "foreign kinds below it": caught,
            "passed": passed,
        },
    )
    print(f"written to {path}")
    return 0 if passed else 1


def in_style(style: str, count: int) -> Iterator[Pixels]:
    for number in range(count):
        yield make_scene(np.random.default_rng([SEED, number]), SIZE, style=style).image


def highest(pictures: Sequence[Pixels], labels: Sequence[str]) -> list[float]:
    """Presence of the likeliest label, picture by picture."""
    named = [Picture(name=str(number), image=one, truth={}) for number, one in enumerate(pictures)]
    config = (
        '<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="masks" toName="image">{labels_of(labels)}</BrushLabels></View>'
    )
    with predictor_of(named) as predictor:
        return list(_highest(predictor, named, config))


def _highest(predictor: Predictor, pictures: Sequence[Picture], config: str) -> Iterator[float]:
    tasks = [Task(one.name, {"image": one.name}) for one in pictures]
    for _, outcome in predictor.stream(tasks, predictor.desk(config)):
        assert isinstance(outcome, Predicted)
        yield max(one.value for one in outcome.presences[0])


def figures(values: Sequence[float]) -> dict[str, Any]:
    """Quantiles of pictures, and how far medians of samples lie apart: 1 %, half, 99 %."""
    chance = np.random.default_rng(SEED)
    medians = [np.median(chance.choice(values, SAMPLE)) for _ in range(DRAWS)]
    return {
        "pictures": [round(float(one), 3) for one in np.quantile(values, (0.1, 0.5, 0.9))],
        "medians of samples": [
            round(float(one), 3) for one in np.quantile(medians, (0.01, 0.5, 0.99))
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
