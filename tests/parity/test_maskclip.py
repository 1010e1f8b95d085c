"""MaskCLIP, stage by stage, against the authors' tensors: `pytest tests/parity --golden DIR`.

Cases with `unlabeled` classes are about the training of MaskCLIP+ and have their own test.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cliper_model import decide
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

    # image size
    state = replace(state, size_hw=tuple(case["output_size"]))
    scores, full = _at_image_size(method, state, vocabulary)
    if len(state.boxes) > 1 and _distance(full, theirs) > logits:
        # the authors' windows were recorded once: every window shows what the first one saw
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


def _distance(full: Tensor, theirs: dict[str, Tensor]) -> float:
    return float((full - theirs["softmax_full_s4"]).abs().max())


def _as_the_first_window(state: MaskclipState) -> MaskclipState:
    return replace(
        state,
        features=state.features[:1].expand_as(state.features),
        keys=state.keys[:1].expand_as(state.keys),
    )


def test_the_canvas_of_one_window_is_plain_bilinear_enlargement() -> None:
    maps = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))

    painted = canvas.paint(
        [maps], [(0, 0, 61, 70)], seen_hw=(61, 70), canvas_hw=(61, 70), patch=None
    )

    plain = torch.nn.functional.interpolate(maps[None], size=(61, 70), mode="bilinear")[0]
    torch.testing.assert_close(painted, plain, atol=1e-5, rtol=0)


def _side(length: list[int] | int | None) -> int:
    """The index writes [height, width] of a square, or nothing."""
    if length is None:
        return 0
    if isinstance(length, int):
        return length
    assert len(set(length)) == 1, f"windows are square here, got {length}"
    return length[0]
