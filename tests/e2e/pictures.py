"""Pictures of plain colours with exact truth, for a service whose words are colours."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.doubles.pictures import COLOURS

GREY = (120, 120, 120)
ORIENTATION = 0x0112  # EXIF tag
TURN_LEFT = 6  # "rotate 90 degrees clockwise to display"

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""


@dataclass(frozen=True, kw_only=True)
class ColourPicture:
    """A grey picture with one box per colour word."""

    size_hw: tuple[int, int]
    boxes: Mapping[str, Box]

    @property
    def image(self) -> np.ndarray:
        """RGB, uint8 [H, W, 3], as displayed."""
        image = np.full((*self.size_hw, 3), GREY, np.uint8)
        for word, (left, top, right, bottom) in self.boxes.items():
            image[top:bottom, left:right] = COLOURS[word]
        return image

    def truth(self, word: str) -> np.ndarray:
        """Where the word is, bool [H, W]."""
        mask = np.zeros(self.size_hw, bool)
        if word in self.boxes:
            left, top, right, bottom = self.boxes[word]
            mask[top:bottom, left:right] = True
        return mask

    def to_png(self) -> bytes:
        file = io.BytesIO()
        Image.fromarray(self.image).save(file, "PNG")
        return file.getvalue()

    def to_rotated_jpeg(self) -> bytes:
        """Stored lying on its side; the EXIF orientation says how to show it."""
        stored = Image.fromarray(np.rot90(self.image))
        exif = stored.getexif()
        exif[ORIENTATION] = TURN_LEFT
        file = io.BytesIO()
        stored.save(file, "JPEG", exif=exif, quality=95, subsampling=0)
        return file.getvalue()


TWO_BOXES = ColourPicture(
    size_hw=(240, 320), boxes={"red": (30, 40, 150, 120), "blue": (180, 150, 300, 220)}
)
ONE_BOX = ColourPicture(size_hw=(200, 150), boxes={"red": (20, 60, 120, 160)})
NO_BOX = ColourPicture(size_hw=(120, 180), boxes={})


def brush_config(labels: Sequence[str], *, aliases: Mapping[str, str] | None = None) -> str:
    """A label config with one brush tag; every label is painted in green or yellow shades."""
    paints = ("#FFFF00", "#00FF00", "#00FFFF", "#FF00FF")
    lines = [
        f'<Label value="{label}" background="{paint}"'
        + (f' alias="{aliases[label]}"' if aliases and label in aliases else "")
        + "/>"
        for label, paint in zip(labels, paints, strict=False)
    ]
    return (
        '<View><Image name="photo" value="$image"/><BrushLabels name="masks" toName="photo">'
        f"{''.join(lines)}</BrushLabels></View>"
    )
