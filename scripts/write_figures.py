"""Draw the figures of docs/how-cliper-works.md: one drawn scene, step by step, by the code itself.

    python scripts/write_figures.py

Nothing here is random: the same weights draw the same figures. A test draws them anew and compares.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images"
MOST_BYTES: Final = 150_000  # of one figure
SEED: Final = (0x5EED, 60, 29)  # of the scene; chosen for showing the steps, seen by no training
PLACE: Final = "house"  # the label in whose middle the place lies that is followed
TILE, GAP, LINE = 150, 8, 20  # pixels
INK, PAPER, MARK = (30, 30, 36), (255, 255, 255), (255, 240, 60)
LEVELS: Final = 24  # of grey and colour in a map: few enough to bear rounding elsewhere
HOT: Final = np.array(
    [(15, 12, 40), (70, 20, 90), (160, 40, 80), (225, 90, 50), (250, 170, 60), (255, 250, 200)]
)  # from nothing to the strongest

Map = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One tile of a figure and the words below it."""

    picture: Pixels  # [h, w, 3]
    caption: str


@dataclass(frozen=True)
class Steps:
    """What the method makes of one picture on its way from pixels to masks."""

    scene: Any
    labels: tuple[str, ...]
    grid_hw: tuple[int, int]
    patch: tuple[int, int]  # row and column of the place that is followed
    layers: list[Map]  # attention of that place in every plain block
    total: Map  # their sum
    fused: Map  # what the last block is given instead of its own attention
    coarse: NDArray[np.float32]  # [labels, h, w]
    refined: NDArray[np.float32]  # [labels, h, w]
    found: Any  # the masks


def steps() -> Steps:
    """Run the method, and keep what it makes in between."""
    import cliper_model
    from cliper_model.backbones.clip import OWN_FORM
    from cliper_model.demo.scenes import make_scene
    from cliper_model.stages import attention

    scene = make_scene(np.random.default_rng(SEED))
    labels = tuple(sorted(scene.masks(), key=lambda label: -scene.masks()[label].sum()))
    method: Any = cliper_model.load("demo", device="cpu", dtype="float32")
    clip = method.clip
    state = method.observe(scene.image)
    rows, columns = state.grid_hw
    middle = np.argwhere(scene.masks()[PLACE]).mean(axis=0)
    row, column = (
        int(value * side / 192) for value, side in zip(middle, state.grid_hw, strict=True)
    )
    place = 1 + row * columns + column  # behind the class token

    pixels, _ = method._clip_input(scene.image)
    tokens, _ = clip.enter(pixels, OWN_FORM)
    maps = []
    for block in range(clip.layers - 1):
        heads = clip.heads(block, tokens)
        weights = attention.self_similarity(heads.queries.float(), heads.keys.float())
        maps.append(weights.mean(dim=0)[place, 1:].reshape(rows, columns).double().numpy())
        tokens = clip.run(tokens, block, block + 1)

    vocabulary = method.read(labels, background=())
    preset = method._presets(vocabulary.preset)
    layer_maps = method.layer_probabilities(state, vocabulary, scale=preset.logit_scale)
    rough = method.coarse(state, layer_maps, preset)
    refined = method.refined(state, rough, floor=preset.attention_floor)
    return Steps(
        scene=scene,
        labels=labels,
        grid_hw=state.grid_hw,
        patch=(row, column),
        layers=maps,
        total=np.sum(maps, axis=0),
        fused=state.links[place - 1].reshape(rows, columns).double().numpy(),
        coarse=rough.numpy(),
        refined=refined.numpy(),
        found=method.segment(scene.image, labels, background=()),
    )


def heat(values: Map) -> Pixels:
    """From dark to bright, the largest value brightest; `[h, w, 3]`."""
    share = np.clip(values / max(float(values.max()), 1e-12), 0, 1)
    level = np.round(share * (LEVELS - 1)) / (LEVELS - 1) * (len(HOT) - 1)
    low = np.minimum(level.astype(int), len(HOT) - 2)
    between = (level - low)[..., None]
    return np.round(HOT[low] * (1 - between) + HOT[low + 1] * between).astype(np.uint8)


def flat(numbers: NDArray[np.integer], labels: Sequence[str]) -> Pixels:
    """A label map in the labels' colours; 0 is dark."""
    from backend.demo.projects import label_colours
    from cliper_model.demo.scenes import LABELS

    colours = label_colours(LABELS)
    palette = np.array([(44, 44, 50), *(colours[label] for label in labels)], np.uint8)
    return palette[numbers]


def marked(picture: Pixels, step: Steps) -> Pixels:
    """The scene with a frame around the place that is followed."""
    shown = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.BILINEAR)
    high, wide = (TILE / side for side in step.grid_hw)
    row, column = step.patch
    left, top = column * wide - 2, row * high - 2
    box = [left, top, left + wide + 4, top + high + 4]
    pen = ImageDraw.Draw(shown)
    pen.rectangle(box, outline=INK, width=3)
    pen.rectangle([box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], outline=MARK, width=1)
    return np.asarray(shown)


def sheet(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Panels side by side, rows below one another."""
    across = max(len(row) for row in rows)
    size = (across * (TILE + GAP) + GAP, len(rows) * (TILE + LINE + GAP) + GAP)
    image = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(image)
    for down, row in enumerate(rows):
        for right, panel in enumerate(row):
            left, top = GAP + right * (TILE + GAP), GAP + down * (TILE + LINE + GAP)
            tile = Image.fromarray(panel.picture).resize((TILE, TILE), Image.Resampling.NEAREST)
            image.paste(tile, (left, top))
            middle = (left + TILE // 2, top + TILE + LINE // 2)
            pen.text(middle, panel.caption, INK, ImageFont.load_default(12), anchor="mm")
    return image


def figures() -> dict[str, Image.Image]:
    """File name -> figure."""
    with torch.inference_mode():
        step = steps()
    scene = Panel(marked(step.scene.image, step), "a place in the picture")
    layers = [
        Panel(heat(values), f"block {number}") for number, values in enumerate(step.layers, 1)
    ]
    truth = np.zeros(step.scene.image.shape[:2], int)
    for number, label in enumerate(step.labels, 1):
        truth[step.scene.masks()[label]] = number
    shown = step.labels[:4]
    return {
        "how-attention.png": sheet([[scene, *layers]]),
        "how-fused.png": sheet(
            [[scene, Panel(heat(step.total), "sum"), Panel(heat(step.fused), "fused")]]
        ),
        "how-maps.png": sheet(
            [
                [Panel(heat(step.coarse[k]), f"{label}, coarse") for k, label in enumerate(shown)],
                [
                    Panel(heat(step.refined[k]), f"{label}, refined")
                    for k, label in enumerate(shown)
                ],
            ]
        ),
        "how-masks.png": sheet(
            [
                [
                    Panel(step.scene.image, "picture"),
                    Panel(flat(step.coarse.argmax(axis=0) + 1, step.labels), "best of coarse"),
                    Panel(flat(step.refined.argmax(axis=0) + 1, step.labels), "best of refined"),
                    Panel(flat(step.found.label_map, step.labels), "masks"),
                    Panel(flat(truth, step.labels), "truth"),
                ]
            ]
        ),
    }


def main() -> None:
    torch.set_num_threads(1)
    for name, figure in figures().items():
        figure.save(FOLDER / name, optimize=True)
        size = (FOLDER / name).stat().st_size
        print(f"{name}: {size} bytes")
        assert size <= MOST_BYTES, name


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
