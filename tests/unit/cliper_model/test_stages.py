"""Small numbers through every stage; the authors' own numbers are in tests/parity."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from torch.nn import functional

from cliper_model.segmenter import Decision, Scores, Segmentation
from cliper_model.stages import attention, classify, coarse, refine, resize, windows
from cliper_model.stages import decide as deciding

from ...weights.flops import counting


@pytest.mark.parametrize(
    ("size_wh", "short_side", "patch", "expected"),
    [
        ((500, 375), 336, 16, (448, 336)),
        ((500, 375), 336, 14, (448, 336)),
        ((500, 333), 336, 16, (512, 336)),
        ((500, 333), 336, 14, (504, 336)),
        ((500, 375), 560, 16, (752, 560)),
        ((2048, 1024), 448, 16, (896, 448)),
        ((3, 4000), 16, 16, (16, 21328)),
    ],
)
def test_sides_round_half_up_to_whole_patches(
    size_wh: tuple[int, int], short_side: int, patch: int, expected: tuple[int, int]
) -> None:
    assert resize.whole_patch_size(size_wh, short_side=short_side, patch=patch) == expected


@pytest.mark.parametrize(
    ("size_wh", "side"),
    [((500, 375), 336), ((2000, 400), 336), ((4000, 400), 240), ((9000, 4), 16)],
)
def test_an_endless_picture_is_seen_smaller(size_wh: tuple[int, int], side: int) -> None:
    found = resize.affordable_side(size_wh, short_side=336, patch=16, most_patches=2500)

    assert found == side
    width, height = resize.whole_patch_size(size_wh, short_side=found, patch=16)
    assert (width // 16) * (height // 16) <= 2500


def test_a_strip_is_squeezed_until_it_can_be_seen() -> None:
    strip = resize.affordable_picture(np.zeros((1, 20_000, 3), np.uint8), most_patches=2500)
    panorama = np.zeros((4, 90, 3), np.uint8)

    assert strip.shape == (1, 2500, 3)
    assert resize.affordable_picture(panorama, most_patches=2500) is panorama


def test_a_palette_picture_keeps_its_colours_when_it_arrives_as_rgb() -> None:
    rgb = np.zeros((40, 40, 3), np.uint8)
    rgb[:, 20:] = 255
    palette = PilImage.fromarray(rgb).convert("P")

    as_array, _ = resize.to_whole_patches(rgb, short_side=16, patch=16)
    as_palette, _ = resize.to_whole_patches(palette, short_side=16, patch=16)

    assert as_array.unique().numel() > as_palette.unique().numel()  # edges are blended, not picked


def test_positions_on_their_own_grid_are_left_alone() -> None:
    table = torch.randn(17, 8, generator=torch.Generator().manual_seed(0))

    assert torch.equal(resize.resize_positions(table, grid_hw=(4, 4)), table)
    assert resize.resize_positions(table, grid_hw=(3, 5)).shape == (16, 8)


def test_windows_cover_the_picture_and_the_last_one_is_shifted_inwards() -> None:
    plan = windows.plan((208, 320), crop=112)

    assert len(plan) == 2 * 3
    assert (plan[-1].top, plan[-1].left, plan[-1].bottom, plan[-1].right) == (96, 208, 208, 320)


def test_a_picture_smaller_than_the_crop_is_one_window() -> None:
    assert windows.plan((126, 84), crop=336) == (windows.Window(0, 0, 126, 84),)


def test_patches_seen_twice_are_averaged() -> None:
    plan = windows.plan((32, 48), crop=32, stride=16)
    parts = [torch.full((1, 4, 1), float(value)) for value in (1, 3)]

    merged = windows.merge_logits(parts, plan, grid_hw=(2, 3), patch=16)

    assert merged[0, 0].tolist() == [[1, 2, 3], [1, 2, 3]]


def test_patches_never_seen_together_stay_unlinked() -> None:
    plan = windows.plan((16, 48), crop=32, stride=16)
    links = [torch.full((2, 2), 0.5)] * 2

    merged = windows.merge_links(links, plan, grid_hw=(1, 3), patch=16)

    assert merged[0, 2] == 0
    torch.testing.assert_close(merged.sum(1), torch.ones(3))


def test_one_step_divides_columns_first_then_rows() -> None:
    links = torch.tensor([[[1.0, 3.0], [1.0, 1.0]]])

    stepped = attention.column_row_normalise(links)

    torch.testing.assert_close(stepped[0, 0], torch.tensor([0.5, 0.75]) / 1.25)


def test_a_uniform_map_is_nan_as_published_and_zero_with_epsilon() -> None:
    uniform = torch.full((1, 3, 3), 1 / 3)

    assert attention.sharpen(uniform).isnan().all()
    assert attention.sharpen(uniform, epsilon=1e-12).eq(0).all()


def test_inputs_are_untouched() -> None:
    links = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(1))
    before = links.clone()

    attention.fuse(links, rounds=3)
    attention.accumulate([links, links])

    assert torch.equal(links, before)


def test_synonyms_fold_to_their_maximum_and_the_rest_follows() -> None:
    logits = torch.tensor([[[1.0, 5.0, 2.0, 7.0]]])

    folded = classify.fold_synonyms(logits, row_class=(0, 0, 1), classes=2)

    assert folded.tolist() == [[[5.0, 2.0, 7.0]]]


def test_the_mean_over_layers_contains_the_cut_layer() -> None:
    maps = torch.tensor([[[[1.0, 0.05]]], [[[1.0, 0.05]]]])

    cut = coarse.cut_selected_layer(maps, layer=-1, floor=0.1)

    assert cut.mean(0).tolist() == [[[1.0, 0.02500000037252903]]]
    assert maps[1, 0, 0, 1] == pytest.approx(0.05)


def test_scores_travel_along_the_row_of_the_patch_that_holds_them() -> None:
    maps = torch.tensor([[[1.0, 0.0]]])
    links = torch.tensor([[0.2, 0.8], [0.0, 1.0]])

    assert torch.equal(coarse.spread_along_links(maps, links), torch.tensor([[[0.2, 0.8]]]))


def test_a_position_that_only_attends_to_itself_keeps_its_evidence() -> None:
    evidence = torch.tensor([[0.9], [0.1], [0.4]])
    itself = 100 * torch.eye(3)[None]

    refined = refine.chain(evidence, itself, itself, floor=0.5)

    torch.testing.assert_close(refined, evidence, atol=2e-5, rtol=0)


def test_the_chain_equals_multiplying_all_maps_first() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(3, 12, 4, generator=generator) for _ in range(2))
    evidence = torch.rand(12, 2, generator=generator)
    product = torch.eye(12)
    for q, k in zip(queries, keys, strict=True):
        links = refine.keep_strong_links(refine.attention_map(q, k), floor=0.2)
        product = product @ (links / (links.sum(-1, keepdim=True) + refine.EPSILON))

    refined = refine.chain(evidence, queries, keys, floor=0.2)

    torch.testing.assert_close(refined, product @ evidence, atol=1e-6, rtol=0)


def test_a_link_exactly_at_the_floor_is_kept() -> None:
    attention_map = torch.tensor([[0.5, 1.0], [1.0, 0.25]])
    floor = float(attention_map[0, 0] / (1.0 + refine.EPSILON))

    kept = refine.keep_strong_links(attention_map, floor=floor)

    assert kept[0, 0] > 0
    assert kept[1, 1] == 0


def test_no_step_of_the_chain_multiplies_two_square_maps() -> None:
    n, width, classes = 256, 8, 3
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(2, n, width, generator=generator) for _ in range(2))
    with counting() as count:
        refine.chain(torch.rand(n, classes, generator=generator), queries, keys, floor=0.1)

    once, with_levels = width, width + 2  # for the levels, and with them as channels
    columns = 16  # maps, the sum of links, and what fills the width of the processor
    assert count.flops == 2 * 2 * n * n * (once + with_levels + columns)


@pytest.mark.parametrize("size_hw", [(7, 11), (64, 48), (1, 1), (200, 3)])
def test_numpy_upsampling_is_torchs_bilinear(size_hw: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random((3, 5, 4), dtype=np.float32)

    blocks = [block for _, block in deciding.upsampled_rows(maps, size_hw=size_hw)]

    expected = functional.interpolate(
        torch.from_numpy(maps)[None], size=size_hw, mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(np.concatenate(blocks, 1), expected.numpy(), atol=1e-6)


def test_blocks_of_rows_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = _scores(np.random.default_rng(1).random((4, 6, 6), dtype=np.float32))
    whole = deciding.decide(scores, Decision(background_threshold=0.2))

    monkeypatch.setattr(deciding, "BLOCK_VALUES", 50)
    pieces = deciding.decide(scores, Decision(background_threshold=0.2))

    np.testing.assert_array_equal(pieces.label_map, whole.label_map)
    np.testing.assert_allclose(pieces.confidence, whole.confidence, rtol=1e-6)


def _scores(maps: Any, presence: Any = None, size_hw: tuple[int, int] = (9, 13)) -> Scores:
    maps = np.asarray(maps, np.float32)
    strength = maps.max(axis=(1, 2))
    return Scores(
        labels=tuple(f"label {index}" for index in range(len(maps))),
        maps=maps,
        strength=strength,
        presence=np.ones(len(maps), np.float32) if presence is None else np.asarray(presence),
        size_hw=size_hw,
    )


def test_an_absent_label_gets_no_pixel() -> None:
    scores = _scores([[[0.9, 0.9]], [[0.4, 0.4]]], presence=[0.2, 0.8], size_hw=(1, 2))

    decided = deciding.decide(scores, Decision(presence_threshold=0.5, background="none"))

    assert decided.label_map.tolist() == [[2, 2]]


def test_with_no_label_present_everything_is_rest_and_the_score_says_so() -> None:
    scores = _scores([[[0.9]], [[0.4]]], presence=[0.2, 0.4], size_hw=(2, 2))

    decided = deciding.decide(scores, Decision(background="none"))

    assert decided.rest_mask.all()
    assert decided.score == pytest.approx(0.6)


def test_with_one_label_the_quadratic_background_switches_at_0_381966() -> None:
    for value, label in ((0.3819, 0), (0.3821, 1)):
        labels = deciding.label_block(
            np.array([[[value]]], np.float32),
            allowed=np.ones((1, 1, 1), bool),
            background="quadratic",
            background_threshold=0.0,
        )
        assert labels.tolist() == [[label]]


def test_a_mask_threshold_cuts_relative_to_the_label_s_own_maximum() -> None:
    scores = _scores([[[0.2, 0.1, 0.04]]], size_hw=(1, 3))
    base = Decision(background="none")

    loose = deciding.decide(scores, base)
    strict = deciding.decide(scores, Decision(background="none", mask_threshold=0.4))

    assert loose.label_map.tolist() == [[1, 1, 1]]
    assert strict.label_map.tolist() == [[1, 1, 0]]


def test_specks_give_their_pixels_to_the_next_best_label() -> None:
    maps = np.full((2, 8, 8), 0.5, np.float32)
    maps[1] = 0.3
    maps[1, 0, 0] = 0.9
    scores = _scores(maps, size_hw=(8, 8))

    kept = deciding.decide(scores, Decision(background="none"))
    clean = deciding.decide(scores, Decision(background="none", min_area=0.05))

    assert kept.areas.tolist() == [63, 1]
    assert clean.areas.tolist() == [64, 0]


def test_areas_are_counted_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    label_map = np.random.default_rng(0).integers(0, 4, (37, 11)).astype(np.int32)
    label_map[label_map == 2] = 0
    found = Segmentation(
        labels=("a", "b", "c"),
        label_map=label_map,
        confidence=np.zeros(3, np.float32),
        presence=np.zeros(3, np.float32),
    )

    monkeypatch.setattr("cliper_model.segmenter.BLOCK_PIXELS", 50)

    assert found.areas.tolist() == [(label_map == 1).sum(), 0, (label_map == 3).sum()]


def test_overlapping_masks_may_share_pixels() -> None:
    scores = _scores([[[0.9, 0.9]], [[0.8, 0.0]]], size_hw=(1, 2))

    decided = deciding.decide(scores, Decision(overlap=True, background_threshold=0.3))

    assert decided.mask(0).tolist() == [[True, True]]
    assert decided.mask(1).tolist() == [[True, False]]


def test_scores_of_regions_and_of_the_task() -> None:
    scores = _scores([[[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.5]]], presence=[0.8, 0.6], size_hw=(1, 3))

    decided = deciding.decide(scores, Decision(background="none"))

    np.testing.assert_allclose(decided.region_scores, [0.8, 0.6], rtol=1e-4)
    assert decided.score == pytest.approx((2 * 0.8 + 1 * 0.6) / 3, rel=1e-4)


def test_wrong_decisions_are_refused_at_birth() -> None:
    with pytest.raises(ValueError, match="'threshold', 'quadratic' or 'none'"):
        Decision(background="white")
    with pytest.raises(ValueError, match=r"presence_threshold must be in \[0, 1\], got 2"):
        Decision(presence_threshold=2)
