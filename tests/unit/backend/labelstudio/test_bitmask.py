"""Bitmask regions: the opacity of a PNG, of whatever kind and size the editor writes back."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from backend.errors import BadMask
from backend.labelstudio.regions import RegionControl, bitmask

from ....doubles.smooth_masks import iou, smooth_mask

CONTROL = RegionControl(
    from_name="seg", to_name="image", kind="bitmasklabels", label="Cat", region_id="a"
)


def region(picture: Image.Image | bytes, **options) -> dict:
    if isinstance(picture, Image.Image):
        file = io.BytesIO()
        picture.save(file, "PNG", **options)
        picture = file.getvalue()
    return {"value": {"imageDataURL": bitmask.PREFIX + base64.b64encode(picture).decode()}}


def png_of(mask: np.ndarray) -> Image.Image:
    (written,) = bitmask.encode(mask, CONTROL)
    data = written["value"]["imageDataURL"].removeprefix(bitmask.PREFIX)
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_png_is_transparent_where_nothing_is_painted():
    mask = np.array([[True, False, True]])

    opacity = np.array(png_of(mask).convert("RGBA"))[..., 3]

    np.testing.assert_array_equal(opacity, [[255, 0, 255]])


def test_a_pixel_costs_one_bit():
    noise = np.random.default_rng(0).random((400, 400)) < 0.5

    (written,) = bitmask.encode(noise, CONTROL)

    assert len(written["value"]["imageDataURL"]) < 400 * 400 / 8 * 4 / 3 * 1.05


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opacity_counts_from_half_whatever_the_colour(mode: str):
    alpha = np.array([[0, 1, 127, 128, 255]], np.uint8)
    grey = Image.fromarray(np.full_like(alpha, 200)).convert(mode)
    grey.putalpha(Image.fromarray(alpha))

    mask = bitmask.decode(region(grey), (1, 5))

    np.testing.assert_array_equal(mask, [[False, False, False, True, True]])


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_colour_said_to_be_transparent_is(mode: str):
    picture = Image.new(mode, (3, 2))
    white = (255, 255, 255) if mode == "RGB" else 255
    picture.putpixel((1, 0), white)

    found = bitmask.decode(region(picture, transparency=(0, 0, 0) if mode == "RGB" else 0), (2, 3))

    np.testing.assert_array_equal(found, [[False, True, False], [False, False, False]])


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_a_png_without_transparency_covers_the_picture(mode: str):
    assert bitmask.decode(region(Image.new(mode, (3, 2))), (4, 6)).all()


@pytest.mark.parametrize("size_hw", [(120, 160), (360, 480), (700, 333)])
def test_a_png_of_another_size_is_scaled_over_the_picture(size_hw: tuple[int, int]):
    small, large = smooth_mask((240, 320), 3), smooth_mask(size_hw, 3)
    (written,) = bitmask.encode(small, CONTROL)

    found = bitmask.decode(written, size_hw)

    assert found.shape == size_hw
    scaled = np.array(Image.fromarray(small).resize(size_hw[::-1]))
    assert iou(found, scaled) > 0.98
    assert large.shape == size_hw


def test_a_mask_the_editor_can_bear_keeps_its_size_so_that_people_can_correct_it():
    assert png_of(smooth_mask((1100, 4000), 4)).size == (4000, 1100)


def test_a_larger_one_is_reduced_and_smooth_masks_survive(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bitmask, "FULL_PIXELS", 4_000_000)
    mask = smooth_mask((1100, 4000), 4)

    picture = png_of(mask)
    (written,) = bitmask.encode(mask, CONTROL)

    assert picture.size == (2048, 563)
    assert iou(bitmask.decode(written, mask.shape), mask) >= 0.99
    assert (written["original_width"], written["original_height"]) == (4000, 1100)


def test_a_small_mask_is_not_enlarged():
    assert png_of(np.ones((3, 5), bool)).size == (5, 3)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 2)])
def test_one_pixel_of_a_long_picture_is_not_lost(shape: tuple[int, int]):
    mask = np.zeros(shape, bool)
    mask[0, 0] = True

    (written,) = bitmask.encode(mask, CONTROL)

    assert bitmask.decode(written, shape)[0, 0]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_png_of_a_billion_pixels_is_refused_unopened():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    bomb = bitmask.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")

    with pytest.raises(BadMask, match="50000 x 50000 pixels, at most"):
        bitmask.decode(region(bomb), (5, 5))


@pytest.mark.parametrize("cut", [0, 5, 20, 30, 45, 60])
def test_a_cut_png_is_refused(cut: int):
    data = base64.b64decode(
        bitmask.encode(smooth_mask((50, 60), 1), CONTROL)[0]["value"]["imageDataURL"].split(",")[1]
    )

    with pytest.raises(BadMask):
        bitmask.decode(region(data[:cut]), (50, 60))


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        5,
        "data:image/jpeg;base64,AAAA",
        "https://example.org/a.png",
        bitmask.PREFIX,
        bitmask.PREFIX + "!!!",
        bitmask.PREFIX + "AAAA",
        bitmask.PREFIX + "ä",
    ],
)
def test_what_is_no_png_is_refused(url: object):
    with pytest.raises(BadMask):
        bitmask.decode({"value": {"imageDataURL": url}}, (5, 5))


def claiming(width: int, height: int, twice: tuple[int, int] | None = None) -> dict:
    def chunk(kind: bytes, body: bytes) -> bytes:
        sums = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + sums

    heads = [(width, height)] if twice is None else [(width, height), twice]
    head = b"".join(chunk(b"IHDR", struct.pack(">IIBBBBB", *one, 1, 0, 0, 0, 0)) for one in heads)
    rest = chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    return region(bitmask.SIGNATURE + head + rest)


@pytest.mark.parametrize("size_wh", [(13_500, 13_500), (14_100, 14_100), (100_000, 100_000)])
def test_a_png_that_claims_far_more_pixels_than_the_picture_is_refused(size_wh: tuple[int, int]):
    with pytest.raises(BadMask, match="at most 13000000 are read"):
        bitmask.decode(claiming(*size_wh), (10, 10))


def test_a_large_picture_may_have_a_bitmask_beyond_pillow_s_own_limit():
    with pytest.raises(BadMask, match="a broken PNG"):  # it ends too early: no limit was in the way
        bitmask.decode(claiming(10_000, 9_000), (9_000, 10_000))


def test_a_png_that_says_twice_how_large_it_is_is_refused():
    with pytest.raises(BadMask):
        bitmask.decode(claiming(10, 10, (14_000, 14_000)), (10, 10))
