"""Brush code against the editor's own package, both ways; it comes from npm."""

from pathlib import Path

import numpy as np
import pytest

from backend.labelstudio import rle
from benchmarks.formats import random_masks
from benchmarks.rle_peer import Peer


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Peer:
    return Peer(Path(tmp_path_factory.mktemp("peer")))


def test_the_editor_s_package_and_we_read_each_other(peer: Peer):
    masks = [mask.astype(np.uint8) * 255 for mask in random_masks(200)]
    values = [np.repeat(mask.ravel(), 4).tobytes() for mask in masks]

    answers = peer.answers(
        [(one, rle.encode(mask)) for one, mask in zip(values, masks, strict=True)]
    )

    assert [answer.unpacked for answer in answers] == values
    for answer, mask in zip(answers, masks, strict=True):
        np.testing.assert_array_equal(rle.decode(answer.packed, size_hw=mask.shape), mask)


def test_soft_edges_as_the_editor_packs_them_are_read(peer: Peer):
    random = np.random.default_rng(2)
    greys = [random.integers(0, 256, (7, size), dtype=np.uint8) for size in range(1, 40)]

    answers = peer.answers(
        [(np.repeat(one.ravel(), 4).tobytes(), rle.encode(one)) for one in greys]
    )

    for answer, grey in zip(answers, greys, strict=True):
        np.testing.assert_array_equal(rle.decode(answer.packed, size_hw=grey.shape), grey)
