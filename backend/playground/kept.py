"""Pictures that somebody looks at, kept in memory for a while, and as a browser can show them."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ..errors import ImageTooLarge, PictureGone
from ..labelstudio.tasks import Task
from ..result_cache import ResultCache

MOST_BYTES = 256 * 1_000_000  # of all pictures kept, as they came and as they are shown
LONGEST_SHOWN = 4096  # pixels of the longer side of what a browser gets
LOSSLESS_PIXELS = 1_000_000  # up to this size it gets PNG, above JPEG
QUALITY = 90  # of the JPEG


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """One picture.

    data     the file as it came
    shown    PNG or JPEG, upright, at most `LONGEST_SHOWN` pixels long
    size_hw  of the picture as displayed
    page     of a file with several, from 1
    image    name of the Image tag that a task's picture belongs to
    task     where it is a task's of a connected project
    project  number and birth of that project: what was learnt there counts
    """

    id: str
    name: str
    data: bytes
    digest: str
    shown: bytes
    size_hw: tuple[int, int]
    page: int = 1
    image: str | None = None
    task: Task | None = None
    project: str | None = None

    @property
    def nbytes(self) -> int:
        return 1000 + len(self.data) + len(self.shown)

    @property
    def kind(self) -> str:
        """Media type of what is shown."""
        return "image/png" if self.shown.startswith(b"\x89PNG") else "image/jpeg"


class Shelf:
    """Safe to use from many threads; who was not asked for the longest goes first."""

    def __init__(self, *, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._pictures: ResultCache[Kept] = ResultCache(max_bytes=most_bytes)

    def put(
        self,
        data: bytes,
        pixels: UInt8[np.ndarray, "height width 3"],
        *,
        name: str,
        page: int = 1,
        image: str | None = None,
        task: Task | None = None,
        project: str | None = None,
    ) -> Kept:
        """Equal pictures of the same task have the same id. Raises ImageTooLarge."""
        digest = hashlib.sha256(data).hexdigest()
        whose = "" if task is None else f"{project} {task.id} {image} {page}"
        kept = Kept(
            id=hashlib.sha256(f"{digest} {whose}".encode()).hexdigest()[:20],
            name=name,
            data=data,
            digest=digest,
            shown=for_browsers(pixels),
            size_hw=(pixels.shape[0], pixels.shape[1]),
            page=page,
            image=image,
            task=task,
            project=project,
        )
        if kept.nbytes > self._most:
            raise ImageTooLarge(
                f"the picture takes {kept.nbytes / 1e6:.0f} MB, more than {self._most / 1e6:.0f}; "
                "use 'cliper segment' for it"
            )
        self._pictures.put(kept.id, kept)
        return kept

    def get(self, id: str) -> Kept:
        """Raises PictureGone."""
        kept = self._pictures.get(id)
        if kept is None:
            raise PictureGone
        return kept


def for_browsers(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """A file every browser shows, whatever the picture was; small ones without loss."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SHOWN, LONGEST_SHOWN), Image.Resampling.BOX)
    file = io.BytesIO()
    if pixels.shape[0] * pixels.shape[1] <= LOSSLESS_PIXELS:
        picture.save(file, "PNG", compress_level=3)
    else:
        picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
