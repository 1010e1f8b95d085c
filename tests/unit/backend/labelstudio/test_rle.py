"""Brush run-length code, against the SDK's own and against streams of the editor's kind."""

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from label_studio_sdk.converter.brush import decode_rle, encode_rle, mask2rle

from backend.errors import BadMask
from backend.labelstudio import rle

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
GREYS = SIZES.flatmap(lambda size: arrays(np.uint8, size))
BINARY = SIZES.flatmap(lambda size: arrays(np.uint8, size, elements=st.sampled_from([0, 255])))


class Writer:
    """Writes streams by hand, bit by bit."""

    def __init__(self, count: int, word: int = 8, widths=(3, 4, 8, 16)) -> None:
        self.widths, self.word = widths, word
        self.bits = f"{count:032b}{word - 1:05b}" + "".join(f"{w - 1:04b}" for w in widths)

    def packet(self, run: bool, index: int, values: list[int], length: int) -> "Writer":
        self.bits += f"{int(run)}{index:02b}{length - 1:0{self.widths[index]}b}"
        self.bits += "".join(f"{value:0{self.word}b}" for value in values)
        return self

    def stream(self) -> list[int]:
        padded = self.bits + "0" * (-len(self.bits) % 8)
        return [int(padded[at : at + 8], 2) for at in range(0, len(padded), 8)]


@given(mask=BINARY)
@settings(max_examples=150, deadline=None)
def test_masks_are_packed_byte_for_byte_as_the_sdk_does(mask: np.ndarray):
    assert list(rle.encode(mask)) == mask2rle(mask)


@given(grey=GREYS)
@settings(max_examples=80, deadline=None)
def test_any_values_are_packed_as_the_sdk_does(grey: np.ndarray):
    assert list(rle.encode(grey)) == mask2rle(grey)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (128, 128), (1, 16384), (1, 16385), (300, 500), (3, 70000)]
)
@pytest.mark.parametrize("value", [0, 255])
def test_one_colour_of_any_length_is_packed_as_the_sdk_does(shape: tuple[int, int], value: int):
    mask = np.full(shape, value, np.uint8)

    packed = rle.encode(mask)

    assert list(packed) == mask2rle(mask)
    np.testing.assert_array_equal(rle.decode(packed, size_hw=shape), mask)


def test_noise_and_blobs_are_packed_as_the_sdk_does():
    random = np.random.default_rng(7)
    noise = random.integers(0, 2, (160, 210), np.uint8) * 255
    rows, columns = np.mgrid[:310, :430]
    blobs = (((rows // 37 + columns // 53) % 3 == 0) * 255).astype(np.uint8)

    for mask in (noise, blobs):
        assert list(rle.encode(mask)) == mask2rle(mask)


def test_a_stream_that_ends_on_a_byte_still_gets_the_sdk_s_extra_zero():
    lengths = {len(rle.encode(np.full((1, n), 255, np.uint8))) for n in (1, 2, 3, 4, 5, 65)}
    aligned = [
        mask
        for seed in range(60)
        if len(bits := list(rle.encode(mask := noise(seed)))) * 8 - 8 == used_bits(mask) and bits
    ]

    assert lengths  # short ones exist
    assert aligned, "no aligned stream among the samples"
    for mask in aligned:
        assert rle.encode(mask)[-1] == 0
        assert list(rle.encode(mask)) == mask2rle(mask)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (3, 5), np.uint8) * 255


def used_bits(mask: np.ndarray) -> int:
    changes = np.flatnonzero(np.diff(mask.ravel())) + 1
    runs = np.diff(np.concatenate(([0], changes, [mask.size]))) * 4
    return 53 + sum(11 + next(w for w, n in ((3, 8), (4, 16), (8, 256)) if r <= n) for r in runs)


@given(grey=GREYS)
@settings(max_examples=80, deadline=None)
def test_what_the_sdk_packs_is_read_back(grey: np.ndarray):
    packed = mask2rle(grey)

    np.testing.assert_array_equal(rle.decode(packed, size_hw=grey.shape), grey)


@given(grey=GREYS)
@settings(max_examples=80, deadline=None)
def test_what_we_pack_is_read_back_by_the_sdk(grey: np.ndarray):
    unpacked = decode_rle(list(rle.encode(grey))).reshape(*grey.shape, 4)

    for channel in range(4):
        np.testing.assert_array_equal(unpacked[..., channel], grey)


def test_lists_of_single_values_as_the_editor_writes_them_are_read():
    # two pixels: a literal of seven values (colour and opacity), then a run of one
    stream = Writer(8).packet(False, 0, [9, 8, 7, 200, 1, 2, 3], 7).packet(True, 0, [90], 1)

    np.testing.assert_array_equal(rle.decode(stream.stream(), size_hw=(1, 2)), [[200, 90]])


def test_long_literals_between_runs_are_read():
    values = list(range(256)) * 2
    stream = Writer(1024).packet(True, 2, [5], 256).packet(False, 3, values, 512)
    stream.packet(True, 2, [6], 256)

    alpha = rle.decode(stream.stream(), size_hw=(16, 16)).ravel()

    np.testing.assert_array_equal(alpha[:64], 5)
    np.testing.assert_array_equal(alpha[64:192], values[3::4])
    np.testing.assert_array_equal(alpha[192:], 6)


def test_other_length_widths_and_shorter_words_are_read():
    stream = Writer(8, word=4, widths=(1, 2, 3, 4)).packet(False, 1, [1, 2, 3, 15], 4)
    stream.packet(True, 1, [7], 4)

    np.testing.assert_array_equal(rle.decode(stream.stream(), size_hw=(2, 1)), [[15], [7]])


@given(grey=GREYS, cut=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_a_cut_stream_is_refused(grey: np.ndarray, cut: int):
    packed = encode_rle(np.repeat(grey.ravel(), 4))

    with pytest.raises(BadMask):
        rle.decode(packed[: max(0, len(packed) - 1 - cut)], size_hw=grey.shape)


@given(data=st.binary(max_size=200), size=SIZES)
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_mask_of_the_right_size_or_the_one_error(data: bytes, size):
    header = (size[0] * size[1] * 4).to_bytes(4, "big") + bytes([0x39, 0x1B, 0xF8])
    for stream in (data, header + data):
        with suppress(BadMask):
            assert rle.decode(stream, size_hw=size).shape == size


@pytest.mark.parametrize("stream", [[], [1, 2], [300] * 20, [-1] * 20, "text", [1.5] * 20, None])
def test_what_is_no_list_of_bytes_is_refused(stream):
    with pytest.raises(BadMask):
        rle.decode(stream, size_hw=(2, 2))


def test_a_mask_for_a_picture_of_another_size_is_refused():
    packed = rle.encode(np.full((2, 3), 255, np.uint8))

    with pytest.raises(BadMask, match="holds 24 values, the picture needs 16"):
        rle.decode(packed, size_hw=(2, 2))


def test_an_absurd_size_is_refused_before_memory_is_taken():
    tracemalloc.start()
    try:
        with pytest.raises(BadMask):
            rle.decode([255] * 20, size_hw=(1 << 20, 1 << 20))
        with pytest.raises(BadMask):
            rle.decode([255] * 20, size_hw=(-3, 5))
        with pytest.raises(BadMask):
            rle.encode(np.zeros((0, 5), np.uint8))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_mask_of_many_runs_is_packed_in_blocks_with_equal_bytes(monkeypatch):
    mask = np.random.default_rng(3).integers(0, 2, (60, 70), np.uint8) * 255
    whole = rle.encode(mask)

    monkeypatch.setattr(rle, "BLOCK_PACKETS", 7)

    assert rle.encode(mask) == whole


def many_small_literals(pixels: int) -> list[int]:
    stream = Writer(4 * pixels)
    for _ in range(2 * pixels):
        stream.packet(False, 0, [7, 9], 2)
    return stream.stream()


def test_memory_follows_the_picture_and_not_the_number_of_packets():
    stream = bytes(many_small_literals(20_000))
    tracemalloc.start()
    try:
        mask = rle.decode(stream, size_hw=(100, 200))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (mask == 9).all()  # the fourth of 7, 9, 7, 9
    assert most < 4_000_000  # an array for each packet took a hundred bytes


def test_a_code_that_claims_much_and_ends_takes_nothing():
    stream = Writer(4 * 200_000_000).packet(True, 3, [255], 65_536).stream()
    tracemalloc.start()
    try:
        with pytest.raises(BadMask, match="ends too early"):
            rle.decode(stream[:-1], size_hw=(10_000, 20_000))
        grown = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert grown < 201_000_000  # one byte per pixel, of which the system gives what is written to


def test_more_code_than_any_picture_of_the_size_needs_is_refused():
    with pytest.raises(BadMask, match="has 200 bytes, the picture needs no more than 61"):
        rle.decode([0] * 200, size_hw=(1, 1))


@given(
    lengths=st.lists(st.tuples(st.booleans(), st.integers(1, 30)), min_size=1, max_size=30),
    block=st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_runs_and_literals_in_any_order_and_of_any_length_are_read(lengths, block):
    total = sum(length for _, length in lengths)
    lengths = [*lengths, (True, -total % 4 or 4)]
    values = [(7 * n + 1) % 256 for n in range(total + 4)]
    expected: list[int] = []
    count = sum(length for _, length in lengths)
    stream = Writer(count)
    for run, length in lengths:
        part = values[len(expected) : len(expected) + length]
        index = 2 if length > 8 else 0
        stream.packet(run, index, part[:1] if run else part, length)
        expected += part[:1] * length if run else part
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "BLOCK_PACKETS", block)
        found = rle.decode(stream.stream(), size_hw=(1, count // 4))

    assert found.ravel().tolist() == expected[3::4]
