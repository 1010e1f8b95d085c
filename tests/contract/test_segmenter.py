"""What every method promises: observe, score, decide, and nothing remembered in between."""

import inspect
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cliper_model import Decision, Label, Segmenter, decide, presets, profiles, registry
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion, tiny_features
from cliper_model.errors import BadImage, EmptyVocabulary, IncompatibleState, UnknownPreset
from cliper_model.methods.frame import Parts
from cliper_model.segmenter import Identity
from cliper_model.stages.select import select
from cliper_model.student.checkpoint import Checkpoint
from cliper_model.student.network import build_student
from cliper_model.student.words import StudentWords
from cliper_model.tiled import Tiled, TilePlan

WORDS = ["house", "tree", "red car"]
OTHER_WORDS = ["boat", "home", "cottage", "barn", "lamp", *(f"thing {n}" for n in range(150))]


def member(method: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Segmenter:
    """A registered method on toy networks, as its own file builds it; `changes` of its config."""
    module = registry.module_of(method)
    needs = profiles.method_card(method).needs
    profile = replace(
        profiles.get("fast"),
        method=method,
        clip="tiny",
        short_side=64,
        diffusion="tiny" if "diffusion" in needs and "refinement" not in changes else None,
        features="tiny"
        if "features" in needs or changes.get("refinement") == "similarity"
        else None,
    )
    clip = tiny_clip()
    clip._model.to(dtype)
    segmenter: Any = module.build(
        Parts(
            profile=profile,
            published=False,
            identity=Identity(method=method, revision=module.REVISION, profile="tiny"),
            presets=lambda name: presets.get(name, "tiny", method),
            check_words=None,
            clip=lambda: clip,
            diffusion=lambda: tiny_diffusion() if profile.diffusion else None,
            features=lambda: tiny_features() if profile.features else None,
            student=tiny_student() if "student" in needs else None,
            device="cpu",
            dtype=dtype,
        )
    )
    found: Segmenter = segmenter.with_numbers(**changes) if changes else segmenter
    return found


@cache
def tiny_student() -> Path:
    """An untrained student of every word these tests ask for."""
    words = [*WORDS, *OTHER_WORDS]
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(len(words), 32, generator=generator), dim=-1)
    learned = StudentWords(tuple(words), tuple((word,) for word in words), rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = build_student("small", rows, background=False)
    path = Path(tempfile.mkdtemp(prefix="student-")) / "student.safetensors"
    Checkpoint(
        words=learned,
        settings={"network": "small", "steps": 0, "crops": {"short_side": 64, "long_side": 512}},
        teacher="",
        pictures="",
        step=0,
        weights=student.state_dict(),
    ).save(path)
    return path


def in_tiles(method: str, **changes: Any) -> Segmenter:
    """A method that cuts even these small pictures into tiles."""
    plan = TilePlan(above_megapixels=0.001, smallest_tile=48, most_tiles=4, most_pixels=1_000_000)
    return Tiled(member(method, **changes), plan)


MEMBERS: dict[str, Callable[[], Segmenter]] = {
    **{name: partial(member, name) for name in registry.METHODS},
    "cliper without refinement": partial(member, "cliper", refinement="none"),
    "cliper refined by similarities": partial(member, "cliper", refinement="similarity"),
    "cliper with windows": partial(member, "cliper", short_side=176, crop=112),
    "cliper, one layer": partial(member, "cliper", only_layer=-2),
    "maskclip, smoothed and denoised": partial(
        member, "maskclip", key_smoothing=1.0, prompt_denoising=0.01
    ),
    "proxyclip at once": partial(member, "proxyclip", crop=0),
    "cliper, edge-aware": partial(member, "cliper", edge_aware="pamr"),
    "cliper, guided filter": partial(member, "cliper", edge_aware="guided"),
    "clip-surgery, edge-aware": partial(member, "clip-surgery", edge_aware="pamr"),
    "cliptrase, edge-aware": partial(member, "cliptrase", edge_aware="pamr"),
    "maskclip, edge-aware": partial(member, "maskclip", edge_aware="pamr"),
    "proxyclip, edge-aware": partial(member, "proxyclip", edge_aware="pamr"),
    "cliper, in tiles": partial(in_tiles, "cliper", edge_aware="pamr"),
    "cliptrase, in tiles": partial(in_tiles, "cliptrase"),
    "proxyclip, in tiles": partial(in_tiles, "proxyclip"),
}


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


@pytest.mark.parametrize(
    "size_hw", [(61, 93), (131, 40), (40, 131), (17, 16), (1, 900), (900, 1), (1, 1)]
)
def test_any_shape_gives_a_label_map_of_its_own_size(
    segmenter: Segmenter, picture: Any, size_hw: tuple[int, int]
) -> None:
    segmentation = segmenter.segment(picture(*size_hw), WORDS)

    assert segmentation.label_map.shape == size_hw
    assert segmentation.label_map.min() >= 0
    assert segmentation.label_map.max() <= len(WORDS)
    assert np.isfinite(segmentation.confidence).all()


@pytest.mark.parametrize("colour", [0, 127, 255])
def test_a_blank_picture_gives_finite_scores(segmenter: Segmenter, colour: int) -> None:
    blank = np.full((70, 96, 3), colour, np.uint8)

    scores = segmenter.score(segmenter.observe(blank), segmenter.read(WORDS))

    assert np.isfinite(scores.maps).all()
    assert np.isfinite(scores.strength).all()
    assert scores.rows is None or np.isfinite(scores.rows.values).all()
    assert scores.clusters is None or np.isfinite(scores.clusters).all()
    assert np.isfinite(decide(scores, segmenter.decision("objects")).confidence).all()


def test_overlapping_masks_hold_what_plain_ones_hold(segmenter: Segmenter, picture: Any) -> None:
    scores = segmenter.score(segmenter.observe(picture(60, 90)), segmenter.read(WORDS))
    base = replace(segmenter.decision("objects"), presence_threshold=0.0, min_area=0.0)

    plain, layered = decide(scores, base), decide(scores, replace(base, overlap=True))

    assert layered.layers is not None
    if scores.clusters is None:
        for index in range(len(WORDS)):
            assert not (plain.mask(index) & ~layered.mask(index)).any()


def test_tidied_masks_leave_no_gap(segmenter: Segmenter, picture: Any) -> None:
    scores = segmenter.score(segmenter.observe(picture(60, 90)), segmenter.read(WORDS))
    base = Decision(presence_threshold=0.0, background="none")

    full = decide(scores, base)
    tidied = decide(scores, replace(base, min_piece=0.02, largest_hole=1.0, smooth=4))

    assert tidied.label_map.all() == full.label_map.all()
    assert set(np.unique(tidied.label_map)) <= set(np.unique(full.label_map))


def test_a_click_keeps_its_pixel_and_a_negative_one_does_not(
    segmenter: Segmenter, picture: Any
) -> None:
    scores = segmenter.score(segmenter.observe(picture(60, 90)), segmenter.read(WORDS))
    decision = segmenter.decision("objects")

    for label in range(len(WORDS)):
        mask = select(scores, label, positive=[(80, 9)], negative=[(7, 50)], decision=decision)
        assert mask.shape == (60, 90)
        assert mask[9, 80]
        assert not mask[50, 7]


def test_one_label_alone_works(segmenter: Segmenter, picture: Any) -> None:
    segmentation = segmenter.segment(picture(60, 90), ["tree"], background=())

    assert segmentation.labels == ("tree",)
    assert set(np.unique(segmentation.label_map)) <= {0, 1}


def test_a_hundred_and_fifty_labels_work(segmenter: Segmenter, picture: Any) -> None:
    many = [f"thing {number}" for number in range(150)]

    scores = segmenter.score(segmenter.observe(picture(60, 90)), segmenter.read(many))

    assert scores.maps.shape[0] == len(scores.presence) == 150
    assert decide(scores, segmenter.decision("whole-scene")).label_map.max() <= 150


def test_the_same_picture_twice_gives_the_same_answer(segmenter: Segmenter, picture: Any) -> None:
    first, second = (segmenter.segment(picture(60, 90), WORDS) for _ in range(2))

    np.testing.assert_array_equal(first.label_map, second.label_map)
    np.testing.assert_array_equal(first.presence, second.presence)


def test_a_rebuilt_segmenter_gives_the_same_answer(request: Any, picture: Any) -> None:
    for name in ("cliper", "proxyclip", "cliptrase"):
        first, second = (MEMBERS[name]().segment(picture(60, 90), WORDS) for _ in range(2))

        np.testing.assert_array_equal(first.label_map, second.label_map)


def test_every_registered_method_is_a_member() -> None:
    assert set(registry.METHODS) <= set(MEMBERS)
    assert set(profiles.methods()) == set(registry.METHODS)


@pytest.mark.parametrize("method", sorted(registry.METHODS))
def test_bfloat16_is_close_to_float32(method: str, picture: Any) -> None:
    image = picture(64, 96)
    exact, rough = member(method), member(method, torch.bfloat16)

    wanted = exact.score(exact.observe(image), exact.read(WORDS, background=()))
    found = rough.score(rough.observe(image), rough.read(WORDS, background=()))

    assert wanted.maps.dtype == found.maps.dtype == np.float32
    spread = float(wanted.maps.max() - wanted.maps.min())
    assert np.abs(found.maps - wanted.maps).mean() < 0.1 * spread
    assert np.abs(found.strength - wanted.strength).max() < 0.15 * max(1.0, spread)


@pytest.mark.parametrize("method", sorted(registry.METHODS))
def test_a_method_says_what_it_is(method: str) -> None:
    card = profiles.method_card(method)

    assert card.title
    assert "arXiv" in card.paper
    assert card.needs
    assert registry.module_of(method).REVISION >= 1
    for preset in presets.NAMES:
        for clip in ("ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "demo", "tiny"):
            assert presets.get(preset, clip, method).templates


def test_another_methods_state_is_refused(picture: Any) -> None:
    image = picture(64, 64)
    states = {name: member(name).observe(image) for name in ("cliper", "maskclip", "cliptrase")}

    for name, state in states.items():
        other = member("clip")
        with pytest.raises(IncompatibleState, match="observe the image again"):
            other.score(state, other.read(WORDS))
        assert state.kind.startswith(name)
