"""HEIC, the format of phones: needs the extra package `pillow_heif`."""

import io

from PIL import ImageFile

from ..errors import ImageBroken

BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
AVIF = frozenset({b"avif", b"avis"})  # same container; Pillow reads it
MOST_BRANDS = 64


def handles(data: bytes) -> bool:
    """Whether the file says it is HEIC: its first box lists the brands it belongs to."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), len(data), 16 + 4 * MOST_BRANDS)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    return bool(brands & BRANDS) and not brands & AVIF


def opened(data: bytes) -> ImageFile.ImageFile:
    """The picture, not unpacked yet; upright once it is. Raises ImageBroken.

    The plug-in's class is used as it is: nothing is registered for the whole process.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageBroken(
            "the picture is a HEIC file, which needs an extra package: "
            "pip install cliper-label-studio[heic]"
        ) from None
    image: ImageFile.ImageFile = HeifImageFile(io.BytesIO(data))
    return image
