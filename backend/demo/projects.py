"""Which pictures and labels each project of the demonstration has; everything is seeded."""

import colorsys
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cliper_model.demo.scenes import LABELS, make_scene

Mask = NDArray[np.bool_]

HELD_OUT = 0x5EED  # starts every seed here, and no seed of the training
SIZE = 192  # pixels, the size of the training scenes
ONE_LABEL = "house"
ABSENT_LABELS = ("snowman", "rocket", "umbrella", "tent", "rainbow")
GROUND_COLOURS = {
    "sky": (135, 196, 250),
    "grass": (110, 190, 80),
    "sea": (40, 90, 190),
    "sand": (240, 215, 150),
    "snow": (245, 245, 255),
    "road": (90, 90, 100),
    "mountain": (150, 110, 80),
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A scene with its exact truth: one mask `[H, W]` for every label in it."""

    name: str
    image: NDArray[np.uint8]  # [H, W, 3]
    truth: Mapping[str, Mask]

    def to_png(self) -> bytes:
        """The picture as a PNG file."""
        file = io.BytesIO()
        Image.fromarray(self.image).save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Project:
    """A Label Studio project to be: its title, its labels, its pictures."""

    title: str
    labels: tuple[str, ...]
    pictures: tuple[Picture, ...]

    @property
    def label_config(self) -> str:
        """Brush labels on one picture, in the colours of the contact sheet."""
        colours = label_colours(self.labels)
        labels = "".join(
            f'\n    <Label value={quoteattr(label)} background="#{r:02x}{g:02x}{b:02x}"/>'
            for label, (r, g, b) in colours.items()
        )
        return (
            '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
            f'  <BrushLabels name="masks" toName="image">{labels}\n  </BrushLabels>\n</View>'
        )


def everything(count: int, seed: int) -> Project:
    """`count` scenes and the full label list, most of which is absent from any one scene."""
    pictures = _take(count, _scenes(seed))
    return Project(title="Storybook, all labels", labels=LABELS, pictures=pictures)


def one_label(count: int, seed: int) -> Project:
    """One label; it is in half of the `count` scenes."""
    having = _take(count // 2, _scenes(seed), lambda truth: ONE_LABEL in truth)
    lacking = _take(count - count // 2, _scenes(seed), lambda truth: ONE_LABEL not in truth)
    return Project(
        title="Storybook, one label", labels=(ONE_LABEL,), pictures=tuple(having + lacking)
    )


def nothing_there(count: int, seed: int) -> Project:
    """A few labels, none of which is in any of the `count` scenes."""
    pictures = _take(count, _scenes(seed), lambda truth: not truth.keys() & set(ABSENT_LABELS))
    return Project(title="Storybook, nothing there", labels=ABSENT_LABELS, pictures=pictures)


def label_colours(labels: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """One RGB colour per label: grounds as in nature, things a golden angle of hue apart."""
    colours = {}
    for index, label in enumerate(labels):
        if label in GROUND_COLOURS:
            colours[label] = GROUND_COLOURS[label]
            continue
        lightness, saturation = ((0.55, 0.85), (0.38, 0.75), (0.72, 0.7))[index % 3]
        red, green, blue = colorsys.hls_to_rgb(index * 0.381966 % 1.0, lightness, saturation)
        colours[label] = (round(red * 255), round(green * 255), round(blue * 255))
    return colours


def _scenes(seed: int) -> Iterator[Picture]:
    index = 0
    while True:
        scene = make_scene(np.random.default_rng([HELD_OUT, seed, index]), SIZE)
        yield Picture(name=f"scene-{index:03d}.png", image=scene.image, truth=scene.masks())
        index += 1


def _take(
    count: int,
    pictures: Iterator[Picture],
    wanted: Callable[[Mapping[str, Mask]], bool] = lambda truth: True,
) -> tuple[Picture, ...]:
    """The first `count` pictures whose truth is wanted."""
    fitting = (picture for picture in pictures if wanted(picture.truth))
    return tuple(next(fitting) for _ in range(count))
