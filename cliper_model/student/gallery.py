"""Training pictures and, where people annotated, their label maps; read one at a time."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image as PilImage
from PIL import ImageOps

from .errors import BrokenPicture, CheckpointDiffers, NothingToLearn
from .labels import IGNORE, UNLABELLED, hide_unlabelled
from .teachers import Teacher
from .words import StudentWords

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
MASK_ENDINGS: Final = (".labels.png", ".png")
PNG_NOTHING: Final = 0  # in a label map: nobody annotated this pixel
PNG_BACKGROUND: Final = 254  # in a label map: none of the labels


@dataclass(frozen=True)
class Gallery:
    """Pictures with the annotation each may have, as class numbers of `words`.

    unlabelled  class numbers whose annotation is hidden, as in the zero-shot protocol
    """

    pictures: tuple[Path, ...]
    masks: Mapping[Path, Path]
    words: StudentWords
    unlabelled: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.pictures:
            raise NothingToLearn("give a folder with at least one picture")

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def annotated(self) -> bool:
        return bool(self.masks)

    @property
    def asked(self) -> tuple[int, ...]:
        """Class numbers a pseudo label may be: the unlabelled ones, or every name."""
        return self.unlabelled or tuple(range(self.words.first, self.words.classes))

    @property
    def digest(self) -> str:
        """SHA-256 over names and sizes in bytes of pictures and label maps."""
        files = [
            (file.name, file.stat().st_size)
            for picture in self.pictures
            for file in (picture, self.masks.get(picture))
            if file is not None
        ]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    def picture(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB, upright. Raises BrokenPicture."""
        path = self.pictures[index]
        try:
            with PilImage.open(path) as image:
                upright = ImageOps.exif_transpose(image)
                return np.asarray(upright.convert("RGB"))
        except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError) as error:
            raise BrokenPicture(path, f"it cannot be read ({error})") from error

    def annotation(self, index: int, size_hw: tuple[int, int]) -> Int[np.ndarray, "height width"]:
        """Class numbers, -1 where a pseudo label is wanted, 255 where nothing is learned.

        Raises BrokenPicture for a label map of another size or with unknown values.
        """
        path = self.masks.get(self.pictures[index])
        if path is None:
            return np.full(size_hw, UNLABELLED, np.int64)
        values = _read_label_map(path)
        if values.shape != size_hw:
            raise BrokenPicture(
                path,
                f"it is {values.shape[1]} x {values.shape[0]} pixels, its picture "
                f"{size_hw[1]} x {size_hw[0]}",
            )
        return hide_unlabelled(self._numbers(values, path), self.unlabelled)

    def _numbers(
        self, values: UInt8[np.ndarray, "height width"], path: Path
    ) -> Int[np.ndarray, "height width"]:
        """Values of the file -> class numbers."""
        count = len(self.words.names)
        table = np.full(256, -2, np.int64)
        table[PNG_NOTHING] = UNLABELLED
        table[1 : count + 1] = np.arange(count) + self.words.first
        table[IGNORE] = IGNORE
        if self.words.background:
            table[PNG_BACKGROUND] = 0
        numbers = table[values]
        if (numbers == -2).any():
            stranger = int(values[numbers == -2].min())
            raise BrokenPicture(path, f"value {stranger} stands for none of the {count} labels")
        return numbers


def find_pictures(folder: Path) -> tuple[Path, ...]:
    """All pictures of a folder and its subfolders, in order. Raises NothingToLearn.

    Files named like masks (`scene__house.png`) or label maps (`scene.labels.png`) are no pictures.
    """
    if not folder.is_dir():
        raise NothingToLearn(f"give a folder with pictures: {folder} is none")
    found = tuple(
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and "__" not in path.stem
        and not path.name.endswith((".labels.png", ".overlay.png"))
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise NothingToLearn(f"give a folder with pictures: {folder} has none")
    return found


def find_masks(folder: Path, pictures: Sequence[Path], *, root: Path) -> dict[Path, Path]:
    """Label maps `NAME.labels.png` or `NAME.png` of pictures named `NAME`, by picture.

    Subfolders below `root` are looked for below `folder` too. Raises NothingToLearn where no
    picture has any.
    """
    masks: dict[Path, Path] = {}
    for picture in pictures:
        place = folder / picture.relative_to(root)
        for ending in MASK_ENDINGS:
            mask = place.with_name(place.stem + ending)
            if mask.is_file() and mask.resolve() != picture.resolve():
                masks[picture] = mask
                break
    if not masks:
        raise NothingToLearn(
            f"name label maps like their pictures, NAME.labels.png or NAME.png: {folder} has "
            f"none for {pictures[0].name}"
        )
    return masks


class CachedLabels:
    """One pseudo label map per whole picture, on disk, so that a teacher looks only once.

    Not the published scheme, in which the teacher sees every augmented crop: much cheaper, and
    a crop's labels are cut out of the picture's.
    """

    def __init__(self, folder: Path, *, fingerprint: str) -> None:
        """Removes what killed savings left in the folder.

        Raises CheckpointDiffers for a folder of another teacher, words or pictures.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / "labels.json"
        if note.is_file():
            stored = json.loads(note.read_text(encoding="utf-8")).get("fingerprint")
            if stored != fingerprint:
                raise CheckpointDiffers(
                    f"labels, teacher and pictures as {folder}", stored, fingerprint
                )
        else:
            _write_whole(note, json.dumps({"fingerprint": fingerprint}).encode())
        for half in folder.glob("*.partial"):
            half.unlink(missing_ok=True)

    def fill(
        self,
        gallery: Gallery,
        teacher: Teacher,
        *,
        report: Callable[[int], None],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Ask the teacher for every picture that has no labels yet.

        `should_stop` is asked before each of them; False says that it stopped the filling.
        What was labelled until then is kept.
        """
        for index in range(len(gallery)):
            path = self._path(index)
            if not path.is_file():
                if should_stop():
                    return False
                picture = gallery.picture(index)
                annotation = gallery.annotation(index, (picture.shape[0], picture.shape[1]))
                numbers = teacher.fill(picture, annotation)
                numbers = np.where(numbers == UNLABELLED, IGNORE, numbers).astype(np.uint8)
                partial = path.with_suffix(f".{os.getpid()}.partial")
                PilImage.fromarray(numbers).save(partial, format="PNG")
                partial.replace(path)
            report(index + 1)
        return True

    def labels(self, index: int) -> Int[np.ndarray, "height width"]:
        """Class numbers and 255; raises BrokenPicture."""
        return _read_label_map(self._path(index)).astype(np.int64)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.png"


def _read_label_map(path: Path) -> UInt8[np.ndarray, "height width"]:
    try:
        with PilImage.open(path) as image:
            if image.mode not in ("L", "P"):
                raise BrokenPicture(path, f"a label map has one 8-bit channel, not {image.mode}")
            return np.asarray(image).astype(np.uint8)
    except OSError as error:
        raise BrokenPicture(path, f"it cannot be read ({error})") from error


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
