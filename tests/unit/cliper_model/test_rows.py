"""Row logits, clusters, proxy attention and windows: the parts the methods share."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cliper_model import Decision, Label, decide, presets
from cliper_model.backbones.tiny import tiny_clip, tiny_features
from cliper_model.methods.clip import PlainClip
from cliper_model.methods.proxyclip import ProxyClip, ProxyClipConfig
from cliper_model.methods.proxyclip_adjust import AdjustConfig, AdjustedProxyClip
from cliper_model.methods.windowed import WindowedConfig
from cliper_model.segmenter import (
    Identity,
    InSteps,
    RowLogits,
    Scores,
    Vocabulary,
    finished,
)
from cliper_model.stages import canvas, resize
from cliper_model.stages import decide as deciding
from cliper_model.stages.decide import vote
from cliper_model.stages.proxy import proxy_attention
from cliper_model.stages.refine import spread_along_similarity
from cliper_model.stages.rows import cosines, distinct, row_owners, row_scores

ALL = Decision(presence_threshold=0.0, background="threshold", background_threshold=0.0)


def scores_of(
    values: Any, row_class: tuple[int, ...], size_hw: tuple[int, int], **more: Any
) -> Scores:
    labels = tuple(f"label {n}" for n in range(max(row_class) + 1))
    values = np.asarray(values, np.float32)
    ones = np.ones(len(labels), np.float32)
    return Scores(
        labels=labels,
        maps=np.zeros((len(labels), *values.shape[1:]), np.float32),
        strength=ones,
        presence=ones,
        size_hw=size_hw,
        rows=RowLogits(values=values, row_class=row_class, scale=more.pop("scale", 10.0)),
        **more,
    )


def vocabulary_of(rows: torch.Tensor, row_class: tuple[int, ...]) -> Vocabulary:
    labels = tuple(f"label {n}" for n in range(max(row_class) + 1))
    return Vocabulary(
        labels=labels, preset="objects", rows=rows, row_class=row_class, mean_row=None
    )


# --- row logits ------------------------------------------------------------------------------


def test_the_softmax_comes_after_the_upsampling():
    values = [[[0.0, 1.0]], [[0.4, 0.4]]]  # two rows, two cells side by side

    found = decide(scores_of(values, (0, 1), (1, 8)), ALL)

    centres = (np.arange(8) + 0.5) / 4 - 0.5  # bilinear: the first row passes 0.4 linearly
    wanted = np.where(np.clip(centres, 0, 1) > 0.4, 1, 2)
    np.testing.assert_array_equal(found.label_map[0], wanted)


def test_a_label_is_as_likely_as_its_likeliest_synonym_and_background_words_win_pixels():
    values = [[[0.1]], [[0.9]], [[0.5]], [[0.8]]]  # two synonyms, another label, background

    with_synonyms = decide(scores_of(values, (0, 0, 1, -1), (2, 2)), ALL)
    without = decide(scores_of([values[0], *values[2:]], (0, 1, -1), (2, 2)), ALL)
    nowhere_else = decide(
        scores_of([values[0], *values[2:]], (0, 1, -1), (2, 2)), replace(ALL, background="none")
    )

    assert (with_synonyms.label_map == 1).all()
    assert (without.label_map == 0).all()
    assert (nowhere_else.label_map == 2).all()


def test_a_pixel_nobody_is_sure_of_is_background():
    values = [[[0.1, 0.9]], [[0.1, 0.0]]]
    scores = scores_of(values, (0, 1), (1, 2))

    found = decide(scores, replace(ALL, background_threshold=0.6))

    np.testing.assert_array_equal(found.label_map, [[0, 1]])
    assert found.confidence[0] == pytest.approx(1 / (1 + np.exp(-9)), abs=1e-5)
    assert found.confidence[1] == 0


def test_labels_that_are_absent_leave_their_pixels_to_the_next():
    values = [[[0.9]], [[0.5]]]
    scores = replace(scores_of(values, (0, 1), (2, 2)), presence=np.array([0.1, 0.9], np.float32))

    found = decide(scores, replace(ALL, presence_threshold=0.5))

    assert (found.label_map == 2).all()


def test_a_mask_threshold_is_a_share_of_the_labels_own_largest_probability():
    values = [[[0.30, 0.25, 0.0]], [[0.0, 0.0, 0.29]]]
    scores = replace(scores_of(values, (0, 1), (1, 3)), strength=np.full(2, 0.01, np.float32))

    loose = decide(scores, replace(ALL, mask_threshold=0.5))
    strict = decide(scores, replace(ALL, mask_threshold=0.98))

    np.testing.assert_array_equal(loose.label_map, [[1, 1, 2]])
    np.testing.assert_array_equal(strict.label_map, [[1, 0, 2]])


def test_overlapping_masks_of_row_logits_are_near_ties_only():
    """Probabilities: 0.50 and 0.50, then 0.38 and 0.62, then 0.05 and 0.95."""
    values = [[[0.5, 0.45, 0.2]], [[0.5, 0.5, 0.5]]]

    found = decide(scores_of(values, (0, 1), (1, 3)), replace(ALL, overlap=True))

    assert found.layers is not None
    np.testing.assert_array_equal(found.layers[:, 0], [[True, True, False], [True, True, True]])


def test_a_background_word_keeps_overlapping_masks_away():
    values = [[[0.5, 0.1]], [[0.5, 0.1]], [[0.1, 0.6]]]  # two labels, one background word

    found = decide(scores_of(values, (0, 1, -1), (1, 2)), replace(ALL, overlap=True))

    assert found.layers is not None
    np.testing.assert_array_equal(found.layers[:, 0], [[True, False], [True, False]])


def test_clusters_vote_for_every_overlapping_mask():
    values = [[[0.5, 0.5, 0.0, 0.0]], [[0.5, 0.0, 0.5, 0.5]]]
    clusters = np.array([[[1.0, 1, 0, 0]], [[0, 0, 1.0, 1]]], np.float32)

    found = decide(scores_of(values, (0, 1), (1, 4), clusters=clusters), replace(ALL, overlap=True))

    assert found.layers is not None
    np.testing.assert_array_equal(
        found.layers[:, 0], [[True, True, False, False], [True, True, True, True]]
    )


def test_upsampling_needs_only_a_few_source_rows_at_a_time(monkeypatch: pytest.MonkeyPatch):
    maps = np.random.default_rng(0).random((3, 40, 30), np.float32)

    def whole(size_hw: tuple[int, int]) -> Any:
        blocks = [block for _, block in deciding.upsampled_rows(maps, size_hw=size_hw)]
        return np.concatenate(blocks, axis=1)

    large, small = whole((97, 61)), whole((16, 12))
    monkeypatch.setattr(deciding, "BLOCK_VALUES", 3 * 61 * 5)

    np.testing.assert_array_equal(whole((97, 61)), large)
    np.testing.assert_array_equal(whole((16, 12)), small)
    shown = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None], size=(97, 61), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(large, shown[0].numpy(), atol=1e-5)


def test_logits_and_owners_must_be_equally_many():
    with pytest.raises(ValueError, match="2 rows but 1 classes of rows"):
        RowLogits(values=np.zeros((2, 1, 1), np.float32), row_class=(0,), scale=1.0)


def test_background_rows_follow_the_labels_rows():
    words = vocabulary_of(torch.eye(4)[:, :4], (0, 0, 1))

    assert row_owners(words) == (0, 0, 1, -1)


def test_the_same_row_counts_once_for_one_owner_and_again_for_another():
    rows = torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 0]])
    words = vocabulary_of(rows, (0, 0, 0, 1))

    assert distinct(words) == [0, 2, 3]


def test_fine_logits_are_shown_coarser_and_decided_as_they_are():
    logits = torch.zeros(2, 300, 400)
    logits[0, :, :200] = 1
    words = vocabulary_of(torch.eye(2), (0, 1))

    scores = row_scores(
        logits, words, owners=(0, 1), scale=20.0, size_hw=(300, 400), presence=lambda s: s
    )

    assert scores.maps.shape == (2, 96, 128)
    assert scores.rows is not None
    assert scores.rows.values.shape == (2, 300, 400)
    assert (decide(scores, ALL).label_map[:, :200] == 1).all()
    assert scores.strength[0] > 0.99


def test_cosines_do_not_depend_on_length():
    features, rows = torch.tensor([[3.0, 0], [0, 2]]), torch.tensor([[5.0, 0]])

    torch.testing.assert_close(cosines(features, rows), torch.tensor([[1.0], [0.0]]))


# --- clusters --------------------------------------------------------------------------------


def test_the_most_frequent_label_takes_its_cluster_and_ties_go_to_the_lower_background_last():
    clusters = np.array([[[1.0, 0]], [[0, 1.0]]], np.float32)  # left half, right half
    labels = np.array([[1, 1, 2, 0, 2, 0]])

    found = vote(labels, clusters, classes=2)
    tied = vote(np.array([[2, 1, 0, 0, 1, 0]]), clusters, classes=2)

    np.testing.assert_array_equal(found, [[1, 1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(tied, [[1, 1, 1, 0, 0, 0]])
    even = vote(np.array([[2, 0, 2, 0]]), clusters[:1], classes=2)
    np.testing.assert_array_equal(even, [[2, 2, 2, 2]])  # two each: the label goes first


def test_confidence_after_the_vote_is_that_of_the_voted_label():
    values = [[[0.9, 0.9, 0.1]], [[0.1, 0.1, 0.9]]]
    scores = scores_of(values, (0, 1), (1, 3), clusters=np.ones((1, 1, 3), np.float32))

    found = decide(scores, ALL)

    assert (found.label_map == 1).all()
    high, low = 1 / (1 + np.exp(-8)), 1 / (1 + np.exp(8))
    assert found.confidence[0] == pytest.approx((2 * high + low) / 3, abs=1e-4)


# --- proxy attention -------------------------------------------------------------------------


def test_places_attend_to_what_resembles_them_more_than_average():
    features = torch.zeros(2, 2, 2)
    features[0, 0], features[1, 1] = 1.0, 1.0  # the upper row differs from the lower

    attention = proxy_attention(features, beta=1.2, gamma=3.0)

    torch.testing.assert_close(attention[0], torch.tensor([0.5, 0.5, 0, 0]))
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(4))


def test_uniform_features_make_every_place_attend_to_itself_unless_published():
    uniform = torch.ones(3, 2, 3)

    safe = proxy_attention(uniform, beta=1.2, gamma=3.0)
    published = proxy_attention(uniform, beta=1.2, gamma=3.0, safe=False)

    torch.testing.assert_close(safe, torch.eye(6))
    assert published.isnan().all()


def test_similarities_spread_a_map_over_the_places_that_belong_together():
    features = torch.zeros(2, 2, 4)
    features[0, :, :2], features[1, :, 2:] = 1.0, 1.0
    maps = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 0]]])

    spread = spread_along_similarity(maps, features, beta=1.2, gamma=3.0)

    torch.testing.assert_close(spread[0, :, :2], torch.full((2, 2), 0.25))
    assert (spread[0, :, 2:] == 0).all()


# --- windows ---------------------------------------------------------------------------------

PARTS: dict[str, Any] = {
    "presets": lambda name: presets.get(name, "tiny", "proxyclip"),
    "identity": Identity(method="proxyclip", revision=1, profile="tiny"),
}


def test_a_crop_as_large_as_the_picture_equals_one_look(picture: Any):
    whole = PlainClip(tiny_clip(), WindowedConfig(short_side=64, crop=0), **PARTS)
    cropped = PlainClip(tiny_clip(), WindowedConfig(short_side=64, crop=64, stride=16), **PARTS)
    image = picture(64, 64)

    one, other = whole.observe(image), cropped.observe(image)

    torch.testing.assert_close(one.features, other.features)
    assert one.boxes == other.boxes == ((0, 0, 64, 64),)


def test_crops_are_stitched_by_their_mean(picture: Any):
    method = PlainClip(tiny_clip(), WindowedConfig(short_side=64, crop=64, stride=32), **PARTS)
    state = method.observe(picture(64, 128))
    rows = method.read(["tree", "house"]).rows[:2]

    stitched = method.stitched(state, rows)

    assert state.boxes == ((0, 0, 64, 64), (0, 32, 64, 96), (0, 64, 64, 128))
    parts = [
        resize.resize_maps(cosines(state.features[n], rows).T.reshape(2, 4, 4), size_hw=(64, 64))
        for n in range(3)
    ]
    torch.testing.assert_close(stitched[:, :, :32], parts[0][:, :, :32])
    both = (parts[0][:, :, 32:] + parts[1][:, :, :32]) / 2
    torch.testing.assert_close(stitched[:, :, 32:64], both)


def test_more_rows_than_memory_allows_are_stitched_coarser(
    picture: Any, monkeypatch: pytest.MonkeyPatch
):
    method = PlainClip(tiny_clip(), WindowedConfig(short_side=64, crop=64, stride=32), **PARTS)
    state = method.observe(picture(64, 128))
    rows = method.read(["tree", "house"]).rows[:2]
    fine = method.stitched(state, rows)

    monkeypatch.setattr(canvas, "MOST_VALUES", 2 * 32 * 64)
    coarse = method.stitched(state, rows)

    assert coarse.shape == (2, 32, 64)
    halved = torch.nn.functional.avg_pool2d(fine[None], 2)[0]
    torch.testing.assert_close(coarse, halved, atol=0.02, rtol=0)


def test_padding_makes_whole_cells_of_both_networks_and_is_cut_off_again(picture: Any):
    method = ProxyClip(
        tiny_clip(), tiny_features(), ProxyClipConfig(short_side=40, crop=64, stride=32), **PARTS
    )

    state = method.observe(picture(40, 50))
    published = replace(method.config, published=True)
    as_published = ProxyClip(tiny_clip(), tiny_features(), published, **PARTS)

    assert method.cell == 16
    assert state.padding == ((4, 7, 4, 7),)
    assert state.grids == ((6, 8),)  # 48 x 64 px in cells of 8
    assert as_published.observe(picture(40, 50)).padding == ((8, 3, 8, 3),)  # to 56
    scores = method.score(state, method.read(["tree", "house"]))
    assert scores.rows is not None
    assert scores.rows.values.shape[1:] == (40, 50)


def test_the_class_token_of_the_whole_picture_weighs_words_alike_in_every_crop(picture: Any):
    config = AdjustConfig(short_side=64, crop=64, stride=32)
    image = picture(64, 160)
    ours = AdjustedProxyClip(tiny_clip(), tiny_features(), config, **PARTS).observe(image)
    published = replace(config, published=True)
    theirs = AdjustedProxyClip(tiny_clip(), tiny_features(), published, **PARTS).observe(image)

    assert (ours.class_features == ours.class_features[0]).all()
    assert not torch.allclose(theirs.class_features[0], theirs.class_features[1])


def test_crops_are_looked_at_one_by_one_and_others_in_between(picture: Any):
    config = AdjustConfig(short_side=64, crop=64, stride=32)
    method = AdjustedProxyClip(tiny_clip(), tiny_features(), config, **PARTS)
    image, other = picture(64, 160), picture(64, 64)
    alone, alone_too = method.observe(image), method.observe(other).to_bytes()
    between: list[bytes] = []

    def look() -> None:
        between.append(method.observe(other).to_bytes())

    assert isinstance(method, InSteps)
    found = finished(method.observe_in_steps(image), between=look)

    assert found.to_bytes() == alone.to_bytes()
    assert between == [alone_too] * len(alone.boxes)  # the whole picture comes last
    assert len(alone.boxes) == 4


def test_subtraction_alone_changes_no_label_and_weights_do_what_weights_with_it_do(picture: Any):
    image = picture(64, 64)
    labels = {}
    for adjust in ("none", "subtract", "weights", "weights+subtract"):
        config = AdjustConfig(short_side=64, crop=64, stride=32, adjust=adjust)
        method = AdjustedProxyClip(tiny_clip(), tiny_features(), config, **PARTS)
        labels[adjust] = method.segment(
            image, [Label("tree"), Label("house"), Label("car")], background=(), decision=ALL
        ).label_map

    np.testing.assert_array_equal(labels["none"], labels["subtract"])
    np.testing.assert_array_equal(labels["weights"], labels["weights+subtract"])
    with pytest.raises(ValueError, match="adjust must be one of none, weights"):
        AdjustConfig(adjust="everything")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"short_side": 0}, "short_side must be positive"), ({"stride": 0}, r"stride must be in 1")],
)
def test_wrong_windows_are_refused(wrong: dict[str, int], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        WindowedConfig(**wrong)


# --- sizes -----------------------------------------------------------------------------------


def test_the_long_side_bounds_the_short_one(picture: Any):
    assert resize.to_short_side(picture(100, 400), short_side=50).shape == (50, 200, 3)
    assert resize.to_short_side(picture(100, 400), short_side=50, long_side=100).shape == (
        25,
        100,
        3,
    )
    sharp = resize.to_short_side(picture(100, 400), short_side=50, antialias=False)
    smooth = resize.to_short_side(picture(100, 400), short_side=50)
    assert sharp.shape == smooth.shape
    assert (sharp != smooth).any()


def test_positions_follow_their_rule():
    table = torch.randn(17, 8, generator=torch.Generator().manual_seed(0))

    exact = resize.resize_positions(table, grid_hw=(4, 4), rule="bicubic+0.1")
    by_count = resize.resize_positions(table, grid_hw=(2, 8), rule="bicubic", by_count=True)
    resized = resize.resize_positions(table, grid_hw=(2, 8), rule="bicubic")
    shifted = resize.resize_positions(table, grid_hw=(6, 6), rule="bicubic+0.1")
    plain = resize.resize_positions(table, grid_hw=(6, 6), rule="bicubic")

    assert torch.equal(exact, table)
    assert torch.equal(by_count, table)
    assert not torch.allclose(resized, table)
    assert shifted.shape == plain.shape == (37, 8)
    assert 0 < (shifted - plain).abs().max() < 1
    with pytest.raises(ValueError, match="positions must be one of bilinear, bicubic"):
        resize.resize_positions(table, grid_hw=(6, 6), rule="nearest")
