"""MaskCLIP in small numbers; the authors' own numbers are in tests/parity."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cliper_model import decide, presets, prompts
from cliper_model.backbones.clip import ClipBackbone
from cliper_model.backbones.tiny import tiny_clip
from cliper_model.errors import IncompatibleState
from cliper_model.methods.maskclip import Maskclip, MaskclipConfig, MaskclipState
from cliper_model.segmenter import Decision, Identity, ImageState, Vocabulary
from cliper_model.stages import canvas, smoothing

EVERYTHING = Decision(presence_threshold=0.0, background="none")


@pytest.fixture(scope="module")
def clip() -> ClipBackbone:
    return tiny_clip()


@pytest.fixture
def maskclip(clip: ClipBackbone) -> Callable[..., Maskclip]:
    def build(**changes: Any) -> Maskclip:
        return Maskclip(
            clip,
            MaskclipConfig(**{"short_side": 64, **changes}),
            presets=lambda name: presets.get(name, "tiny", "maskclip"),
            identity=Identity(method="maskclip", revision=1, profile="tiny"),
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


# -- refinement ---------------------------------------------------------------------------


def test_a_word_that_is_nowhere_likely_loses_every_place() -> None:
    cosines = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])  # the third wins nowhere

    muted = smoothing.mute_unseen_rows(cosines, threshold=0.5)

    assert torch.equal(muted[:2], cosines[:2])
    assert muted[2].tolist() == [-100.0, -100.0]


def test_where_no_word_is_likely_nobody_is_muted_unless_published() -> None:
    cosines = torch.zeros(3, 4)  # all as likely: a third each

    assert torch.equal(smoothing.mute_unseen_rows(cosines, threshold=0.5), cosines)
    published = smoothing.mute_unseen_rows(cosines, threshold=0.5, may_mute_all=True)
    assert (published == -100).all()


def test_keys_are_alike_by_their_direction_and_the_published_axis_is_another_thing() -> None:
    keys = torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0]])

    alike = smoothing.key_similarity(keys)

    torch.testing.assert_close(alike, torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]))
    published = smoothing.key_similarity(keys, axis="positions").diagonal()
    assert not torch.allclose(published, torch.ones(3))
    with pytest.raises(ValueError, match=r"channels, positions, got 'heads'"):
        smoothing.key_similarity(keys, axis="heads")


def test_an_unsure_patch_takes_the_evidence_of_patches_with_its_key() -> None:
    cosines = torch.tensor([[1.0, 0.001, 0.0], [0.0, 0.0, 1.0]]).view(2, 1, 3)  # middle unsure
    similarity = smoothing.key_similarity(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]))

    smoothed = smoothing.smooth_by_keys(cosines, similarity, threshold=0.9)

    likely = smoothing.row_probabilities(cosines)
    assert torch.equal(smoothed[:, 0, [0, 2]], likely[:, 0, [0, 2]])  # sure ones keep their own
    torch.testing.assert_close(smoothed[:, 0, 1], likely[:, 0, 1] + likely[:, 0, 2])
    assert smoothed[1, 0, 1] > smoothed[0, 0, 1]  # the middle now follows its twin


# -- canvas -------------------------------------------------------------------------------


def test_padding_is_cut_off_by_default_and_stretched_as_published() -> None:
    maps = torch.arange(6.0).view(1, 2, 3)  # cells of 16 px over a picture of 20 x 40
    large = functional.interpolate(maps[None], size=(32, 48), mode="bilinear")[0]
    stretched = functional.interpolate(maps[None], size=(20, 40), mode="bilinear")[0]
    whole = {"boxes": [(0, 0, 20, 40)], "seen_hw": (20, 40), "canvas_hw": (20, 40)}

    torch.testing.assert_close(canvas.paint([maps], patch=16, **whole), large[:, :20, :40])
    torch.testing.assert_close(canvas.paint([maps], patch=None, **whole), stretched)


def test_windows_count_as_often_as_they_cover_a_place() -> None:
    left, right = torch.zeros(1, 2, 2), torch.full((1, 2, 2), 4.0)

    painted = canvas.paint(
        [left, right],
        [(0, 0, 8, 8), (0, 4, 8, 12)],
        seen_hw=(8, 12),
        canvas_hw=(8, 12),
        patch=4,
    )

    assert painted[0, 0, ::4].tolist() == [0.0, 2.0, 4.0]


def test_very_many_words_get_a_coarser_canvas_of_the_same_shape() -> None:
    assert canvas.affordable_canvas((300, 400), maps=10, most_values=10**9) == (300, 400)
    height, width = canvas.affordable_canvas((300, 400), maps=1000, most_values=30_000_000)
    assert (height, width) == (150, 200)


def test_a_coarser_canvas_samples_the_same_picture() -> None:
    ramp = torch.arange(8.0).view(1, 1, 8).expand(1, 4, 8)

    painted = canvas.paint([ramp], [(0, 0, 64, 128)], seen_hw=(64, 128), canvas_hw=(2, 4), patch=16)

    torch.testing.assert_close(painted[0], torch.tensor([[0.5, 2.5, 4.5, 6.5]]).expand(2, 4))


# -- the method ---------------------------------------------------------------------------


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("size_hw", [(60, 90), (150, 70), (1, 1), (5, 400)])
@pytest.mark.parametrize(("key_smoothing", "prompt_denoising"), [(0.0, 0.0), (1.0, 0.5)])
def test_every_shape_gives_finite_scores_twice_the_same(
    maskclip: Callable[..., Maskclip],
    picture: Any,
    size_hw: tuple[int, int],
    published: bool,
    key_smoothing: float,
    prompt_denoising: float,
) -> None:
    method = maskclip(
        key_smoothing=key_smoothing, prompt_denoising=prompt_denoising, published=published
    )
    image = picture(*size_hw)

    first, second = (method.score(method.observe(image), _words(3, 1)) for _ in range(2))

    assert first.rows is not None
    assert second.rows is not None
    assert np.isfinite(first.rows.values).all()
    assert np.isfinite(first.maps).all()
    np.testing.assert_array_equal(first.rows.values, second.rows.values)
    assert decide(first, EVERYTHING).label_map.shape == size_hw
    assert ((first.presence >= 0) & (first.presence <= 1)).all()


@pytest.mark.parametrize("count", [1, 150])
def test_one_word_and_very_many_words_are_scored_on_a_blank_picture(
    maskclip: Callable[..., Maskclip], count: int
) -> None:
    method = maskclip(key_smoothing=1.0, prompt_denoising=0.5)
    blank = np.full((70, 100, 3), 255, np.uint8)

    scores = method.score(method.observe(blank), _words(count))

    assert scores.maps.shape[0] == count
    assert np.isfinite(scores.maps).all()
    assert decide(scores, EVERYTHING).label_map.min() >= 1


def test_the_temperature_changes_confidence_but_no_label(
    maskclip: Callable[..., Maskclip], picture: Any
) -> None:
    method = maskclip()
    scores = method.score(method.observe(picture(60, 90)), _words(5))
    assert scores.rows is not None
    soft = replace(scores, rows=replace(scores.rows, scale=1.0))

    sharp_masks, soft_masks = (decide(one, EVERYTHING) for one in (scores, soft))

    np.testing.assert_array_equal(sharp_masks.label_map, soft_masks.label_map)
    assert sharp_masks.confidence.max() > soft_masks.confidence.max()


def test_presence_is_one_half_where_prompt_denoising_would_start(
    maskclip: Callable[..., Maskclip], picture: Any
) -> None:
    method = maskclip()
    words = _words(4)
    state = method.observe(picture(60, 90))
    scores = method.score(state, words)

    cosines = method.cosine_maps(state, words.rows)[0]
    muted = smoothing.mute_unseen_rows(cosines, threshold=0.5)

    half = presets.get("objects", "ViT-B-16-quickgelu", "maskclip")
    present = half.presence(scores.strength) >= 0.5
    np.testing.assert_array_equal(present, (muted > -100).all(dim=(1, 2)).numpy())


def test_a_picture_is_seen_through_windows_when_asked(
    maskclip: Callable[..., Maskclip], picture: Any
) -> None:
    method = maskclip(crop=48, stride=32)

    state = method.observe(picture(64, 96))

    assert state.seen_hw == (64, 96)
    assert state.boxes[0] == (0, 0, 48, 48)
    assert state.boxes[-1] == (16, 48, 64, 96)
    assert state.features.shape == (6, 9, 32)
    assert method.score(state, _words(2)).rows is not None


def test_positions_follow_the_shape_of_the_grid_unless_published(clip: ClipBackbone) -> None:
    wide = torch.zeros(1, 3, 32, 128)  # 2 x 8 patches on a table of 4 x 4
    published, own = (MaskclipConfig(published=flag).form for flag in (True, False))

    ours, theirs = (clip.enter(wide, replace(form, eps=None))[0] for form in (own, published))

    same = clip.enter(torch.zeros(1, 3, 64, 64), own)[0]
    assert torch.equal(theirs, same)  # as if it were square
    assert not torch.equal(ours, same)


def test_a_state_survives_its_bytes_and_no_other_method_reads_it(
    maskclip: Callable[..., Maskclip], picture: Any
) -> None:
    method = maskclip(key_smoothing=1.0)
    state = method.observe(picture(60, 90))

    again = MaskclipState.from_bytes(state.to_bytes())

    assert (again.boxes, again.grid_hw, again.seen_hw) == (state.boxes, (4, 6), (64, 96))
    assert torch.equal(again.keys, state.keys)
    with pytest.raises(IncompatibleState, match="observe the image again"):
        method.score(ImageState(size_hw=(1, 1)), _words(1))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"key_smoothing": 1.5}, r"key_smoothing must be in \[0, 1\], got 1.5"),
        ({"prompt_denoising": -0.1}, r"prompt_denoising must be in \[0, 1\], got -0.1"),
        ({"short_side": 0}, "must be positive"),
        ({"crop": 64, "stride": 65}, "stride must be between 0 and crop"),
    ],
)
def test_a_wrong_number_is_refused_at_once(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MaskclipConfig(**wrong)


def test_the_published_list_is_the_eighty_templates_and_five_of_the_scene() -> None:
    all_of_them = prompts.templates("85")

    assert all_of_them[:80] == prompts.templates("80")
    assert len(set(all_of_them)) == 85
    assert all("the scene" in template for template in all_of_them[80:])
