"""CLIPtrase, stage by stage, against the authors' tensors: `pytest tests/parity --golden DIR`."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Int

from cliper_model import decide
from cliper_model.methods.cliptrase import Cliptrase, CliptraseConfig, centre_square
from cliper_model.segmenter import Decision, Identity, Scores
from cliper_model.stages import clusters, resize
from cliper_model.stages.decide import strongest_cluster, upsampled_rows

from .openai_golden import Checks, OpenaiGolden, generate, preset
from .where import directory

METHOD = "cliptrase"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    generate(metafunc, METHOD)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> OpenaiGolden:
    return OpenaiGolden(directory(request.config, METHOD))


def test_golden_case(case: dict[str, Any], bench: OpenaiGolden) -> None:
    theirs = bench.tensors(case["name"])
    checks = Checks(theirs)
    features, attention = bench.tolerances["features"], bench.tolerances["attention"]
    tower = bench.only_tower
    scale = bench.logit_scale(tower)
    method = Cliptrase(
        bench.clip(tower, bench.index["config"]),
        CliptraseConfig(
            short_side=case["image_size"],
            eps=case["eps"],
            min_samples=case["min_samples"],
            class_token_product=case["dataset_tag"] == "VOC20",
            published=True,
        ),
        presets=lambda _: preset("80", logit_scale=scale),
        identity=Identity(method=METHOD, revision=0, profile="golden"),
    )
    labels, background = case["labels"], tuple(case["background"] or ())

    # words: background rows come last
    vocabulary = method.read(labels, background=background)
    checks.near("text_features", vocabulary.rows, features)

    # picture
    image = theirs["image_u8"].numpy()
    square = centre_square(image, side=case["image_size"])
    checks.same("resized_crop_u8", torch.from_numpy(square.copy()))
    pixels = method.pixels(square)
    checks.near("clip_in_s4", pixels[0, :, ::4, ::4], 2e-5)
    tokens, correlation, grid_hw = method.look(pixels)
    checks.near("features", tokens, features)
    checks.near("attn11_mean", correlation, attention)
    shared = clusters.denoised(correlation)
    checks.near("denoised", shared, attention)
    numbers = clusters.group(shared, eps=case["eps"], min_samples=case["min_samples"])
    checks.same("db_labels", torch.from_numpy(numbers))
    checks.given("image_u8")

    # logits: recorded before VOC20's product, although the specification's page (§9) says after
    # it; the label map, recorded apart, is the one that needs the product (checked below)
    state = method.observe(image)
    size_hw = (case["image_size"], case["image_size"])
    assert state.size_hw == size_hw
    plain = scale * (state.patches @ vocabulary.rows.T).T.reshape(-1, *grid_hw)
    enlarged = resize.resize_maps(plain, size_hw=size_hw)[:, ::4, ::4]
    checks.near("patch_logits_s4", enlarged, features)
    values, factor = method.logits(state, vocabulary.rows, scale=scale)
    if method.config.class_token_product:
        whole = scale * (state.class_feature @ vocabulary.rows.T)
        torch.testing.assert_close(
            values * factor, plain * whole[:, None, None], rtol=5e-5, atol=5e-5
        )
    else:
        torch.testing.assert_close(values * factor, plain)

    # clusters and vote
    scores = method.score(state, vocabulary)
    assert (scores.clusters is None) == (case["n_clusters"] == 0)
    if scores.clusters is not None:
        blocks = [block for _, block in upsampled_rows(scores.clusters, size_hw=size_hw)]
        maps = torch.from_numpy(np.concatenate(blocks, axis=1))
        checks.near("cluster_maps_full_s4", maps[:, ::4, ::4], attention)
        assigned = strongest_cluster(scores.clusters, size_hw=size_hw)
        checks.same("cluster_assign", torch.from_numpy(assigned), where=theirs["safe_mask"])
    theirs_last = _label_map(scores, labels, background)
    checks.same("label_map", torch.from_numpy(theirs_last), where=theirs["safe_mask"])
    if method.config.class_token_product:
        without = method.with_numbers(class_token_product=False).score(state, vocabulary)
        other = _label_map(without, labels, background)
        wrong = (other != theirs["label_map"].numpy()) & theirs["safe_mask"].numpy().astype(bool)
        assert wrong.any(), "this case cannot tell whether the product was taken"
    checks.given("safe_mask")
    checks.complete()


def _label_map(
    scores: Scores, labels: list[str], background: tuple[str, ...]
) -> Int[np.ndarray, "height width"]:
    """As the authors number them: labels from 0, their background is the last one."""
    decision = Decision(
        presence_threshold=0.0,
        background="threshold" if background else "none",
        background_threshold=0.0,
    )
    everyone = replace(scores, presence=np.ones_like(scores.presence))  # no presence test
    found = decide(everyone, decision).label_map
    return np.where(found == 0, len(labels), found - 1)
