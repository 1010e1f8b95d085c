"""CLIP Surgery, stage by stage, against the authors' tensors (`pytest --golden DIR`)."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from cliper_model.methods.clip_surgery import ClipSurgery, ClipSurgeryConfig
from cliper_model.segmenter import Identity
from cliper_model.stages.rows import cosines

from .openai_golden import Checks, OpenaiGolden, generate, preset
from .where import directory

METHOD = "clip_surgery"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    generate(metafunc, METHOD)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> OpenaiGolden:
    return OpenaiGolden(directory(request.config, METHOD))


def test_golden_case(case: dict[str, Any], bench: OpenaiGolden) -> None:
    theirs = bench.tensors(case["name"])
    checks = Checks(theirs)
    features, similarity = bench.tolerances["features"], bench.tolerances["similarity"]
    about = bench.index["weights"][case["weights"]]
    method = ClipSurgery(
        bench.clip(case["weights"], about),
        ClipSurgeryConfig(
            short_side=case["input_side"], blocks=about["surgery_blocks"], published=True
        ),
        presets=lambda _: preset("85"),
        identity=Identity(method="clip-surgery", revision=0, profile="golden"),
    )
    redundancy = "empty name" if case["single_text"] else "label set"

    # words
    vocabulary = method.read(case["labels"], background=())
    checks.near("text_features", vocabulary.rows, features)
    checks.near("redundant_text", method.nameless_row("objects")[None], features)

    # picture
    image = theirs["image_u8"].numpy()
    new, original, grid_hw = method.paths(method.pixels(image))
    checks.near("tokens_new_path", new, features)
    checks.near("tokens_original_path", original, features)
    state = replace(method.observe(image), size_hw=tuple(case["map_size"]))
    checks.near("features", state.features, features)
    checks.given("image_u8")

    # similarity
    plain = cosines(state.features, vocabulary.rows)
    adjusted = method.similarity(state, vocabulary, redundancy=redundancy)
    checks.near("cosine", plain, similarity)
    checks.near("surgery", adjusted, similarity)
    for name, values in (("argmax_cosine", plain), ("argmax_surgery", adjusted)):
        best = values[1:].topk(min(2, values.shape[1])).values
        clear = best[:, 0] - best[:, -1] > 2 * similarity if best.shape[1] > 1 else None
        checks.same(name, values[1:].argmax(dim=1), where=clear)
    scores = method.score(state, vocabulary)
    assert scores.rows is not None
    assert tuple(scores.rows.values.argmax(axis=0).ravel()) == tuple(plain[1:].argmax(dim=1))

    # maps and points
    maps = method.similarity_maps(state, vocabulary, redundancy=redundancy)
    strided = torch.from_numpy(maps).permute(1, 2, 0)[::4, ::4]
    checks.near("similarity_map_s4", strided, bench.tolerances["min-max maps"])
    if case["points"]:
        prompts = method.points(state, vocabulary, redundancy=redundancy)
        for index, points in enumerate(prompts):
            checks.same(f"points.{index}", torch.from_numpy(points.places_xy))
            checks.same(f"point_labels.{index}", torch.from_numpy(points.inside))
    assert grid_hw == state.grid_hw
    checks.complete()
