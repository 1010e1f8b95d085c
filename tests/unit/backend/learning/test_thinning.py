"""Old evidence made small."""

from dataclasses import replace

import numpy as np

from backend.learning.evidence import AsItWas, Cells, Evidence, Sample, Truth
from backend.learning.thinning import thinned


def made(shares: dict[str, list[list[int]]], *, embed: int = 16, rest: bool = True) -> Evidence:
    places = max((len(one[0]) for one in shares.values() if one), default=6)
    values = np.random.default_rng(0).normal(size=(places, embed)).astype(np.float32)
    truths = {
        name: Truth(
            asked=("a", "b"),
            labels=("a", "b")[: len(one)],
            shares=np.array(one, np.uint8).reshape(len(one), places),
            rest=rest,
        )
        for name, one in shares.items()
    }
    sample = Sample(
        grid_hw=(2, places // 2),
        cells=Cells.of(values, most_bytes=100_000),
        truths=truths,
        before={name: AsItWas(quality=1.0, agreement=None, presence={}) for name in truths},
        models=dict.fromkeys(truths, "m"),
    )
    return Evidence(task=1, annotation=2, stamp="s", weight=0.3, samples=(sample,))


def test_a_place_keeps_what_covers_most_of_it_and_the_mean_of_its_kind():
    before = made({"seg": [[255, 200, 0, 10, 0, 0], [0, 55, 255, 10, 0, 129]]})
    (old,), (new,) = before.samples, thinned(before).samples
    values, means = old.cells.values, new.cells.values

    assert new.truths["seg"].shares.tolist() == [
        [255, 255, 0, 0, 0, 0],
        [0, 0, 255, 0, 0, 255],
    ]
    for group in ([0, 1], [2, 5], [3, 4]):
        np.testing.assert_allclose(
            means[group], values[group].mean(axis=0)[None].repeat(2, 0), atol=0.02
        )


def test_two_controls_are_kept_apart():
    (sample,) = thinned(made({"one": [[255, 255, 0, 0]], "two": [[255, 0, 255, 0]]})).samples

    assert len(np.unique(sample.cells.values.round(3), axis=0)) == 4
    assert sample.truths["one"].shares.tolist() == [[255, 255, 0, 0]]
    assert sample.truths["two"].shares.tolist() == [[255, 0, 255, 0]]


def test_an_empty_annotation_and_a_task_without_pictures_stay_what_they_are():
    empty = thinned(made({"seg": []}))
    bare = replace(empty, samples=())

    assert empty.samples[0].truths["seg"].shares.shape == (0, 6)
    assert thinned(bare).to_bytes() == bare.to_bytes()
    assert (empty.task, empty.annotation, empty.stamp, empty.weight) == (1, 2, "s", 0.3)


def test_it_is_ten_times_smaller_and_the_same_bytes_every_time():
    rng = np.random.default_rng(1)
    places, embed = 400, 512
    shares = np.zeros((5, places), np.uint8)
    shares[rng.integers(0, 5, places), np.arange(places)] = 255
    values = rng.normal(size=(places, embed)).astype(np.float32)
    sample = replace(
        made({"seg": [[255, 0]]}).samples[0],
        grid_hw=(20, 20),
        cells=Cells.of(values, most_bytes=55_000),
        truths={
            "seg": Truth(asked=tuple("abcde"), labels=tuple("abcde"), shares=shares, rest=True)
        },
    )
    whole = replace(made({"seg": [[255, 0]]}), samples=(sample,))
    again = Evidence.from_bytes(whole.to_bytes())

    assert len(thinned(whole).to_bytes()) * 10 < len(whole.to_bytes())
    assert thinned(again).to_bytes() == thinned(whole).to_bytes()
