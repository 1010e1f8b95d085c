"""Small pictures whose masks are known."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}


def stripes(*names: str, height: int = 6, width: int = 4) -> np.ndarray:
    """Vertical stripes, each `width` wide: uint8 [height, width * stripes, 3]."""
    columns = [np.full((height, width, 3), COLOURS[name], np.uint8) for name in names]
    return np.concatenate(columns, axis=1)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file of some format."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def striped_png(*names: str) -> bytes:
    return encoded(stripes(*names))


def brush_config(labels: Sequence[str] = ("red", "green"), attributes: str = "") -> str:
    """A project that asks for these labels on `$image`."""
    inside = "".join(f'<Label value="{label}"/>' for label in labels)
    return (
        f'<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="seg" toName="image" {attributes}>{inside}</BrushLabels></View>'
    )
