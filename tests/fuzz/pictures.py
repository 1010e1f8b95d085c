"""Small picture files of every format that is read, and ways to break them that get far in.

Random bytes rarely pass a checksum, so checksums of PNG chunks are made right again; and headers
that claim far more pixels than there are bytes are written on purpose.
"""

import functools
import io
import struct
import zlib
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import tifffile
from PIL import Image, features

from .mutate import bytes_mutated

PNG = b"\x89PNG\r\n\x1a\n"
SIDES = (0, 1, 2, 0x7FFF, 0xFFFF, 100_000, 0x7FFF_FFFF, 0xFFFF_FFFF)  # pixels a header may claim


def _painted(height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


@functools.cache
def files() -> Mapping[str, bytes]:
    """Whole pictures by what they are."""
    rgb = Image.fromarray(_painted())
    grey, deep = rgb.convert("L"), (_painted()[..., 0].astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = rgb.convert("RGBA")
    clear.putalpha(grey)
    found = {
        "png": _saved(rgb, "PNG", exif=exif),
        "png-1": _saved(rgb.convert("1"), "PNG"),
        "png-p": _saved(rgb.convert("P"), "PNG", transparency=3),
        "png-la": _saved(clear.convert("LA"), "PNG"),
        "png-rgba": _saved(clear, "PNG"),
        "png-16": _saved(Image.fromarray(deep), "PNG"),
        "jpeg": _saved(rgb, "JPEG", exif=exif),
        "jpeg-l": _saved(grey, "JPEG"),
        "jpeg-cmyk": _saved(rgb.convert("CMYK"), "JPEG"),
        "jpeg-progressive": _saved(rgb, "JPEG", progressive=True, subsampling=0),
        "gif": _saved(rgb.convert("P"), "GIF", save_all=True, append_images=[grey.convert("P")]),
        "webp": _saved(rgb, "WEBP"),
        "webp-lossless": _saved(clear, "WEBP", lossless=True),
        "webp-moving": _saved(rgb, "WEBP", save_all=True, append_images=[clear.convert("RGB")]),
        "bmp": _saved(rgb, "BMP"),
        "bmp-p": _saved(rgb.convert("P"), "BMP"),
        "ppm": _saved(rgb, "PPM"),
        "pgm-plain": b"P2 3 2 255 0 1 2 3 4 255",
        "mpo": _saved(rgb, "MPO", save_all=True, append_images=[rgb]),
        "tiff": _tiff(_painted()),
        "tiff-deflate": _tiff(_painted(), compression="zlib", predictor=2, rowsperstrip=3),
        "tiff-lzw": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": _saved(rgb, "TIFF", compression="jpeg"),
        "tiff-packbits": _saved(grey, "TIFF", compression="packbits"),
        "tiff-fax": _saved(rgb.convert("1"), "TIFF", compression="group4"),
        "tiff-p": _saved(rgb.convert("P"), "TIFF"),
        "tiff-float": _tiff(_painted().astype(np.float32) / 7, photometric="rgb"),
        "tiff-16": _tiff(deep, byteorder=">"),
        "tiff-tiles": _tiff(_painted(40, 40), tile=(16, 16), compression="zlib"),
        "tiff-planes": _tiff(
            np.moveaxis(_painted(), -1, 0), photometric="rgb", planarconfig="separate"
        ),
        "tiff-bands": _tiff(np.repeat(deep[..., None], 6, -1), photometric="minisblack"),
        "tiff-big": _tiff(_painted(), bigtiff=True),
        "tiff-pages": _tiff(np.stack([_painted(), _painted()]), photometric="rgb"),
    }
    if features.check("avif"):
        found["avif"] = _saved(rgb, "AVIF")
    from pillow_heif import from_pillow

    buffer = io.BytesIO()
    from_pillow(rgb).save(buffer, quality=50)
    found["heic"] = buffer.getvalue()
    return found


def hostile_picture(random: Random) -> tuple[bytes, int]:
    """A broken or lying file, and the page to ask for."""
    name = random.choice(list(files()))
    data = files()[name]
    page = random.choice((1, 1, 1, 1, 2, 3, 10_001))
    pick = random.random()
    if pick < 0.1:
        return _lying(random), page
    if pick < 0.2:
        return data[: random.randrange(len(data) + 1)], page
    if pick < 0.25:
        other = files()[random.choice(list(files()))]
        return data[: random.randrange(40)] + other[random.randrange(40) :], page
    if pick < 0.3 and name.startswith("png"):
        return _with_chunk(data, random), page
    broken = bytes_mutated(data, random, steps=random.choice((1, 2, 8)))
    if name.startswith("png") and random.random() < 0.8:
        broken = _with_right_sums(broken)
    if random.random() < 0.5:
        broken = _with_number(broken, random)
    return broken, page


def _with_number(data: bytes, random: Random) -> bytes:
    """Two or four bytes among the first hundred are a number at the edge of what fits."""
    side = random.choice(SIDES)
    packed = random.choice(
        (struct.pack(">I", side), struct.pack("<I", side), struct.pack(">H", side & 0xFFFF))
    )
    at = random.randrange(min(100, len(data)) + 1)
    return data[:at] + packed + data[at + len(packed) :]


def _with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that belong to them."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        if at + 12 + length > len(out):
            break
        body = bytes(out[at + 4 : at + 8 + length])
        struct.pack_into(">I", out, at + 8 + length, zlib.crc32(body))
        at += 12 + length
    return bytes(out)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@functools.cache
def _packed_zeros() -> bytes:
    return zlib.compress(bytes(20_000_000), 9)  # twenty kilobytes that unpack to twenty megabytes


def _with_chunk(data: bytes, random: Random) -> bytes:
    """A PNG with a chunk of text, profile or animation that unpacks to very much, or lies."""
    kind = random.choice((b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"eXIf", b"acTL", b"fcTL", b"tRNS"))
    body = random.choice(
        (
            b"a\0\0" + _packed_zeros(),
            b"a\0\1\0\0\0" + _packed_zeros(),
            b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x " * 3000,
            random.randbytes(random.randrange(40)),
            b"MM\0*" + random.randbytes(30),
        )
    )
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk(kind, body) + data[at:]


def _lying(random: Random) -> bytes:
    """A header of far more pixels than the file has bytes for."""
    width, height = random.choice(SIDES), random.choice(SIDES)
    match random.randrange(7):
        case 0:
            bits, colour = random.choice((1, 8, 16, 9)), random.choice((0, 2, 3, 4, 6, 7))
            head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, random.randrange(3))
            pixels = _packed_zeros() if random.random() < 0.3 else zlib.compress(b"\0" * 99)
            return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
        case 1:
            size = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
            return b"GIF89a" + size + b"\xf7\0\0" + bytes(768) + b"," + bytes(4) + size + b"\0\x08"
        case 2:
            words = random.choice(
                (f"P6 {width} {height} 255\n", f"P5 {width} {height} 65535\n",
                 f"P3 {width} {height} {2**40}\n1 2", f"P4 {width}\n{height}\n", "P6 " + "9" * 3000)
            )  # fmt: skip
            return words.encode() + bytes(64)
        case 3:
            planes = random.choice((1, 4, 8, 24, 32)), random.choice((0, 1, 2, 3, 5))
            head = struct.pack(
                "<IIIHHIIIIII", 40, width, height, 1, planes[0], planes[1], 0, 0, 0, 256, 0
            )
            return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + head + bytes(64)
        case 4:
            sizes = struct.pack(">BHHB", 8, height & 0xFFFF, width & 0xFFFF, 3)
            found = files()["jpeg"]
            at = found.index(b"\xff\xc0")
            return found[: at + 4] + sizes + found[at + 10 :]
        case 5:
            body = (
                bytes([16, 0, 0, 0]) + struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
            )
            return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + body
        case _:
            entries = (
                (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, random.choice((1, 8, 16, 64))),
                (259, 3, 1, random.choice((1, 5, 7, 8, 32773, 50000))), (262, 3, 1, 1),
                (273, 4, random.choice((1, 0x7FFF_FFFF)), 8),
                (277, 3, 1, random.choice((1, 3, 6000))),
                (278, 4, 1, random.choice(SIDES)), (279, 4, 1, random.choice(SIDES)),
                (random.choice((322, 323, 317, 339, 320)), 4, random.choice((1, 2**31)), 16),
            )  # fmt: skip
            listed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
            return (
                b"II*\0"
                + struct.pack("<I", 8)
                + struct.pack("<H", len(entries))
                + listed
                + bytes(40)
            )
