"""TIFF beyond what a browser knows: many bands, deep pixels, planes, tiles, pages.

tifffile reads the tags. Strips and tiles are unpacked one at a time by Pillow's libtiff, each
wrapped as a small grey TIFF whose size is known: whatever is packed into it, no more comes out.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
import tifffile
from jaxtyping import Bool, Num, UInt8
from PIL import Image, TiffImagePlugin

from ..errors import ImageBroken, ImageTooLarge
from .upright import as_stored, blank
from .window import Window, to_8_bits, window_of

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
PREDICTED = (5, 8, 32946, 34925, 50000)  # LZW, deflate (two numbers), LZMA, Zstandard
UNPACKED = (1, 32773, *PREDICTED)  # and those as they are, or PackBits
LEFT_TO_PILLOW = (2, 3, 4, 6, 7, 50001)  # fax codes, JPEG, WebP
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # photometric interpretations
ALPHA = (1, 2)  # extra samples that say how opaque a pixel is
OF_BYTES = (1, 2, 6, 7)  # kinds of tags that stay bytes: text, profiles, notes
ORIENTATION, GDAL_NODATA = 274, 42113  # tags
SEPARATE_PLANES = 2
MOST_DIRECTORIES = 10_000  # pages, their small copies and their masks
MOST_TAGS = 100_000  # of all directories together
MOST_NUMBERS = 1_000_000  # in tags, of all together: strips or tiles; each takes 40 bytes as read
MOST_AT_ONCE = 1 << 30  # bytes of one strip or tile
MOST_PER_PIXEL = 64  # bytes: 16 bands of float32
PIXELS_AT_ONCE = 1 << 20  # pixels turned into 8 bits at the same time
BYTES_AT_ONCE = 1 << 26  # of all their bands, which may be thousands, also where none is stored


@dataclass(frozen=True, kw_only=True)
class Page:
    """One picture of the file, as its tags tell; nothing is unpacked yet."""

    data: bytes
    index: int  # among all directories of the file
    tags: tifffile.TiffPage
    byte_order: Literal["<", ">"]

    @property
    def size_hw(self) -> tuple[int, int]:
        return int(self.tags.imagelength), int(self.tags.imagewidth)

    @property
    def orientation(self) -> int:
        tag = self.tags.tags.get(ORIENTATION)
        found = tag.value if tag is not None else 1
        return int(found) if found in range(1, 9) else 1

    @property
    def is_plain(self) -> bool:
        """Whether its pixels are numbers in whole bytes, which `read` knows."""
        tags = self.tags
        return (
            tags.dtype is not None
            and tags.dtype.kind in "uif"
            and tags.bitspersample == 8 * tags.dtype.itemsize
            and tags.imagedepth == 1
            and tags.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
            and tags.compression not in LEFT_TO_PILLOW
        )


def handles(data: bytes) -> bool:
    return data.startswith(SIGNATURES)


@contextmanager
def opened(data: bytes, *, page: int) -> Iterator[Page]:
    """The `page`-th picture of the file, from 1; small copies and masks are no pages.

    Raises ImageBroken.
    """
    _refuse_endless_tags(data)
    try:
        file = tifffile.TiffFile(io.BytesIO(data))
    except Exception as error:  # the reader of damaged files raises whatever comes to it
        raise ImageBroken(f"the picture is truncated or damaged: {error}") from None
    with file:
        index, tags = _directory(file, page)
        yield Page(data=data, index=index, tags=tags, byte_order=file.byteorder)


def _refuse_endless_tags(data: bytes) -> None:
    """Count what the tags say they hold before anybody makes numbers of it: a few bytes can name
    the same megabytes again and again. Raises ImageBroken.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count, entry, place = (
        struct.Struct(order + one) for one in (("Q", "HHQ8x", "Q") if big else ("H", "HHI4x", "I"))
    )
    numbers = tags = directories = 0
    try:
        (here,) = place.unpack_from(data, 8 if big else 4)
        while here and directories < MOST_DIRECTORIES:
            directories += 1
            (many,) = count.unpack_from(data, here)
            tags += many
            if tags > MOST_TAGS:
                raise ImageBroken(f"the TIFF has more than {MOST_TAGS} tags")
            first, end = here + count.size, here + count.size + many * entry.size
            for _, kind, held in entry.iter_unpack(data[first:end]):
                if kind not in OF_BYTES:
                    numbers += held
            if numbers > MOST_NUMBERS:
                raise ImageBroken(f"the TIFF has more than {MOST_NUMBERS} numbers in its tags")
            (here,) = place.unpack_from(data, end)
    except struct.error:  # truncated: whoever reads it says so
        return


def _directory(file: tifffile.TiffFile, page: int) -> tuple[int, tifffile.TiffPage]:
    pages = 0
    for index, tags in enumerate(_tags(file)):
        if index and (tags.is_reduced or tags.is_mask):
            continue
        pages += 1
        if pages == page:
            return index, tags
    if not pages:
        raise ImageBroken("the picture is truncated or damaged: it has no readable directory")
    raise no_such_page(page, pages)


def _tags(file: tifffile.TiffFile) -> Iterator[tifffile.TiffPage]:
    for index in range(MOST_DIRECTORIES):
        try:
            found = file.pages[index]
        except IndexError:
            return
        if not isinstance(found, tifffile.TiffPage):
            raise ImageBroken("the picture is truncated or damaged: a page has no tags")
        yield found
    raise ImageBroken(f"the TIFF has more than {MOST_DIRECTORIES} directories")


def no_such_page(page: int, pages: int) -> ImageBroken:
    """Page `page` is asked of a picture with `pages` of them."""
    count = "1 page" if pages == 1 else f"{pages} pages"
    return ImageBroken(f"page {page} was asked for, but the picture has {count}")


class CheckedTiff(TiffImagePlugin.TiffImageFile):
    """Its size has been checked: Pillow's own limit, one for the whole process, is not asked."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size).im
        super().load_prepare()


# -- plain numbers -> RGB -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which bands are shown, and how strips or tiles lie."""

    bands: tuple[int, ...]  # three colours or one grey, then alpha if there is any
    has_alpha: bool
    separate: bool
    cell_hw: tuple[int, int]  # of one strip or tile
    is_tiled: bool
    across: int  # strips or tiles side by side
    per_plane: int

    @property
    def shown(self) -> int:
        """How many bands are colours or grey."""
        return len(self.bands) - self.has_alpha


def read(page: Page, *, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    """A page whose pixels are plain numbers, upright, RGB.

    Of more than three bands the first three are shown, of two the first, as grey. Deep
    pixels go through one window over all bands shown, so that colours keep their relation;
    pixels the file calls missing (GDAL's NODATA, or not a number) are black.
    Memory: the result (3 bytes per pixel) and one strip or tile; packed deep pixels are
    unpacked twice, once for the window. Raises ImageBroken, ImageTooLarge.
    """
    _check(page, max_pixels=max_pixels)
    layout = _layout(page)
    window = None
    if page.tags.dtype != np.uint8:
        missing = _missing(page)
        height, width = page.size_hw
        values = (
            block[..., : layout.shown][_present(block, layout, missing)]
            for _, block in _blocks(page, layout)
        )
        window = window_of(values, total=height * width * layout.shown)
    upright = blank(page.size_hw, page.orientation)
    stored = as_stored(upright, page.orientation)
    for (top, left), block in _blocks(page, layout):
        rows, columns = block.shape[:2]
        stored[top : top + rows, left : left + columns] = _shown(page, block, layout, window)
    return upright


def _check(page: Page, *, max_pixels: int) -> None:
    tags = page.tags
    if tags.compression not in UNPACKED:
        name = getattr(tags.compression, "name", tags.compression)
        raise ImageBroken(
            f"the TIFF is packed with {name}, which cannot be read here; save it with deflate, "
            "LZW or unpacked"
        )
    height, width = page.size_hw
    assert tags.dtype is not None  # `is_plain` said so
    whole = height * width * tags.samplesperpixel * tags.dtype.itemsize
    if whole > MOST_PER_PIXEL * max_pixels:
        raise ImageTooLarge(
            f"the TIFF unpacks to {whole / 1e9:.1f} GB, more than "
            f"{MOST_PER_PIXEL * max_pixels / 1e9:.1f} GB; keep three bands, or fewer pixels"
        )


def _layout(page: Page) -> _Layout:
    tags = page.tags
    samples = int(tags.samplesperpixel)
    extra = tuple(int(kind) for kind in tags.extrasamples)[-samples:]
    alphas = [samples - len(extra) + place for place, kind in enumerate(extra) if kind in ALPHA]
    colours = [band for band in range(samples) if band not in alphas[:1]]
    shown = colours[:3] if len(colours) >= 3 else colours[:1]
    if not shown:
        raise ImageBroken("the picture is damaged: it has no band but transparency")
    height, width = page.size_hw
    if tags.is_tiled:
        cell_hw = (int(tags.tilelength), int(tags.tilewidth))
    else:
        cell_hw = (min(int(tags.rowsperstrip), height), width)
    if min(cell_hw) < 1:
        raise ImageBroken("the picture is damaged: its strips or tiles have no size")
    down, across = ceil(height / cell_hw[0]), ceil(width / cell_hw[1])
    return _Layout(
        bands=(*shown, *alphas[:1]),
        has_alpha=bool(alphas),
        separate=tags.planarconfig == SEPARATE_PLANES and samples > 1,
        cell_hw=cell_hw,
        is_tiled=bool(tags.is_tiled),
        across=across,
        per_plane=down * across,
    )


def _missing(page: Page) -> np.ndarray | None:
    """The value that means "nothing measured here", as a pixel would hold it."""
    tag = page.tags.tags.get(GDAL_NODATA)
    dtype = page.tags.dtype
    assert dtype is not None  # `is_plain` said so
    try:
        number = float(str(tag.value).strip(" \0")) if tag is not None else np.nan
        with np.errstate(all="raise"):
            value = np.array(number).astype(dtype)
    except (ValueError, FloatingPointError):
        return None
    return value if np.isfinite(number) and (dtype.kind == "f" or value == number) else None


def _present(
    block: Num[np.ndarray, "rows columns bands"], layout: _Layout, missing: np.ndarray | None
) -> Bool[np.ndarray, "rows columns shown"]:
    """Which values of the shown bands mean something."""
    shown = block[..., : layout.shown]
    present = np.isfinite(shown)
    if missing is not None:
        present &= shown != missing
    if layout.has_alpha:
        present &= block[..., -1:] > 0
    return present


def _shown(
    page: Page,
    block: Num[np.ndarray, "rows columns bands"],
    layout: _Layout,
    window: Window | None,
) -> UInt8[np.ndarray, "rows columns shown"]:
    """A piece as 8 bits on white paper: three bands, or one that stands for all."""
    values = block[..., : layout.shown]
    pixels = values if window is None else to_8_bits(values, window)
    if page.tags.photometric == WHITE_IS_ZERO:
        pixels = 255 - pixels
    if window is not None:
        missing = _missing(page)
        pixels = np.where(np.isnan(values), np.uint8(0), pixels)
        if missing is not None:
            pixels = np.where(values == missing, np.uint8(0), pixels)
    if layout.has_alpha:
        opaque = block[..., -1:] / _most(block.dtype)
        associated = ALPHA[0] in page.tags.extrasamples  # colours are multiplied already
        ink = pixels * (1.0 if associated else opaque)
        pixels = np.clip(np.rint(ink + (1.0 - opaque) * 255), 0, 255).astype(np.uint8)
    return pixels


def _most(dtype: np.dtype) -> float:
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


# -- strips and tiles -----------------------------------------------------------------


def _blocks(
    page: Page, layout: _Layout
) -> Iterator[tuple[tuple[int, int], Num[np.ndarray, "rows columns bands"]]]:
    """((top, left), values) of pieces that together cover the page once."""
    height, width = page.size_hw
    cell_height, cell_width = layout.cell_hw
    samples = 1 if layout.separate else int(page.tags.samplesperpixel)
    assert page.tags.dtype is not None  # `is_plain` said so
    row_bytes = cell_width * samples * page.tags.dtype.itemsize
    if row_bytes > MOST_AT_ONCE:
        raise ImageTooLarge("one row of the TIFF unpacks to more than 1 GiB")
    step = max(1, min(PIXELS_AT_ONCE // cell_width, BYTES_AT_ONCE // row_bytes))
    for number in range(layout.per_plane):
        top = number // layout.across * cell_height
        left = number % layout.across * cell_width
        inside = min(cell_height, height - top)
        size_hw = (cell_height if layout.is_tiled else inside, cell_width)
        if layout.separate:
            raws = [
                _raw(page, band * layout.per_plane + number, size_hw, samples)
                for band in layout.bands
            ]
        else:
            raws = [_raw(page, number, size_hw, samples)]
        for first in range(0, inside, step):
            rows = min(step, inside - first)
            shape = (rows, cell_width, samples)
            parts = [_values(page, raw, first, shape) for raw in raws]
            whole = np.concatenate(parts, -1) if layout.separate else parts[0]
            block = whole if layout.separate else whole[..., list(layout.bands)]
            yield (top + first, left), block[:, : width - left]


def _raw(
    page: Page, number: int, size_hw: tuple[int, int], samples: int
) -> UInt8[np.ndarray, "rows row_bytes"] | None:
    """The bytes of one strip or tile; None where the file leaves it out."""
    tags = page.tags
    assert tags.dtype is not None  # `is_plain` said so
    if number >= min(len(tags.dataoffsets), len(tags.databytecounts)):
        raise ImageBroken("the picture is truncated or damaged: strips or tiles are not listed")
    start, count = int(tags.dataoffsets[number]), int(tags.databytecounts[number])
    if count == 0:
        return None
    rows, row_bytes = size_hw[0], size_hw[1] * samples * tags.dtype.itemsize
    if rows * row_bytes > MOST_AT_ONCE:
        raise ImageTooLarge("one strip or tile of the TIFF unpacks to more than 1 GiB")
    packed = memoryview(page.data)[start : start + count]
    if len(packed) < count or (tags.compression == 1 and count < rows * row_bytes):
        raise ImageBroken("the picture is truncated or damaged: it ends within its pixels")
    if tags.compression == 1:
        return np.frombuffer(packed, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    return _unpacked(bytes(packed), int(tags.compression), int(tags.fillorder), rows, row_bytes)


def _values(
    page: Page,
    raw: UInt8[np.ndarray, "all_rows row_bytes"] | None,
    first: int,
    shape: tuple[int, int, int],
) -> Num[np.ndarray, "rows columns samples"]:
    """Some rows of a strip or tile as numbers, in this machine's byte order."""
    tags = page.tags
    assert tags.dtype is not None  # `is_plain` said so
    if raw is None:  # GDAL leaves out where nothing was measured
        missing = _missing(page)
        return np.full(shape, 0 if missing is None else missing, tags.dtype)
    predictor = int(tags.predictor) if tags.compression in PREDICTED else 1
    dtype = tags.dtype.newbyteorder(page.byte_order)
    return _unpredicted(raw[first : first + shape[0]], predictor, dtype, shape)


def _unpacked(
    packed: bytes, compression: int, fill_order: int, rows: int, row_bytes: int
) -> UInt8[np.ndarray, "rows row_bytes"]:
    """Unpack one strip as if it were a grey picture of bytes."""
    entries = [  # tag, type (3: uint16, 4: uint32), value
        (256, 4, row_bytes), (257, 4, rows), (258, 3, 8), (259, 3, compression),
        (262, 3, BLACK_IS_ZERO), (266, 3, fill_order), (273, 4, 8), (277, 3, 1), (278, 4, rows),
        (279, 4, len(packed)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    body = packed + b"\0" * (len(packed) % 2)
    small = struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory + bytes(4)
    with CheckedTiff(io.BytesIO(small), "") as image:
        return np.asarray(image)


def _unpredicted(
    raw: UInt8[np.ndarray, "rows row_bytes"],
    predictor: int,
    dtype: np.dtype,
    shape: Sequence[int],
) -> Num[np.ndarray, "rows columns samples"]:
    """Undo the differences a writer took to pack better (TIFF 6.0, section 14; supplement 3)."""
    native = dtype.newbyteorder("=")
    rows, columns, samples = shape
    if predictor == 1:
        return np.ascontiguousarray(raw).view(dtype).reshape(shape).astype(native, copy=False)
    if predictor == 2:
        word = np.dtype(f"u{dtype.itemsize}")
        steps = np.ascontiguousarray(raw).view(word.newbyteorder(dtype.byteorder)).reshape(shape)
        return np.cumsum(steps, axis=1, dtype=word).view(native)
    if predictor == 3 and dtype.kind == "f":
        steps = raw.reshape(rows, columns * dtype.itemsize, samples)
        planes = np.cumsum(steps, axis=1, dtype=np.uint8)
        planes = planes.reshape(rows, dtype.itemsize, columns * samples)  # highest byte first
        whole = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
        return whole.reshape(shape).astype(native)
    raise ImageBroken(f"the TIFF is packed with predictor {predictor}, which cannot be read here")
