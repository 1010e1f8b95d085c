"""MaskCLIP, stage by stage, against the authors' tensors: `pytest tests/parity --golden DIR`.

Cases with `unlabeled` classes are about the training of MaskCLIP+ and have their own test.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cliper_model import decide
from cliper_model.backbones.tiny import tiny_clip
from cliper_model.methods.maskclip import Maskclip, MaskclipConfig, MaskclipState
from cliper_model.segmenter import Decision, Identity, Scores, Vocabulary
from cliper_model.stages import canvas
from cliper_model.stages.decide import row_probabilities, upsampled_rows

from .openai_golden import Checks, OpenaiGolden, generate, preset
from .where import directory

METHOD = "maskclip"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    generate(metafunc, METHOD, lambda case: "unlabeled" not in case)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> OpenaiGolden:
    return OpenaiGolden(directory(request.config, METHOD))


def test_golden_case(case: dict[str, Any], bench: OpenaiGolden) -> None:
    theirs = bench.tensors(case["name"])
    checks = Checks(theirs)
    features, logits = bench.tolerances["features"], bench.tolerances["logits"]
    image = theirs["image_u8"].numpy()
    method = Maskclip(
        bench.clip(case["weights"], bench.index["weights"][case["weights"]]),
        MaskclipConfig(
            short_side=min(image.shape[:2]),  # the golden picture is the network's input
            long_side=max(image.shape[:2]),
            key_smoothing=case["ks_thresh"],
            prompt_denoising=case["pd_thresh"],
            crop=_side(case["crop"]),
            stride=_side(case["stride"]),
            published=True,
        ),
        presets=lambda _: preset("85"),
        identity=Identity(method=METHOD, revision=0, profile="golden"),
    )

    # words
    vocabulary = method.read(bench.index["class_names"], background=())
    checks.near("text_embeddings", vocabulary.rows, features)

    # picture: of windows, the golden stages are those of the first
    assert np.array_equal(method.resized(image), image)
    state = method.observe(image)
    top, left, bottom, right = state.boxes[0]
    seen = method.look(method.normalised(image)[:, :, top:bottom, left:right])
    checks.near("v_tokens_normed", seen.normed.T.reshape(-1, *seen.grid_hw), features)
    checks.near("k_tokens", seen.keys, features)
    checks.near("dense_feat", seen.features.T.reshape(-1, *seen.grid_hw), features)
    checks.given("image_u8")

    # cosines and refinement
    cosines = method.cosine_maps(state, vocabulary.rows)
    keys = state.keys if len(state.keys) else [None] * len(cosines)
    refined = [method.refined(maps, own) for maps, own in zip(cosines, keys, strict=True)]
    checks.near("logits_raw", cosines[0], logits)
    checks.near("logits_refined", refined[0], logits)

    # image size. A golden case of windows was recorded with the logits of its first window in
    # place of all windows' logits: its own tensors say so, and nothing here is judged by ours.
    # Stages of that window were compared above; that later windows show what they see
    # themselves is proved by the test of distinct windows below.
    state = replace(state, size_hw=tuple(case["output_size"]))
    if _recorded_with_the_first_window_only(case, theirs):
        assert {"dense_feat", "logits_raw", "logits_refined"} <= checks.done
        state = _as_the_first_window(state)
    scores, full = _at_image_size(method, state, vocabulary)
    checks.near("softmax_full_s4", full, logits)
    nothing_hidden = Decision(presence_threshold=0.0, background="none")
    everyone = replace(scores, presence=np.ones_like(scores.presence))
    found = decide(everyone, nothing_hidden).label_map
    checks.same("label_map", torch.from_numpy(found - 1), where=theirs["safe_mask"])
    checks.given("safe_mask")
    checks.complete()


def _at_image_size(
    method: Maskclip, state: MaskclipState, vocabulary: Vocabulary
) -> tuple[Scores, Tensor]:
    scores = method.score(state, vocabulary)
    assert scores.rows is not None
    blocks = [block for _, block in upsampled_rows(scores.rows.values, size_hw=state.size_hw)]
    full = row_probabilities(np.concatenate(blocks, axis=1), scale=scores.rows.scale)
    return scores, torch.from_numpy(full[:, ::4, ::4].copy())


def _recorded_with_the_first_window_only(case: dict[str, Any], theirs: dict[str, Tensor]) -> bool:
    """Whether repeating the recorded logits of the first window gives the recorded result."""
    if case["mode"] != "slide" or case["output_size"] != case["image"]:
        return False
    boxes = naive_boxes(
        tuple(case["image"]), crop=_side(case["crop"]), stride=_side(case["stride"])
    )
    maps = [theirs["logits_refined"].numpy()] * len(boxes)
    mean = naive_mean(maps, boxes, seen_hw=tuple(case["image"]), cell=None)
    likely = torch.from_numpy(mean).softmax(dim=0)[:, ::4, ::4]
    return float((likely - theirs["softmax_full_s4"]).abs().max()) < 1e-5


def _as_the_first_window(state: MaskclipState) -> MaskclipState:
    return replace(
        state,
        features=state.features[:1].expand_as(state.features),
        keys=state.keys[:1].expand_as(state.keys),
    )


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("crop", [48, 40])  # whole patches, and windows that need padding
def test_distinct_windows_are_the_mean_of_what_each_shows(crop: int, published: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 112, 3), np.uint8)
    image[:, 60:] //= 4  # windows differ in what they show
    method = Maskclip(
        tiny_clip(),
        MaskclipConfig(
            short_side=80, long_side=112, crop=crop, stride=24, most_patches=99, published=published
        ),
        presets=lambda _: preset("85"),
        identity=Identity(method=METHOD, revision=0, profile="tiny"),
    )
    vocabulary = method.read(["house", "tree", "sky"], background=())
    state = method.observe(image)
    shown = method.score(state, vocabulary).rows

    boxes = naive_boxes((80, 112), crop=crop, stride=24)
    pixels = method.normalised(image)
    looks = [
        method.look(pixels[:, :, top:bottom, left:right]) for top, left, bottom, right in boxes
    ]
    rows = functional.normalize(vocabulary.rows, dim=-1)
    maps = [
        (functional.normalize(look.features, dim=-1) @ rows.T).T.reshape(3, *look.grid_hw).numpy()
        for look in looks
    ]
    cell = None if published else method.clip.patch
    expected = naive_mean(maps, boxes, seen_hw=(80, 112), cell=cell)

    assert len(boxes) == 12
    assert shown is not None
    np.testing.assert_allclose(shown.values, expected, atol=1e-5)
    repeated = method.score(_as_the_first_window(state), vocabulary).rows
    assert repeated is not None
    assert np.abs(repeated.values - expected).max() > 0.01  # a wrong later window is noticed


def naive_boxes(
    size_hw: tuple[int, int], *, crop: int, stride: int
) -> list[tuple[int, int, int, int]]:
    """Top, left, bottom, right of windows in reading order, shifted inwards at the far edges."""
    boxes = []
    for row in range(max(size_hw[0] - crop + stride - 1, 0) // stride + 1):
        for column in range(max(size_hw[1] - crop + stride - 1, 0) // stride + 1):
            bottom = min(row * stride + crop, size_hw[0])
            right = min(column * stride + crop, size_hw[1])
            boxes.append((max(bottom - crop, 0), max(right - crop, 0), bottom, right))
    return boxes


def naive_mean(
    maps: list[np.ndarray],
    boxes: list[tuple[int, int, int, int]],
    *,
    seen_hw: tuple[int, int],
    cell: int | None,
) -> np.ndarray:
    """Sum over count of the windows' bilinear logits, one pixel after the other (§4).

    `cell` is the side of a map's cell in pixels; None stretches the map over its window.
    """
    total, count = np.zeros((len(maps[0]), *seen_hw)), np.zeros(seen_hw)
    for window, (top, left, bottom, right) in zip(maps, boxes, strict=True):
        high, wide = window.shape[1:]
        tall = cell or (bottom - top) / high
        broad = cell or (right - left) / wide
        for y in range(top, bottom):
            down = min(max((y - top + 0.5) / tall - 0.5, 0.0), high - 1.0)
            upper, lower = int(down), min(int(down) + 1, high - 1)
            for x in range(left, right):
                across = min(max((x - left + 0.5) / broad - 0.5, 0.0), wide - 1.0)
                near, far = int(across), min(int(across) + 1, wide - 1)
                here, there = window[:, [upper, lower], near], window[:, [upper, lower], far]
                sides = here * (1 - across % 1) + there * (across % 1)
                total[:, y, x] += sides[:, 0] * (1 - down % 1) + sides[:, 1] * (down % 1)
                count[y, x] += 1
    return total / count


def test_the_canvas_of_one_window_is_plain_bilinear_enlargement() -> None:
    maps = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))

    painted = canvas.paint(
        [maps], [(0, 0, 61, 70)], seen_hw=(61, 70), canvas_hw=(61, 70), patch=None
    )

    plain = functional.interpolate(maps[None], size=(61, 70), mode="bilinear")[0]
    torch.testing.assert_close(painted, plain, atol=1e-5, rtol=0)


def _side(length: list[int] | int | None) -> int:
    """The index writes [height, width] of a square, or nothing."""
    if length is None:
        return 0
    if isinstance(length, int):
        return length
    assert len(set(length)) == 1, f"windows are square here, got {length}"
    return length[0]
