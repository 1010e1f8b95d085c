"""Bytes -> the picture as a browser shows it: first frame, upright, RGB."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageBroken, ImageError, ImageTooLarge

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "MPO")
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
PAPER = (255, 255, 255)  # what shines through transparent pixels


def decode(data: bytes, *, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    """Raises ImageBroken for anything that is not one whole picture, ImageTooLarge."""
    if not data:
        raise ImageBroken("the file is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=_known()) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise _too_large(width, height, max_pixels)
            opened.load()
            return np.asarray(_to_rgb(_upright(opened)))
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge("the picture has far too many pixels to be opened safely") from None
    except UnidentifiedImageError:
        raise ImageBroken(_why_unknown(data)) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever comes to them
        raise ImageBroken(f"the picture is truncated or damaged: {error}") from None


def _known() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation: Label Studio's coordinates refer to the upright picture."""
    ImageOps.exif_transpose(image, in_place=True)  # no second copy of what lies right already
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageBroken("pictures with floating point pixels cannot be shown or segmented")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Image.new("RGB", layer.size, PAPER)
        paper.paste(layer, mask=layer)
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _too_large(width: int, height: int, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"the picture has {width} x {height} pixels, more than {max_pixels / 1_000_000:g} "
        "megapixels (MAX_IMAGE_MEGAPIXELS)"
    )


def _why_unknown(data: bytes) -> str:
    if data.startswith(SIGNATURES):
        return "the picture is truncated or damaged: its header is not complete"
    if data[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "the file is not a picture but a web page; is LABEL_STUDIO_API_KEY right?"
    return "the file is not a picture of a known format"
