"""What every method promises: observe, score, decide, and nothing remembered in between."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cliper_model import Decision, Label, Segmenter, decide, presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.errors import BadImage, EmptyVocabulary, IncompatibleState, UnknownPreset
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Identity


def _cliper(**changes: Any) -> Cliper:
    config = CliperConfig(**{"short_side": 64, **changes})
    return Cliper(
        tiny_clip(),
        None if config.refinement == "none" else tiny_diffusion(),
        config,
        presets=lambda name: presets.get(name, "tiny"),
        identity=Identity(method="cliper", revision=1, profile="tiny"),
    )


MEMBERS = {
    "cliper": lambda: _cliper(),
    "cliper without refinement": lambda: _cliper(refinement="none"),
    "cliper with windows": lambda: _cliper(short_side=176, crop=112),
    "cliper, one layer": lambda: _cliper(only_layer=-2),
}
WORDS = ["house", "tree", "red car"]


@pytest.fixture(scope="module", params=sorted(MEMBERS))
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    return MEMBERS[request.param]()


def _same(first: Any, second: Any) -> None:
    np.testing.assert_array_equal(first.maps, second.maps)
    np.testing.assert_array_equal(first.strength, second.strength)


def test_observe_never_sees_words(segmenter: Segmenter) -> None:
    parameters = inspect.signature(segmenter.observe).parameters

    assert list(parameters) == ["image"]


def test_the_state_depends_on_the_image_only(segmenter: Segmenter, picture: Any) -> None:
    image = picture(60, 90)
    before = segmenter.observe(image).to_bytes()

    segmenter.segment(picture(80, 50, seed=3), ["boat"])

    assert segmenter.observe(image).to_bytes() == before


def test_decide_never_runs_the_network(
    segmenter: Segmenter, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = segmenter.score(segmenter.observe(picture(60, 90)), segmenter.read(WORDS))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr(torch.nn.Module, "__call__", refuse)
    monkeypatch.setattr(torch.Tensor, "__matmul__", refuse)
    segmentation = decide(scores, segmenter.decision("whole-scene"))

    assert segmentation.size_hw == (60, 90)


def test_segment_is_the_composition_of_the_three_steps(segmenter: Segmenter, picture: Any) -> None:
    image = picture(60, 90)
    vocabulary = segmenter.read(WORDS, background=())
    scores = segmenter.score(segmenter.observe(image), vocabulary)

    by_hand = decide(scores, segmenter.decision(vocabulary.preset))
    at_once = segmenter.segment(image, WORDS, background=())

    np.testing.assert_array_equal(at_once.label_map, by_hand.label_map)
    np.testing.assert_array_equal(at_once.confidence, by_hand.confidence)


def test_pictures_of_different_sizes_side_by_side_equal_one_by_one(
    segmenter: Segmenter, picture: Any
) -> None:
    images = [picture(60, 90), picture(91, 47, seed=1), picture(64, 64, seed=2)]
    vocabulary = segmenter.read(WORDS)

    def scores_of(image: Any) -> Any:
        return segmenter.score(segmenter.observe(image), vocabulary)

    alone = [scores_of(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(scores_of, [*images, *images]))

    for index, scores in enumerate(together):
        _same(scores, alone[index % 3])


def test_a_state_survives_its_bytes(segmenter: Segmenter, picture: Any) -> None:
    state = segmenter.observe(picture(60, 90))
    vocabulary = segmenter.read(WORDS)

    returned = type(state).from_bytes(state.to_bytes())

    assert returned.size_hw == (60, 90)
    _same(segmenter.score(returned, vocabulary), segmenter.score(state, vocabulary))


def test_bytes_of_something_else_are_refused(segmenter: Segmenter, picture: Any) -> None:
    kind = type(segmenter.observe(picture(64, 64)))

    with pytest.raises(IncompatibleState, match="observe the image again"):
        kind.from_bytes(b"not a state at all")


def test_scores_have_a_map_and_a_presence_per_label(segmenter: Segmenter, picture: Any) -> None:
    scores = segmenter.score(segmenter.observe(picture(60, 90)), segmenter.read(WORDS))

    assert scores.maps.shape[0] == scores.presence.shape[0] == 3
    assert scores.size_hw == (60, 90)
    assert ((scores.presence >= 0) & (scores.presence <= 1)).all()


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    words=st.lists(st.sampled_from(["home", "cottage", "barn"]), min_size=1, max_size=3),
    repeats=st.lists(st.integers(0, 2), min_size=1, max_size=3),
)
def test_a_repeated_synonym_changes_nothing(
    segmenter: Segmenter, picture: Any, words: list[str], repeats: list[int]
) -> None:
    words = list(dict.fromkeys(words))
    again = [*words, *(words[index % len(words)].upper() + " " for index in repeats)]
    state = segmenter.observe(picture(60, 90))

    once = segmenter.score(state, segmenter.read([Label("house", tuple(words)), "tree"]))
    twice = segmenter.score(state, segmenter.read([Label("house", tuple(again)), "tree"]))

    _same(once, twice)


def test_a_repeated_text_row_changes_no_map(segmenter: Segmenter, picture: Any) -> None:
    """The same word under two spellings that encode alike must take nobody's probability."""
    state = segmenter.observe(picture(60, 90))
    vocabulary = segmenter.read([Label("house", ("home",)), "tree"], background=["lamp"])
    repeated = replace(
        vocabulary,
        rows=torch.cat([vocabulary.rows[:1], vocabulary.rows]),
        row_class=(0, *vocabulary.row_class),
    )

    once, twice = segmenter.score(state, vocabulary), segmenter.score(state, repeated)

    np.testing.assert_allclose(twice.maps, once.maps, atol=1e-6)


def test_labels_that_mean_the_rest_are_never_looked_for(segmenter: Segmenter) -> None:
    vocabulary = segmenter.read(["house", "Background"])

    assert vocabulary.labels == ("house",)
    assert vocabulary.rest == "Background"


def test_a_background_word_that_is_also_a_label_is_dropped_and_listed(
    segmenter: Segmenter,
) -> None:
    vocabulary = segmenter.read(
        [Label("house", ("home", "cottage"))], background=["Home", "house", "lamp"]
    )

    assert vocabulary.background == ("lamp",)
    assert set(vocabulary.dropped) == {"Home", "house"}


def test_background_chooses_the_preset(segmenter: Segmenter) -> None:
    assert segmenter.read(WORDS).preset == "objects"
    assert segmenter.read(WORDS, background=()).preset == "whole-scene"
    assert segmenter.read(WORDS, background=["lamp"]).preset == "objects"


def test_wrong_inputs_get_one_sentence(segmenter: Segmenter, picture: Any) -> None:
    with pytest.raises(EmptyVocabulary, match="give at least one label"):
        segmenter.read(["Background"])
    with pytest.raises(UnknownPreset, match="choose one of: objects, whole-scene"):
        segmenter.read(WORDS, preset="landscape")
    with pytest.raises(BadImage, match=r"float32 \[4, 4, 3\]"):
        segmenter.observe(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(BadImage, match=r"uint8 \[4, 4\]"):
        segmenter.observe(picture(4, 4)[:, :, 0])


def test_raising_a_threshold_only_takes_pixels_away(segmenter: Segmenter, picture: Any) -> None:
    scores = segmenter.score(segmenter.observe(picture(60, 90)), segmenter.read(WORDS))
    base = Decision(presence_threshold=0.0, background="threshold", background_threshold=0.01)

    loose = decide(scores, base)
    strict = decide(scores, replace(base, mask_threshold=0.8))

    assert not ((strict.label_map > 0) & (loose.label_map == 0)).any()
