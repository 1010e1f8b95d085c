"""TIFF beyond what a browser knows. Files are written by two libraries we do not read with."""

import io
import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from backend.errors import ImageBroken, ImageTooLarge
from backend.images.decode import decode
from backend.images.tiff import BYTES_AT_ONCE

from ....doubles.pictures import encoded, stripes

LIMIT = 1_000_000
DEEP = (np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64)
PACKED = {"none": 1, "LZW": 5, "deflate": 32946, "PackBits": 32773}
NOTHING = 42113  # GDAL's tag for the value that means "nothing measured"


def written(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def written_by_opencv(pixels: np.ndarray, compression: int, predictor: int) -> bytes:
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    done, data = cv2.imencode(".tiff", pixels, [*options, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 7])
    assert done
    return data.tobytes()


def shown(data: bytes, *, page: int = 1, limit: int = LIMIT) -> np.ndarray:
    return decode(data, max_pixels=limit, page=page)


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    """Values from 0 to 255 only, so that a window over all of them changes nothing."""
    values = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    values[:2], values[-2:] = 0, 255  # enough of both ends for the window to begin and end there
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", DEEP)
@pytest.mark.parametrize("bands", [1, 3])
def test_deep_pixels_of_every_kind_are_shown(dtype: Any, bands: int):
    pixels = noise(40, 30, bands)
    deep = pixels.astype(dtype) * dtype(3) + dtype(7)

    photometric = "rgb" if bands == 3 else "minisblack"
    result = shown(written(deep, photometric=photometric))

    np.testing.assert_array_equal(result, np.broadcast_to(pixels, (40, 30, 3)))


@pytest.mark.parametrize("compression", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("predictor", [1, 2])
def test_packed_strips_are_unpacked(compression: int, dtype: Any, bands: int, predictor: int):
    if compression in (1, 32773):
        predictor = 1  # they know none
    pixels = noise(40, 31, bands)
    data = written_by_opencv(pixels.astype(dtype).squeeze(), compression, predictor)

    np.testing.assert_array_equal(shown(data), np.broadcast_to(pixels, (40, 31, 3)))


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packed_floating_point_is_unpacked(bands: int, predictor: int, dtype: Any):
    pixels = noise(40, 31, bands)
    data = written_by_opencv((pixels / 255).astype(dtype).squeeze(), 32946, predictor)

    np.testing.assert_array_equal(shown(data), np.broadcast_to(pixels, (40, 31, 3)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tiles_planes_and_byte_orders_make_no_difference(
    dtype: Any, planar: str, tile: tuple[int, int] | None, order: Any, big: bool
):
    pixels = noise(50, 40, 3, dtype=dtype)
    bands = pixels.transpose(2, 0, 1) if planar == "separate" else pixels
    layout: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": 9}

    data = written(
        bands, photometric="rgb", planarconfig=planar, byteorder=order, bigtiff=big, **layout
    )

    np.testing.assert_array_equal(shown(data), pixels)


@pytest.mark.parametrize("bands", [2, 4, 5, 7])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_of_many_bands_the_first_three_count_and_of_two_the_first(
    bands: int, planar: str, dtype: Any
):
    pixels = noise(30, 20, bands)
    deep = pixels.transpose(2, 0, 1) if planar == "separate" else pixels

    result = shown(written(deep.astype(dtype), photometric="minisblack", planarconfig=planar))

    expected = pixels[..., :3] if bands > 2 else pixels[..., :1]
    np.testing.assert_array_equal(result, np.broadcast_to(expected, (30, 20, 3)))


def test_bands_share_one_window_so_that_colours_keep_their_relation():
    deep = np.zeros((40, 30, 3), np.uint16)
    deep[..., 0], deep[:20, :, 1] = 1000, 500

    result = shown(written(deep, photometric="rgb"))

    np.testing.assert_array_equal(result[0, 0], [255, 128, 0])
    np.testing.assert_array_equal(result[39, 0], [255, 0, 0])


@pytest.mark.parametrize("nothing", ["-9999", "-3.4028234663852886e+38", "nan"])
def test_what_was_not_measured_is_black_and_has_no_say(nothing: str):
    deep = noise(40, 30, dtype=np.float32)
    deep[5:25, 5:25] = float(nothing)
    tags = [(NOTHING, "s", 0, nothing, True)]

    result = shown(written(deep, extratags=tags))[..., 0]

    expected = noise(40, 30)
    expected[5:25, 5:25] = 0
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("nothing", ["70000", "-1", "1.5", "none", "65535"])
def test_a_missing_value_no_pixel_can_hold_is_no_trouble(nothing: str):
    deep = noise(40, 30, dtype=np.uint16)
    tags = [(NOTHING, "s", 0, nothing, True)]

    np.testing.assert_array_equal(shown(written(deep, extratags=tags))[..., 0], noise(40, 30))


def test_a_picture_in_which_nothing_was_measured_is_black():
    nothing = np.full((4, 5), np.nan, np.float32)

    np.testing.assert_array_equal(shown(written(nothing)), np.zeros((4, 5, 3)))


def test_transparent_deep_pixels_show_white_paper_and_have_no_say():
    deep = np.zeros((40, 30, 4), np.uint16)
    deep[..., :3], deep[..., 3] = noise(40, 30, 3), 65535
    deep[10, 10] = (60000, 60000, 0, 0)

    result = shown(written(deep, photometric="rgb", extrasamples=["unassalpha"]))

    expected = noise(40, 30, 3)
    expected[10, 10] = 255
    np.testing.assert_array_equal(result, expected)


def test_half_transparent_deep_pixels_are_mixed_with_white_paper():
    deep = np.zeros((20, 10, 2), np.uint16)
    deep[:10, :, 0], deep[..., 1] = 1000, 65535
    deep[0, 0, 1] = deep[19, 0, 1] = 13107  # a fifth

    result = shown(written(deep, photometric="minisblack", extrasamples=["unassalpha"]))

    assert result[[0, 1, 18, 19], 0, 0].tolist() == [255, 255, 0, 204]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_files_whose_white_is_zero_are_turned(dtype: Any):
    data = written(noise(40, 30, dtype=dtype), photometric="miniswhite")

    np.testing.assert_array_equal(shown(data)[..., 0], 255 - noise(40, 30))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_orientation_is_turned_upright(orientation: int, dtype: Any):
    pixels = noise(20, 12, 3)
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned))
    tags = [(274, "H", 1, orientation, True)]

    data = written(pixels.astype(dtype), photometric="rgb", extratags=tags)

    np.testing.assert_array_equal(shown(data), expected)


def pages_of(*names: str, **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for name in names:
            writer.write(stripes(name), photometric="rgb", **options)
            writer.write(stripes("white")[::2, ::2], photometric="rgb", subfiletype=1)
    return file.getvalue()


def test_pages_count_from_one_and_small_copies_do_not_count():
    data = pages_of("red", "green", "blue")

    for page, name in enumerate(("red", "green", "blue"), 1):
        np.testing.assert_array_equal(shown(data, page=page), stripes(name))


def test_pages_pillow_reads_are_found_too():
    pages = [Image.fromarray(stripes(name)).quantize(4) for name in ("red", "green", "blue")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])

    np.testing.assert_array_equal(shown(data), stripes("red"))
    np.testing.assert_array_equal(shown(data, page=3), stripes("blue"))


@pytest.mark.parametrize(("names", "count"), [(("red",), "1 page"), (("red", "blue"), "2 pages")])
def test_a_page_that_is_not_there_is_broken(names: tuple[str, ...], count: str):
    with pytest.raises(ImageBroken, match=f"^page 3 was asked for, but the picture has {count}$"):
        shown(pages_of(*names), page=3)


def test_other_formats_have_one_page():
    with pytest.raises(ImageBroken, match=r"^page 2 was asked for, but the picture has 1 page$"):
        shown(encoded(stripes("red")), page=2)
    with pytest.raises(ValueError, match="pages count from 1, got 0"):
        shown(encoded(stripes("red")), page=0)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
def test_colours_of_other_kinds_are_read(mode: str, compression: str):
    image = Image.fromarray(stripes("black", "white")).convert(mode)

    result = shown(encoded(image, "TIFF", compression=compression))

    np.testing.assert_allclose(result, stripes("black", "white"), atol=1)


def test_jpeg_inside_tiff_is_read():
    data = encoded(stripes("black", "white", width=16, height=16), "TIFF", compression="jpeg")

    np.testing.assert_allclose(shown(data), stripes("black", "white", width=16, height=16), atol=3)


def patched(data: bytes, tag: int, value: int) -> bytes:
    """The file with another value in a tag of one number (little-endian, first page)."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags[tag].valueoffset
        size = {3: 2, 4: 4}[int(file.pages[0].tags[tag].dtype)]
    return data[:place] + value.to_bytes(size, "little") + data[place + size :]


@pytest.mark.parametrize(("number", "name"), [(34712, "JPEG2000|JPEG_2000"), (34887, "LERC")])
def test_a_packing_that_is_not_known_is_named(number: int, name: str):
    data = patched(written(noise(20, 10, dtype=np.uint16)), 259, number)

    with pytest.raises(ImageBroken, match=rf"packed with \w*({name})\w*, which cannot .* deflate"):
        shown(data)


def test_pixels_of_a_kind_nobody_reads_are_described():
    data = written(np.zeros((4, 5), np.complex64))

    with pytest.raises(ImageBroken, match=r"of a kind that cannot be read here: 1 x 64 bits"):
        shown(data)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [1, 5])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_cut_file_is_truncated(dtype: Any, compression: int, share: float):
    whole = written_by_opencv(noise(64, 64, 3, dtype=dtype), compression, 1)

    with pytest.raises(ImageBroken, match="truncated or damaged"):
        shown(whole[: int(len(whole) * share)])


def test_too_many_pixels_are_refused_before_anything_is_unpacked():
    data = patched(written(noise(20, 10, dtype=np.uint16)), 256, 60_000)

    with pytest.raises(ImageTooLarge, match="60000 x 20 pixels, more than 1 megapixels"):
        shown(data)


def test_too_many_bands_are_refused_before_anything_is_unpacked():
    data = written(np.zeros((40, 40, 40), np.uint16), photometric="minisblack", planarconfig=1)

    with pytest.raises(ImageTooLarge, match=r"unpacks to .* keep three bands"):
        shown(data, limit=1600)


def test_no_more_is_unpacked_than_the_tags_announce():
    """A strip that would swell to sixteen times its announced size."""
    data = written_by_opencv(np.zeros((640, 64), np.uint16), 32946, 1)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].rowsperstrip == 7
    small = patched(patched(data, 257, 1), 278, 1)

    np.testing.assert_array_equal(shown(small), np.full((1, 64, 3), 128))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_broken_pictures_and_nothing_worse(seed: int):
    rng = np.random.default_rng(seed)
    data = bytearray(written(noise(20, 10, 3, dtype=np.uint16), photometric="rgb", tile=(16, 16)))
    for place in rng.integers(0, 400, 6):
        data[place] = rng.integers(0, 256)

    with suppress(ImageBroken, ImageTooLarge):
        assert shown(bytes(data)).ndim == 3


def claiming(*, width: int, height: int, samples: int) -> bytes:
    """A TIFF of bytes that leaves its only strip out."""
    entries = (
        (256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8),
        (277, 3, samples), (278, 4, height), (279, 4, 0),
    )  # fmt: skip
    listed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4)


def test_thousands_of_bands_that_are_not_there_are_taken_a_few_rows_at_a_time():
    data = claiming(width=300, height=300, samples=6000)  # 540 MB, of 130 bytes
    tracemalloc.start()
    try:
        pixels = shown(data, limit=10_000_000)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert pixels.shape == (300, 300, 3)
    assert not pixels.any()
    assert most < 3 * BYTES_AT_ONCE


def test_a_row_of_more_than_a_gigabyte_is_refused():
    with pytest.raises(ImageTooLarge, match="one row of the TIFF unpacks to more than 1 GiB"):
        shown(claiming(width=200_000, height=1, samples=6000), limit=20_000_000)
