"""CLIPtrase in small numbers; the authors' own numbers are in tests/parity."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cliper_model import decide, presets
from cliper_model.backbones.clip import ClipBackbone, Heads
from cliper_model.backbones.tiny import tiny_clip
from cliper_model.errors import IncompatibleState
from cliper_model.methods.cliptrase import (
    Cliptrase,
    CliptraseConfig,
    CliptraseState,
    centre_square,
    summed_attention,
)
from cliper_model.segmenter import Decision, Identity, ImageState, Vocabulary
from cliper_model.stages import clusters

EVERYTHING = Decision(presence_threshold=0.0, background="none")


@pytest.fixture(scope="module")
def clip() -> ClipBackbone:
    return tiny_clip()


@pytest.fixture
def cliptrase(clip: ClipBackbone) -> Callable[..., Cliptrase]:
    def build(**changes: Any) -> Cliptrase:
        return Cliptrase(
            clip,
            CliptraseConfig(**{"short_side": 64, **changes}),
            presets=lambda name: presets.get(name, "tiny", "cliptrase"),
            identity=Identity(method="cliptrase", revision=1, profile="tiny"),
        )

    return build


def _words(count: int, background: int = 0) -> Vocabulary:
    generator = torch.Generator().manual_seed(count)
    rows = torch.randn(count + background, 32, generator=generator)
    return Vocabulary(
        labels=tuple(f"label {index}" for index in range(count)),
        preset="objects",
        rows=functional.normalize(rows, dim=-1),
        row_class=tuple(range(count)),
        mean_row=None,
        background=tuple(f"word {index}" for index in range(background)),
    )


# -- correlation and clusters ---------------------------------------------------------------


def test_correlation_is_the_mean_cosine_over_heads_and_projections() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = torch.randn(3, 2, 5, 4, generator=generator)

    found = clusters.correlation(queries, keys, values)

    by_hand = torch.zeros(5, 5)
    for part in (queries, keys, values):
        for head in part:
            by_hand += functional.cosine_similarity(head[:, None], head[None], dim=-1) / 6
    torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(found.diagonal(), torch.ones(5))


def test_what_every_patch_shares_with_the_class_token_is_noise() -> None:
    correlation = torch.tensor([[1.0, 0.2, 0.6], [0.2, 1.0, 0.5], [0.6, 0.5, 1.0]])

    left = clusters.denoised(correlation)

    torch.testing.assert_close(left, torch.tensor([[0.8, 0.0], [0.3, 0.4]]))


@pytest.mark.parametrize(
    ("patches", "eps", "samples"), [(196, 0.7, 3), (441, 1.05, 7), (4, 0.1, 3), (2500, 2.5, 39)]
)
def test_the_neighbourhood_grows_with_the_picture(patches: int, eps: float, samples: int) -> None:
    assert clusters.neighbourhood(patches) == (pytest.approx(eps), samples)


def test_published_neighbourhoods_are_absolute_and_both_can_be_set() -> None:
    small, large = (CliptraseConfig(short_side=side, published=True) for side in (224, 336))

    assert (small.neighbourhood(196), large.neighbourhood(441)) == ((0.7, 3), (1.1, 7))
    assert small.neighbourhood(9999) == (0.7, 3)
    assert CliptraseConfig(eps=0.3, min_samples=5).neighbourhood(196) == (0.3, 5)


def test_alike_patches_form_clusters_and_a_loner_is_noise() -> None:
    rows = torch.zeros(7, 7)
    rows[:3, :3], rows[3:6, 3:6], rows[6, 6] = 1.0, 1.0, 9.0

    numbers = clusters.group(rows, eps=0.5, min_samples=3)
    means = clusters.cluster_means(rows, numbers, grid_hw=(1, 7))

    assert numbers.tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert means[:, 0].tolist() == [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0]]


def test_without_a_cluster_there_is_no_map() -> None:
    numbers = clusters.group(torch.eye(6) * 9, eps=0.1, min_samples=3)

    means = clusters.cluster_means(torch.eye(6), numbers, grid_hw=(2, 3))

    assert (numbers == -1).all()
    assert clusters.enlarge_and_filter(means).shape == (0, 8, 12)


def test_the_median_keeps_edges_of_the_picture_and_drops_specks() -> None:
    flat = torch.full((1, 4, 6), 0.5)
    speck = torch.zeros(1, 9, 9)
    speck[0, 4, 4] = 1.0

    assert (clusters.enlarge_and_filter(flat) == 0.5).all()  # a border of zeros would darken it
    enlarged = clusters.enlarge_and_filter(speck)
    assert enlarged.shape == (1, 36, 36)
    assert enlarged.max() < 0.6


def test_three_attentions_are_added_not_averaged() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 2, 5, 4, generator=generator)

    mixed = summed_attention(Heads(queries, keys, torch.ones(2, 5, 4)))

    torch.testing.assert_close(mixed, torch.full((2, 5, 4), 3.0))


# -- the method ---------------------------------------------------------------------------


def test_the_published_square_is_the_middle_of_the_picture() -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 200

    square = centre_square(image, side=40)

    assert square.shape == (40, 40, 3)
    assert (square == 200).all()
    np.testing.assert_array_equal(centre_square(square, side=40), square)


def test_the_whole_picture_is_labelled_by_default_and_its_middle_as_published(
    cliptrase: Callable[..., Cliptrase], picture: Any
) -> None:
    image = picture(70, 140)
    words = _words(3)
    own, published = cliptrase(), cliptrase(published=True)

    whole = decide(own.score(own.observe(image), words), EVERYTHING)
    middle = decide(published.score(published.observe(image), words), EVERYTHING)

    assert whole.label_map.shape == (70, 140)
    assert middle.label_map.shape == (64, 64)


@pytest.mark.parametrize("size_hw", [(60, 90), (150, 70), (1, 1), (5, 400)])
def test_every_shape_gives_finite_scores_twice_the_same(
    cliptrase: Callable[..., Cliptrase], picture: Any, size_hw: tuple[int, int]
) -> None:
    method = cliptrase()
    image = picture(*size_hw)

    first, second = (method.score(method.observe(image), _words(3, 1)) for _ in range(2))

    assert first.rows is not None
    assert second.rows is not None
    assert np.isfinite(first.rows.values).all()
    np.testing.assert_array_equal(first.rows.values, second.rows.values)
    masks = [decide(one, EVERYTHING).label_map for one in (first, second)]
    assert masks[0].shape == size_hw
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("count", [1, 150])
def test_one_word_and_very_many_words_are_scored_on_a_blank_picture(
    cliptrase: Callable[..., Cliptrase], count: int
) -> None:
    method = cliptrase()
    blank = np.full((70, 100, 3), 255, np.uint8)

    scores = method.score(method.observe(blank), _words(count))

    assert scores.maps.shape[0] == count
    assert np.isfinite(scores.maps).all()
    assert decide(scores, EVERYTHING).label_map.min() >= 1


def test_a_single_cluster_does_not_vote_unless_published(
    cliptrase: Callable[..., Cliptrase], picture: Any
) -> None:
    image, words = picture(64, 64), _words(6)
    own, published = (cliptrase(eps=50.0, published=flag) for flag in (False, True))
    state = own.observe(image)
    assert len(state.clusters) == 1

    ours = own.score(state, words)
    theirs = published.score(published.observe(image), words)

    assert ours.clusters is None
    assert len(np.unique(decide(ours, EVERYTHING).label_map)) > 1
    assert theirs.clusters is not None
    assert len(np.unique(decide(theirs, EVERYTHING).label_map)) == 1


def test_two_clusters_vote_in_every_shape(
    cliptrase: Callable[..., Cliptrase], clip: ClipBackbone
) -> None:
    halves = torch.zeros(2, 16, 24)
    halves[0, :, :12], halves[1, :, 12:] = 1.0, 1.0
    generator = torch.Generator().manual_seed(0)
    state = CliptraseState(
        size_hw=(40, 60),
        class_feature=torch.randn(32, generator=generator),
        patches=torch.randn(24, 32, generator=generator),
        clusters=halves,
        grid_hw=(4, 6),
    )

    masks = decide(cliptrase().score(state, _words(5)), EVERYTHING).label_map

    assert len(np.unique(masks[:, :30])) == 1
    assert len(np.unique(masks[:, 30:])) == 1


def test_the_class_token_weighs_words_where_asked(cliptrase: Callable[..., Cliptrase]) -> None:
    text = torch.eye(32)[:2]
    state = CliptraseState(
        size_hw=(2, 2),
        class_feature=functional.normalize(torch.tensor([3.0, -4.0, *([0.0] * 30)]), dim=0),
        patches=torch.eye(32)[:1],
        clusters=torch.zeros(0, 4, 4),
        grid_hw=(1, 1),
    )

    plain, scale = cliptrase().logits(state, text, scale=100.0)
    weighed, one = cliptrase(class_token_product=True).logits(state, text, scale=100.0)

    assert (plain.flatten().tolist(), scale) == ([1.0, 0.0], 100.0)
    assert one == 1.0
    torch.testing.assert_close(weighed.flatten(), torch.tensor([100.0 * 60.0, 0.0]))


def test_presence_stays_a_share_when_the_class_token_weighs_words(
    cliptrase: Callable[..., Cliptrase], picture: Any
) -> None:
    method = cliptrase(class_token_product=True)

    scores = method.score(method.observe(picture(60, 90)), _words(5))

    assert scores.rows is not None
    assert scores.rows.scale == 1.0
    assert np.abs(scores.rows.values).max() > 10  # in logits squared
    assert ((scores.strength > 0) & (scores.strength < 1)).all()


def test_a_state_survives_its_bytes_and_no_other_method_reads_it(
    cliptrase: Callable[..., Cliptrase], picture: Any
) -> None:
    method = cliptrase()
    state = method.observe(picture(60, 90))

    again = CliptraseState.from_bytes(state.to_bytes())

    assert again.grid_hw == state.grid_hw == (4, 6)
    assert torch.equal(again.clusters, state.clusters)
    with pytest.raises(IncompatibleState, match="observe the image again"):
        method.score(ImageState(size_hw=(1, 1)), _words(1))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"eps": 0.0}, "eps must be positive, got 0.0"),
        ({"min_samples": 0}, "min_samples must be at least 1, got 0"),
        ({"short_side": 0}, "short_side and most_patches must be positive"),
    ],
)
def test_a_wrong_number_is_refused_at_once(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CliptraseConfig(**wrong)
