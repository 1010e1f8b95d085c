"""Pictures as a browser shows them: first frame, upright, RGB."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from backend.errors import ImageBroken, ImageTooLarge
from backend.images.decode import decode

from ....doubles.pictures import encoded, stripes

LIMIT = 1_000_000


def shown(image: Image.Image, kind: str = "PNG", **options) -> np.ndarray:
    return decode(encoded(image, kind, **options), max_pixels=LIMIT)


def test_a_plain_picture_comes_as_it_is():
    pixels = stripes("red", "green", "blue")

    np.testing.assert_array_equal(decode(encoded(pixels), max_pixels=LIMIT), pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_known_formats_are_read(kind: str):
    options = {"lossless": True} if kind == "WEBP" else {}

    pixels = shown(Image.fromarray(stripes("red", "blue")), kind, **options)

    np.testing.assert_array_equal(pixels, stripes("red", "blue"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int):
    upright = Image.fromarray(stripes("red", "green", "blue", height=5, width=3))
    undo = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in undo[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation

    np.testing.assert_array_equal(shown(stored, exif=exif), np.asarray(upright))


def test_palettes_keep_their_colours():
    image = Image.fromarray(stripes("red", "yellow")).quantize(4)

    np.testing.assert_array_equal(shown(image), stripes("red", "yellow"))


def test_grey_becomes_three_equal_channels():
    pixels = shown(Image.fromarray(np.array([[0, 100, 255]], np.uint8)))

    np.testing.assert_array_equal(pixels, [[[0] * 3, [100] * 3, [255] * 3]])


def test_one_bit_becomes_black_and_white():
    pixels = shown(Image.fromarray(np.array([[True, False]])))

    np.testing.assert_array_equal(pixels, [[[255] * 3, [0] * 3]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_upper_half(kind: str):
    deep = Image.fromarray(np.array([[0, 256, 0x80FF, 65535]], np.uint16))

    np.testing.assert_array_equal(shown(deep, kind)[0, :, 0], [0, 1, 128, 255])


def test_transparent_pixels_show_white_paper_whatever_hides_below():
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)

    np.testing.assert_array_equal(
        shown(Image.fromarray(rgba)), [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_half_transparent_pixels_are_mixed_with_white_paper(kind: str):
    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    alpha = rgba[..., 3:].astype(float) / 255

    mixed = alpha * rgba[..., :3] + (1 - alpha) * 255

    np.testing.assert_allclose(shown(Image.fromarray(rgba), kind), mixed, atol=1)


def test_a_transparent_palette_entry_shows_white_paper():
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])

    pixels = shown(image, transparency=1)

    np.testing.assert_array_equal(pixels, [[[255, 0, 0], [255, 255, 255]]])


def test_print_colours_are_converted():
    cmyk = Image.new("CMYK", (2, 1), (0, 255, 255, 0))

    red, green, blue = shown(cmyk, "JPEG", quality=100)[0, 0]

    assert red > 200
    assert max(green, blue) < 60


def test_of_a_moving_picture_the_first_frame_counts():
    frames = [Image.fromarray(stripes(name)) for name in ("red", "blue")]

    pixels = shown(frames[0], "GIF", save_all=True, append_images=frames[1:])

    np.testing.assert_array_equal(pixels, stripes("red"))


def test_an_empty_file_is_said_to_be_empty():
    with pytest.raises(ImageBroken, match=r"the file is empty \(0 bytes\)"):
        decode(b"", max_pixels=LIMIT)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_is_truncated(kind: str, share: float):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)

    with pytest.raises(ImageBroken, match="truncated or damaged"):
        decode(whole[: int(len(whole) * share)], max_pixels=LIMIT)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"hello world", "the file is not a picture of a known format"),
        (b"\x00" * 100, "the file is not a picture of a known format"),
        (b"%PDF-1.7 ...", "the file is not a picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a known format"),
        (b"\n<!DOCTYPE html><html>login</html>", "but a web page; is LABEL_STUDIO_API_KEY right?"),
        (b"\x89PNG\r\n", "the picture is truncated or damaged: its header is not complete"),
    ],
)
def test_what_is_no_picture_is_said_to_be_none(data: bytes, sentence: str):
    with pytest.raises(ImageBroken) as caught:
        decode(data, max_pixels=LIMIT)

    assert sentence in str(caught.value)


def test_more_pixels_than_allowed_are_refused_from_the_header_alone():
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    def png(width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")

    with pytest.raises(ImageTooLarge, match=r"1001 x 1000 pixels, more than 1 megapixels"):
        decode(png(1001, 1000), max_pixels=LIMIT)
    with pytest.raises(ImageTooLarge, match="far too many pixels"):
        decode(png(60000, 60000), max_pixels=LIMIT)


def test_floating_point_pixels_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.float32)).save(buffer, "TIFF")

    with pytest.raises(ImageBroken, match="floating point"):
        decode(buffer.getvalue(), max_pixels=LIMIT)
