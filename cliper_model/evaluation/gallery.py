"""The worst pictures of a run, kept small on disk: picture, prediction and truth side by side."""

import heapq
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image as PilImage

from ..stages.decide import voc_palette
from .confusion import IGNORED, image_miou
from .records import Record

FOLDER: Final = "worst"
MOST: Final = 24
HEIGHT: Final = 160  # pixels of a strip
GAP: Final = 4
PAPER: Final = 255


class Gallery:
    """Keeps the strips of the `MOST` pictures with the lowest mIoU of their own.

    Ties go to the smaller index, so that any order of pictures keeps the same ones.
    """

    def __init__(self, out: Path, labels: int, *, most: int = MOST) -> None:
        self.folder, self.labels, self.most = out / FOLDER, labels, most
        self._kept: list[tuple[float, int]] = []  # heap: the best of the worst comes first

    def begin(self, records: Iterable[Record]) -> None:
        """Take up where an earlier run stopped."""
        for key in worst_of(records, most=self.most):
            heapq.heappush(self._kept, (-key[0], -key[1]))

    def offer(
        self,
        record: Record,
        image: UInt8[np.ndarray, "height width 3"],
        truth: Int[np.ndarray, "height width"],
        predicted: Int[np.ndarray, "height width"],
    ) -> None:
        """Write the picture's strip if it is among the worst so far."""
        miou = image_miou(record.confusion)
        if math.isnan(miou):
            return
        key = (-miou, -record.index)
        kept = [one for one in self._kept if one[1] != key[1]]
        if len(kept) >= self.most:
            if key < min(kept):
                return
            heapq.heapify(kept)
            _, gone = heapq.heappop(kept)
            strip_path(self.folder.parent, -gone).unlink(missing_ok=True)
        heapq.heappush(kept, key)
        self._kept = kept
        self.folder.mkdir(exist_ok=True)
        strip = draw(image, truth, predicted, labels=self.labels)
        strip.save(strip_path(self.folder.parent, record.index))

    def finish(self, records: Iterable[Record]) -> None:
        """Drop strips of pictures that are not among the worst after all."""
        wanted = {index for _, index in worst_of(records, most=self.most)}
        for path in self.folder.glob("*.png"):
            if path.stem.isdigit() and int(path.stem) not in wanted:
                path.unlink()


def worst_of(records: Iterable[Record], *, most: int = MOST) -> list[tuple[float, int]]:
    """(mIoU of the picture, its index), the worst first."""
    scored = (
        (image_miou(record.confusion), record.index) for record in records if record.failed is None
    )
    return heapq.nsmallest(most, (one for one in scored if not math.isnan(one[0])))


def collect(folders: Sequence[Path], records: Iterable[Record], out: Path) -> None:
    """Copy the strips of the worst pictures of all shards into one folder."""
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    for _, index in worst_of(records):
        for folder in folders:
            strip = strip_path(folder, index)
            if strip.is_file():
                shutil.copyfile(strip, strip_path(out, index))


def strip_path(out: Path, index: int) -> Path:
    return out / FOLDER / f"{index:06d}.png"


def draw(
    image: UInt8[np.ndarray, "height width 3"],
    truth: Int[np.ndarray, "height width"],
    predicted: Int[np.ndarray, "height width"],
    *,
    labels: int,
) -> PilImage.Image:
    """Picture, prediction, truth, from left to right; what is not counted is light grey."""
    palette = voc_palette(labels)
    shown = palette[np.where(truth == IGNORED, 0, truth)]
    shown[truth == IGNORED] = (224, 224, 224)
    height, width = truth.shape
    size_wh = (max(1, round(width * HEIGHT / height)), HEIGHT)
    panels = [
        PilImage.fromarray(image).resize(size_wh, PilImage.Resampling.BILINEAR),
        PilImage.fromarray(palette[predicted]).resize(size_wh, PilImage.Resampling.NEAREST),
        PilImage.fromarray(shown).resize(size_wh, PilImage.Resampling.NEAREST),
    ]
    strip = PilImage.new("RGB", (3 * size_wh[0] + 2 * GAP, HEIGHT), (PAPER,) * 3)
    for place, panel in enumerate(panels):
        strip.paste(panel, (place * (size_wh[0] + GAP), 0))
    return strip
