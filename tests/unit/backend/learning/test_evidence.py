"""Evidence as bytes, features at reduced rank, and masks on coarse grids."""

import contextlib
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backend.learning.evidence import (
    MOST_CELLS,
    AsItWas,
    Cells,
    Evidence,
    Sample,
    Truth,
    area_means,
    covered,
    pooled_hw,
)

SIDE = some.integers(1, 70)


def evidence(labels: int = 2, grid_hw: tuple[int, int] = (3, 4)) -> Evidence:
    chance = np.random.default_rng(labels)
    places = grid_hw[0] * grid_hw[1]
    names = tuple(f"Größe {number}" for number in range(labels))
    sample = Sample(
        grid_hw=grid_hw,
        cells=Cells.of(chance.normal(size=(places, 5)).astype(np.float32), most_bytes=1_000),
        truths={
            "seg": Truth(
                asked=(*names, "absent"),
                labels=names,
                shares=chance.integers(0, 256, (labels, places)).astype(np.uint8),
                rest=True,
            )
        },
        before={"seg": AsItWas(quality=0.5, agreement=None, presence={"absent": 0.25})},
        models={"seg": "m"},
    )
    return Evidence(task=3, annotation=5, stamp="s", weight=0.3, samples=(sample, sample))


@pytest.mark.parametrize("labels", [0, 1, 2])
def test_what_was_stored_comes_back_byte_for_byte(labels: int) -> None:
    made = evidence(labels)

    again = Evidence.from_bytes(made.to_bytes())

    assert again.to_bytes() == made.to_bytes()
    assert (again.task, again.annotation, again.stamp, again.weight) == (3, 5, "s", 0.3)
    (sample, _), (was, _) = again.samples, made.samples
    assert sample.truths["seg"].labels == was.truths["seg"].labels
    assert sample.before == was.before
    np.testing.assert_array_equal(sample.truths["seg"].shares, was.truths["seg"].shares)
    np.testing.assert_array_equal(sample.cells.values, was.cells.values)


def test_evidence_without_pictures_comes_back() -> None:
    bare = Evidence(task=1, annotation=2, stamp="", weight=1.0, samples=())

    again = Evidence.from_bytes(bare.to_bytes())

    assert (again.task, again.samples) == (1, ())


@pytest.mark.parametrize(
    "header",
    [
        b"", b"[]", b"null", b"{}", b"7", b'{"format":1}', b'{"format":2,"samples":[]}',
        b'{"format":1,"samples":[1]}', b'{"format":1,"samples":{}}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_headers_that_are_none_are_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match="evidence"):
        Evidence.from_bytes(struct.pack("<I", len(header)) + zlib.compress(header))


@pytest.mark.parametrize(
    "array",
    [
        {"shape": [3], "dtype": "|O"}, {"shape": [10**30], "dtype": "<f4"}, {"shape": "x"}, 5,
        {"shape": [99, 99], "dtype": "|u1"}, {"shape": [-2, 2], "dtype": "|i1"},
    ],
)  # fmt: skip
def test_arrays_that_are_none_are_refused(array: Any) -> None:
    data = evidence().to_bytes()
    (length,) = struct.unpack_from("<I", data)
    whole = zlib.decompress(data[4:])
    header = json.loads(whole[:length])
    header["samples"][0]["truths"][0]["shares"] = array
    text = json.dumps(header).encode()

    with pytest.raises(ValueError, match="evidence"):
        Evidence.from_bytes(struct.pack("<I", len(text)) + zlib.compress(text + whole[length:]))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(some.binary(max_size=200))
def test_any_bytes_are_evidence_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="evidence"):
        Evidence.from_bytes(data)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(at=some.floats(0, 1, exclude_max=True), value=some.integers(0, 255), cut=some.booleans())
def test_damaged_bytes_are_read_or_refused(at: float, value: int, cut: bool) -> None:
    packed = evidence().to_bytes()
    data = bytearray(zlib.decompress(packed[4:]))
    place = int(at * len(data))
    data[place] = value
    damaged = bytes(data[:place] if cut else data)
    with contextlib.suppress(ValueError):
        Evidence.from_bytes(packed[:4] + zlib.compress(damaged))
    with contextlib.suppress(ValueError):
        Evidence.from_bytes(packed[: int(at * len(packed))])


@pytest.mark.parametrize("most_bytes", [20_000, 9_000, 0])
def test_features_made_smaller_are_those_made_small_at_once(most_bytes: int) -> None:
    values = np.random.default_rng(0).normal(size=(60, 64)).astype(np.float32)

    smaller = Cells.of(values, most_bytes=20_000).within(most_bytes)

    at_once = Cells.of(values, most_bytes=most_bytes)
    np.testing.assert_array_equal(smaller.values, at_once.values)
    assert smaller.left.shape == at_once.left.shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 512), (400, 1), (2, 3)])
def test_few_features_are_kept_as_they_are(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    np.testing.assert_allclose(Cells.of(values, most_bytes=50_000).values, values, atol=0.05)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(size_hw=some.tuples(SIDE, SIDE), grid_hw=some.tuples(SIDE, SIDE))
def test_shares_add_up_whether_sizes_divide_or_not(
    size_hw: tuple[int, int], grid_hw: tuple[int, int]
) -> None:
    mask = np.random.default_rng(0).random(size_hw) < 0.4

    shares = covered(mask, grid_hw)

    assert shares.shape == (grid_hw[0] * grid_hw[1],)
    means = area_means(mask.astype(np.float32), grid_hw)
    assert means.mean() == pytest.approx(mask.mean(), abs=1e-5)
    np.testing.assert_allclose(shares, means.ravel() * 255, atol=0.51)
    assert covered(np.ones(size_hw, bool), grid_hw).min() == 255
    assert covered(np.zeros(size_hw, bool), grid_hw).max() == 0


def test_a_place_that_a_mask_cuts_through_is_covered_in_part() -> None:
    mask = np.array([[True, True, False]])

    assert covered(mask, (1, 2)).tolist() == [255, 85]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(some.tuples(some.integers(1, 3000), some.integers(1, 3000)))
def test_pooled_grids_are_small_and_never_finer(grid_hw: tuple[int, int]) -> None:
    height, width = pooled_hw(grid_hw)

    assert 1 <= height <= grid_hw[0]
    assert 1 <= width <= grid_hw[1]
    assert height * width <= MOST_CELLS
    if grid_hw[0] * grid_hw[1] <= MOST_CELLS:
        assert (height, width) == grid_hw


def test_features_survive_at_reduced_rank() -> None:
    chance = np.random.default_rng(0)
    smooth = chance.normal(size=(400, 20)) @ chance.normal(size=(20, 512)) + 3.0

    kept = Cells.of(smooth.astype(np.float32), most_bytes=40_000)

    error = np.abs(kept.values - smooth).max() / np.abs(smooth).max()
    assert error < 0.02
    assert kept.left.nbytes + kept.right.nbytes < 40_000


def test_a_grid_of_many_places_is_made_coarser_in_proportion() -> None:
    assert pooled_hw((20, 20)) == (20, 20)
    height, width = pooled_hw((30, 60))
    assert height * width <= MOST_CELLS
    assert 1.8 < width / height < 2.2
    assert pooled_hw((1, 1000)) == (1, 400)
    assert pooled_hw((1000, 1)) == (400, 1)
