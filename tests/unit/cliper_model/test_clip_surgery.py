"""CLIP Surgery in small numbers; the authors' own numbers are in tests/parity."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cliper_model import decide, presets
from cliper_model.backbones.clip import ClipBackbone
from cliper_model.backbones.tiny import tiny_clip
from cliper_model.errors import IncompatibleState, WeightsMismatch
from cliper_model.methods.clip_surgery import ClipSurgery, ClipSurgeryConfig, ClipSurgeryState
from cliper_model.segmenter import Decision, Identity, ImageState, Vocabulary
from cliper_model.stages import surgery

EVERYTHING = Decision(presence_threshold=0.0, background="none")


@pytest.fixture(scope="module")
def clip() -> ClipBackbone:
    return tiny_clip()


@pytest.fixture
def clip_surgery(clip: ClipBackbone) -> Callable[..., ClipSurgery]:
    def build(**changes: Any) -> ClipSurgery:
        return ClipSurgery(
            clip,
            ClipSurgeryConfig(**{"short_side": 64, **changes}),
            presets=lambda name: presets.get(name, "tiny", "clip-surgery"),
            identity=Identity(method="clip-surgery", revision=1, profile="tiny"),
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


# -- attention and redundancy -----------------------------------------------------------------


def test_tokens_take_from_those_that_are_like_them() -> None:
    values = torch.tensor([[[30.0, 0.0], [30.0, 0.0], [0.0, 30.0]]])  # 1 head, 3 tokens

    torch.testing.assert_close(surgery.consistent_attention(values), values)


def test_the_pictures_own_words_weigh_more_and_weights_average_to_one() -> None:
    weights = surgery.class_token_weights(torch.tensor([0.28, 0.22, 0.20, 0.18, 0.17, 0.16]))

    assert weights.mean() == pytest.approx(1.0)
    expected = [1.17, 1.03, 0.99, 0.95, 0.94, 0.92]  # the specification's example
    assert weights.tolist() == pytest.approx(expected, abs=0.012)


def test_removal_is_the_published_subtraction_of_products() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = functional.normalize(torch.randn(7, 16, generator=generator), dim=-1)
    rows = functional.normalize(torch.randn(4, 16, generator=generator), dim=-1)
    cosines = tokens @ rows.T
    weights = surgery.class_token_weights(cosines[0])

    short = surgery.remove_redundancy(cosines, weights)

    products = tokens[:, None] * rows[None] * weights[None, :, None]
    long = (products - products.mean(dim=1, keepdim=True)).sum(dim=-1)
    torch.testing.assert_close(short, long)


def test_removal_without_weights_changes_no_arg_max() -> None:
    cosines = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))

    removed = surgery.remove_redundancy(cosines, torch.ones(6))

    assert torch.equal(removed.argmax(dim=1), cosines.argmax(dim=1))
    torch.testing.assert_close(removed.sum(dim=1), torch.zeros(50), atol=1e-6, rtol=0)


# -- maps and points ---------------------------------------------------------------------------


def test_a_map_without_contrast_is_zero_and_not_a_number_only_as_published() -> None:
    maps = torch.stack([torch.full((2, 2), 0.3), torch.tensor([[0.0, 1.0], [2.0, 4.0]])])

    own = surgery.stretch(maps, epsilon=surgery.EPSILON)

    assert (own[0] == 0).all()
    torch.testing.assert_close(own[1], torch.tensor([[0.0, 0.25], [0.5, 1.0]]))
    assert surgery.stretch(maps, epsilon=0.0)[0].isnan().all()


def test_points_lie_on_the_strongest_and_on_the_weakest_place() -> None:
    grid = torch.full((8, 12), 0.5)
    grid[:2, :2], grid[6:, 10:] = 1.0, 0.0  # strong at the top left, weak at the bottom right

    found = surgery.points(grid, size_hw=(80, 240))

    assert found.inside.tolist() == [True, False]
    assert found.places_xy.tolist() == [[20, 10], [220, 70]]  # x, y of the halved cells' centres


def test_there_are_never_more_points_inside_than_half_of_the_places() -> None:
    grid = torch.rand(9, 13, generator=torch.Generator().manual_seed(0))

    found = surgery.points(grid, size_hw=(30, 50), threshold=0.01)

    assert found.inside.sum() == (4 * 6) // 2
    assert len(found.inside) == 2 * found.inside.sum()
    assert (found.places_xy >= 0).all()
    assert (found.places_xy < (50, 30)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 3), (8, 8)])
def test_a_map_without_contrast_gives_no_points(shape: tuple[int, int]) -> None:
    found = surgery.points(torch.full(shape, 0.7), size_hw=(100, 100))

    assert found.places_xy.shape == (0, 2)


def test_a_threshold_for_points_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\], got 0"):
        surgery.points(torch.zeros(4, 4), size_hw=(4, 4), threshold=0.0)


def test_joined_texts_take_positives_from_each_and_negatives_from_their_average() -> None:
    cat = torch.tensor([[1.0, 0.5], [0.2, 0.0]])
    dog = torch.tensor([[0.0, 10.0], [4.0, 3.0]])  # stretched: 0, 1, 0.4, 0.3
    maps = torch.stack([cat, dog]).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)

    found = surgery.points_together(maps, size_hw=(80, 160))

    # the average is 0.5, 0.75, 0.3, 0.15: one place of at least 0.8, so one weakest place
    assert found.places_xy.tolist() == [[40, 20], [120, 20], [120, 60]]
    assert found.inside.tolist() == [True, True, False]


def test_joined_texts_without_contrast_give_no_points() -> None:
    found = surgery.points_together(torch.full((2, 4, 4), 0.7), size_hw=(9, 9))

    assert found.places_xy.shape == (0, 2)
    assert found.inside.shape == (0,)


def test_one_text_joined_with_nothing_has_its_own_points() -> None:
    grid = torch.rand(1, 9, 13, generator=torch.Generator().manual_seed(0))

    together = surgery.points_together(grid, size_hw=(30, 50), threshold=0.6)

    alone = surgery.points(grid[0], size_hw=(30, 50), threshold=0.6)
    np.testing.assert_array_equal(together.places_xy, alone.places_xy)
    np.testing.assert_array_equal(together.inside, alone.inside)
    assert len(alone.inside) > 2


# -- the method ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "layers", "changed"), [(6, 12, 6), (6, 6, 6), (6, 4, 3), (6, 1, 1), (1, 12, 1)]
)
def test_a_shallow_tower_keeps_one_ordinary_block(blocks: int, layers: int, changed: int) -> None:
    assert ClipSurgeryConfig(blocks=blocks).changed_blocks(layers) == changed


def test_a_shallow_tower_is_refused_as_published(
    clip_surgery: Callable[..., ClipSurgery],
) -> None:
    with pytest.raises(WeightsMismatch, match=r"choose a larger CLIP model .* this tower has 4"):
        clip_surgery(published=True)


def test_the_class_token_is_that_of_the_unchanged_model(
    clip_surgery: Callable[..., ClipSurgery], clip: ClipBackbone, picture: Any
) -> None:
    method, image = clip_surgery(), picture(64, 96)

    state = method.observe(image)

    tokens, _ = clip.enter(method.pixels(image))
    ordinary = clip.embed(clip.run(tokens, 0, clip.layers))
    torch.testing.assert_close(state.features[0], ordinary[0])
    assert not torch.allclose(state.features[1:], ordinary[1:], atol=1e-3)


def test_a_picture_keeps_its_shape_by_default_and_is_a_square_as_published(
    clip_surgery: Callable[..., ClipSurgery], picture: Any
) -> None:
    image = picture(60, 120)

    own, published = clip_surgery(), clip_surgery(blocks=2, published=True)

    assert own.observe(image).grid_hw == (4, 8)
    assert published.observe(image).grid_hw == (4, 4)


@pytest.mark.parametrize("size_hw", [(60, 90), (150, 70), (1, 1), (5, 400)])
def test_every_shape_gives_finite_maps_and_points_twice_the_same(
    clip_surgery: Callable[..., ClipSurgery], picture: Any, size_hw: tuple[int, int]
) -> None:
    method, words = clip_surgery(), _words(3, 1)
    states = [method.observe(picture(*size_hw)) for _ in range(2)]

    maps = [method.similarity_maps(state, words) for state in states]
    points = [method.points(state, words) for state in states]
    masks = [decide(method.score(state, words), EVERYTHING).label_map for state in states]

    assert maps[0].shape == (3, *size_hw)
    assert maps[0].min() >= 0
    assert maps[0].max() <= 1
    np.testing.assert_array_equal(*maps)
    np.testing.assert_array_equal(*masks)
    for first, second in zip(*points, strict=True):
        np.testing.assert_array_equal(first.places_xy, second.places_xy)
        assert (first.places_xy < (size_hw[1], size_hw[0])).all()


@pytest.mark.parametrize("count", [1, 150])
def test_one_word_and_very_many_words_are_scored_on_a_blank_picture(
    clip_surgery: Callable[..., ClipSurgery], count: int
) -> None:
    method, words = clip_surgery(), _words(count)
    state = method.observe(np.full((70, 100, 3), 255, np.uint8))

    scores = method.score(state, words)

    assert scores.maps.shape[0] == count
    assert decide(scores, EVERYTHING).label_map.min() >= 1
    assert np.isfinite(method.similarity_maps(state, words, size_hw=(20, 30))).all()


def test_joined_labels_share_their_negative_points(
    clip_surgery: Callable[..., ClipSurgery], picture: Any
) -> None:
    method, words = clip_surgery(), _words(3)
    state = method.observe(picture(64, 96))

    together = method.points_together(state, words, threshold=0.7)

    single = method.points(state, words, threshold=0.7)
    positive = np.concatenate([found.places_xy[found.inside] for found in single])
    np.testing.assert_array_equal(together.places_xy[together.inside], positive)
    maps = method.label_maps(state, words)
    average = surgery.stretch(maps, epsilon=surgery.EPSILON).mean(dim=0)
    joint = surgery.points(average, size_hw=(64, 96), threshold=0.7)
    np.testing.assert_array_equal(
        together.places_xy[~together.inside], joint.places_xy[~joint.inside]
    )
    assert 0 < together.inside.sum() < len(together.inside)


def test_another_number_of_blocks_is_the_method_built_with_it(
    clip_surgery: Callable[..., ClipSurgery], picture: Any
) -> None:
    image = picture(64, 96)

    changed = clip_surgery().with_numbers(blocks=1).observe(image)

    built, default = clip_surgery(blocks=1).observe(image), clip_surgery().observe(image)
    assert torch.equal(changed.features, built.features)  # type: ignore[attr-defined]
    assert not torch.equal(built.features, default.features)


def test_a_single_word_is_compared_with_an_empty_name(
    clip_surgery: Callable[..., ClipSurgery], picture: Any
) -> None:
    method = clip_surgery()
    state = method.observe(picture(64, 64))

    alone = method.similarity(state, _words(1))
    nameless = method.similarity(state, _words(1), redundancy="empty name")
    against_background = method.similarity(state, _words(1, background=2))

    assert torch.equal(alone, nameless)
    assert alone.std() > 0  # the label set of one word would leave nothing
    assert against_background.shape[1] == 3
    with pytest.raises(ValueError, match=r"auto, label set, empty name: 'none'"):
        method.similarity(state, _words(1), redundancy="none")


def test_a_label_of_several_words_gets_the_map_of_its_likeliest_word(
    clip_surgery: Callable[..., ClipSurgery], picture: Any
) -> None:
    method = clip_surgery()
    state = method.observe(picture(64, 96))
    words = _words(3)
    joined = Vocabulary(
        labels=("first", "second"),
        preset="objects",
        rows=words.rows,
        row_class=(0, 0, 1),
        mean_row=None,
    )

    maps = method.label_maps(state, joined)

    by_word = method.similarity(state, joined)[1:].T.reshape(3, 4, 6)
    torch.testing.assert_close(maps, torch.stack([by_word[:2].amax(dim=0), by_word[2]]))


def test_a_state_survives_its_bytes_and_no_other_method_reads_it(
    clip_surgery: Callable[..., ClipSurgery], picture: Any
) -> None:
    method = clip_surgery()
    state = method.observe(picture(60, 90))

    again = ClipSurgeryState.from_bytes(state.to_bytes())

    assert again.grid_hw == state.grid_hw == (4, 6)
    assert torch.equal(again.features, state.features)
    with pytest.raises(IncompatibleState, match="observe the image again"):
        method.points(ImageState(size_hw=(1, 1)), _words(1))


def test_a_wrong_number_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="short_side, blocks and most_patches must be positive"):
        ClipSurgeryConfig(blocks=0)
