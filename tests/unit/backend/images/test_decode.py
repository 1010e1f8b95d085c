"""Pictures as a browser shows them: first frame, upright, RGB."""

import io
import struct
import sys
import zlib
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from backend.errors import ImageBroken, ImageTooLarge
from backend.images.decode import decode
from backend.settings import Settings

from ....doubles.pictures import encoded, stripes

LIMIT = 1_000_000


def shown(image: Image.Image, kind: str = "PNG", **options) -> np.ndarray:
    return decode(encoded(image, kind, **options), max_pixels=LIMIT)


def test_a_plain_picture_comes_as_it_is():
    pixels = stripes("red", "green", "blue")

    np.testing.assert_array_equal(decode(encoded(pixels), max_pixels=LIMIT), pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM"])
def test_known_formats_are_read(kind: str):
    options = {"lossless": True} if kind == "WEBP" else {}

    pixels = shown(Image.fromarray(stripes("red", "blue")), kind, **options)

    np.testing.assert_array_equal(pixels, stripes("red", "blue"))


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "HEIF"])
def test_formats_that_lose_a_little_are_read(kind: str):
    image = Image.fromarray(stripes("red", "blue", height=64, width=64))
    data = heic_of(image) if kind == "HEIF" else encoded(image, kind, quality=95)

    pixels = decode(data, max_pixels=LIMIT)

    np.testing.assert_allclose(pixels[:, 4:60], stripes("red", height=64, width=56), atol=12)
    np.testing.assert_allclose(pixels[:, 68:124], stripes("blue", height=64, width=56), atol=12)


def heic_of(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


def test_reading_heic_registers_nothing_for_the_whole_process():
    decode(heic_of(Image.new("RGB", (64, 64))), max_pixels=LIMIT)

    assert "HEIF" not in Image.OPEN


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    data = heic_of(Image.new("RGB", (64, 64)))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)

    with pytest.raises(ImageBroken, match=r"pip install cliper-label-studio\[heic\]$"):
        decode(data, max_pixels=LIMIT)


def test_heic_has_the_same_limits():
    data = heic_of(Image.new("RGB", (64, 96)))

    with pytest.raises(ImageTooLarge, match="64 x 96 pixels"):
        decode(data, max_pixels=64 * 96 - 1)
    with pytest.raises(ImageBroken, match="truncated or damaged"):
        decode(data[: len(data) * 6 // 10], max_pixels=LIMIT)


def test_a_progressive_jpeg_is_read():
    image = Image.fromarray(stripes("red", "blue", height=64, width=64))

    np.testing.assert_array_equal(
        shown(image, "JPEG", progressive=True), shown(image, "JPEG", progressive=False)
    )


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


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_shown_through_the_window_they_fill(kind: str):
    scan = np.linspace(100, 4000, 40_000).astype(np.uint16).reshape(200, 200)  # 12 bits
    scan[0, 0] = 65535  # a hot pixel decides nothing

    grey = shown(Image.fromarray(scan), kind)[..., 0].ravel()

    assert grey[0] == 255
    np.testing.assert_allclose(grey[400:-400:1000], np.linspace(1, 254, 40), atol=4)
    assert (grey[1:201] == 0).all()
    assert (grey[-200:] == 255).all()


def test_floating_point_is_shown_through_the_window_it_fills():
    heights = np.linspace(-3.5, 8.25, 256).astype(np.float32).repeat(20).reshape(64, 80)
    heights[0, 0], heights[0, 1], heights[0, 2] = np.nan, np.inf, -np.inf

    grey = shown(Image.fromarray(heights), "TIFF")[..., 0]

    assert grey[0, :4].tolist() == [0, 255, 0, 0]
    assert abs(int(grey[32, 0]) - 128) <= 1


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_deep_picture_of_one_value_is_grey(value: int):
    deep = Image.fromarray(np.full((3, 5), value, np.uint16))

    np.testing.assert_array_equal(shown(deep), np.full((3, 5, 3), 128))


def test_a_small_bright_thing_on_an_empty_deep_picture_is_seen():
    deep = np.zeros((100, 100), np.uint16)
    deep[50, 50] = 900

    grey = shown(Image.fromarray(deep))[..., 0]

    assert (int(grey[50, 50]), int(grey.sum())) == (255, 255)


def test_eight_bits_are_never_stretched():
    dim = np.linspace(100, 110, 100).astype(np.uint8).reshape(10, 10)

    np.testing.assert_array_equal(shown(Image.fromarray(dim))[..., 0], dim)


def test_sixteen_bit_colours_keep_their_upper_half_as_in_a_browser():
    deep = np.zeros((2, 3, 3), np.uint16)
    deep[...] = (0, 0x80FF, 65535)
    done, data = cv2.imencode(".png", deep[..., ::-1])
    assert done

    np.testing.assert_array_equal(
        decode(data.tobytes(), max_pixels=LIMIT), np.broadcast_to([0, 128, 255], (2, 3, 3))
    )


def test_a_transparent_sixteen_bit_value_shows_white_paper_and_has_no_say():
    deep = np.tile(np.array([0, 1000, 50_000], np.uint16), (100, 1))

    pixels = shown(Image.fromarray(deep), transparency=50_000)

    np.testing.assert_array_equal(pixels[0, :, 0], [0, 255, 255])
    np.testing.assert_array_equal(shown(Image.fromarray(deep[:, :2]))[0, :, 0], [0, 255])


def test_grey_with_transparency_is_mixed_with_white_paper():
    layer = np.array([[[0, 255], [0, 0], [100, 51]]], np.uint8)

    np.testing.assert_array_equal(shown(Image.fromarray(layer, "LA"))[0, :, 0], [0, 255, 224])


def test_a_deep_picture_stored_on_its_side_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.tile(np.array([[0], [900]], np.uint16), (1, 3))  # black above white

    pixels = shown(Image.fromarray(deep), exif=exif)

    np.testing.assert_array_equal(pixels[..., 0], [[255, 0]] * 3)


def test_damaged_orientation_counts_as_none():
    data = encoded(Image.fromarray(stripes("red", "blue")), exif=b"Exif\0\0II*\0rubbish")

    np.testing.assert_array_equal(decode(data, max_pixels=LIMIT), stripes("red", "blue"))


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
    """JPEG stores them the other way round, as Adobe's programs do, and says so."""
    cmyk = Image.new("CMYK", (2, 1), (0, 255, 255, 0))
    data = encoded(cmyk, "JPEG", quality=100)
    assert b"Adobe" in data

    red, green, blue = decode(data, max_pixels=LIMIT)[0, 0]

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
    with pytest.raises(ImageTooLarge, match=r"60000 x 60000 pixels, more than 1 megapixels"):
        decode(png(60000, 60000), max_pixels=LIMIT)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_thousand_by_nine_thousand_pixels_pass_as_set_by_default(kind: str):
    options = {"compression": "tiff_deflate"} if kind == "TIFF" else {"compress_level": 1}
    data = encoded(Image.new("1" if kind == "PNG" else "L", (12_000, 9_000), 1), kind, **options)

    limit = int(Settings().max_image_megapixels * 1_000_000)

    pixels = decode(data, max_pixels=limit)
    assert pixels.shape == (9_000, 12_000, 3)
