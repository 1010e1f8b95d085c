"""Bytes -> the picture as a browser shows it: first frame, upright, RGB.

Where a browser shows nothing, or nearly black, we do better: TIFF of all kinds (`tiff.py`), and
deep grey pixels through a window (`window.py`).
"""

import io
import struct
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageFile

from ..errors import ImageBroken, ImageError, ImageTooLarge
from . import heic, tiff
from .upright import as_stored, blank, orientation_of
from .window import to_8_bits, window_of

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "PPM", "MPO")
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")
JPEG2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
PAPER = (255, 255, 255)  # what shines through transparent pixels
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
STRIP = 1 << 20  # pixels converted at the same time


def decode(data: bytes, *, max_pixels: int, page: int = 1) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, or the `page`-th of a TIFF with several, from 1.

    Memory, beside the file: 7 bytes per pixel at the peak, 3 of them the result, whatever the
    orientation (12,000 x 9,000 pixels: 772 MB, measured); 10 for a progressive JPEG whose
    colours are as fine as its light; 3 and a strip or tile for a TIFF of plain numbers.

    Raises ImageBroken for anything that is not one whole picture, ImageTooLarge.
    """
    if not data:
        raise ImageBroken("the file is empty (0 bytes)")
    if page < 1:
        raise ValueError(f"pages count from 1, got {page}")
    try:
        if tiff.handles(data):
            return _tiff(data, page=page, max_pixels=max_pixels)
        if page > 1:
            raise tiff.no_such_page(page, 1)
        with heic.opened(data) if heic.handles(data) else _opened(data) as image:
            return _shown(image, max_pixels=max_pixels)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge("the picture has far too many pixels to be opened safely") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever comes to them
        raise ImageBroken(f"the picture is truncated or damaged: {error}") from None


def _opened(data: bytes) -> ImageFile.ImageFile:
    """The picture, not unpacked yet. Raises ImageBroken.

    Not `Image.open`: it holds pictures against a limit of its own, one for the whole process,
    and warns long before ours is reached.
    """
    Image.init()
    for name in FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))
        accepted = factory is not None and (accepts is None or accepts(data[:16]))
        if factory is None or not accepted or isinstance(accepted, str):  # a text says why not
            continue
        try:
            return factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # not this format after all
            continue
    raise ImageBroken(_why_unknown(data))


def _tiff(data: bytes, *, page: int, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    with tiff.opened(data, page=page) as found:
        _check_size(found.size_hw, max_pixels)
        if found.is_plain:
            return tiff.read(found, max_pixels=max_pixels)
        try:
            image = tiff.CheckedTiff(io.BytesIO(data), "")
            image.seek(found.index)
        except SyntaxError:
            tags = found.tags
            raise ImageBroken(
                f"the TIFF has pixels of a kind that cannot be read here: {tags.samplesperpixel} "
                f"x {tags.bitspersample} bits, {getattr(tags.photometric, 'name', '?')}, "
                f"{getattr(tags.compression, 'name', '?')}"
            ) from None
    with image:
        return _shown(image, max_pixels=max_pixels)


def _shown(image: ImageFile.ImageFile, *, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    """Unpack and convert strip by strip, each written to where it lies in the upright picture."""
    _check_size(image.size[::-1], max_pixels)
    image.load()
    size_hw = image.size[::-1]  # some formats know it only now
    _check_size(size_hw, max_pixels)
    orientation = orientation_of(image)
    upright = blank(size_hw, orientation)
    stored = as_stored(upright, orientation)
    convert = _by_window(image) if _is_deep(image) else _to_rgb
    for top, strip in _strips(image):
        stored[top : top + strip.height] = convert(strip)
    return upright


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    width, height = image.size
    step = max(1, STRIP // width)
    for top in range(0, height, step):
        yield top, image.crop((0, top, width, min(top + step, height)))


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _by_window(image: Image.Image) -> Callable[[Image.Image], UInt8[np.ndarray, "rows width 1"]]:
    """How strips of this deep grey picture become 8 bits; measures all of it first."""
    hidden = image.info.get("transparency")  # one value, in PNG

    def inked(strip: Image.Image) -> Shaped[np.ndarray, " n"]:
        values = np.asarray(strip)
        return values[values != hidden] if isinstance(hidden, int) else values.ravel()

    width, height = image.size
    window = window_of((inked(strip) for _, strip in _strips(image)), total=width * height)

    def convert(strip: Image.Image) -> UInt8[np.ndarray, "rows width 1"]:
        values = np.asarray(strip)
        pixels = to_8_bits(values, window)
        if isinstance(hidden, int):
            pixels[values == hidden] = PAPER[0]
        return pixels[..., np.newaxis]

    return convert


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if image.mode in TRANSPARENT or "transparency" in image.info:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Image.new("RGB", layer.size, PAPER)
        paper.paste(layer, mask=layer)
        return np.asarray(paper)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _check_size(size_hw: tuple[int, int], max_pixels: int) -> None:
    """Raises ImageTooLarge, and ImageBroken for a picture without pixels."""
    height, width = size_hw
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the picture has {width} x {height} pixels, more than {max_pixels / 1_000_000:g} "
            "megapixels (MAX_IMAGE_MEGAPIXELS)"
        )
    if width < 1 or height < 1:
        raise ImageBroken("the picture has no pixels")


def _why_unknown(data: bytes) -> str:
    """Judged by what the file holds; what a server called it has no say."""
    if data.startswith(SIGNATURES):
        return "the picture is truncated or damaged: its header is not complete"
    beginning = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        return "the file is not a picture but a web page; is LABEL_STUDIO_API_KEY right?"
    if beginning.startswith(b"<") and b"<svg" in beginning:
        return "the file is an SVG drawing, a text that may name other files; store it as PNG"
    if beginning.startswith(b"<"):
        return "the file is not a picture but a text in XML or HTML"
    if data.startswith(JPEG2000):
        return "the file is JPEG 2000, which browsers do not show either; store it as PNG"
    return "the file is not a picture of a known format"
