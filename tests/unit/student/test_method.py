"""The method `maskclip+`: a trained student speaks for itself, without CLIP or teacher."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cliper_model
from cliper_model import Label, decide
from cliper_model.errors import EmptyVocabulary, IncompatibleState, WeightsMissing
from cliper_model.methods.maskclip_plus import MaskclipPlus, StudentState
from cliper_model.segmenter import ImageState
from cliper_model.student.crops import CropConfig
from cliper_model.student.errors import UnlearnedWords
from cliper_model.student.gallery import Gallery, find_pictures
from cliper_model.student.training import train

from .paint import BrightnessTeacher, paint, plan, words

CROPS = CropConfig(side=24, short_side=24, scales=(1.0, 1.0), photometric=False)


def trained(folder: Path, *, background: bool = False) -> Path:
    seen = Gallery(find_pictures(paint(folder / "pictures")), {}, words(background=background))
    teacher = BrightnessTeacher(first=int(background))
    training = plan(steps=40, batch=4, rate=0.1, crops=CROPS)
    train(training, seen, teacher, folder / "student")
    return folder / "student"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def method(student: Path) -> MaskclipPlus:
    loaded = cliper_model.load("demo", method="maskclip+", student=student, device="cpu")
    assert isinstance(loaded, MaskclipPlus)
    return loaded


def stripes() -> np.ndarray:
    image = np.full((40, 60, 3), 30, np.uint8)
    image[:, 33:] = 220
    return image


def test_it_paints_what_it_was_taught(method: MaskclipPlus) -> None:
    found = method.segment(stripes(), ["bright", "dark"], background=())

    truth = np.where(stripes()[..., 0] > 127, 1, 2)
    assert (found.label_map == truth).mean() > 0.9


def test_a_synonym_finds_the_same_and_may_stand_beside_its_name(method: MaskclipPlus) -> None:
    image = stripes()
    by_name = method.segment(image, ["dark", "bright"], background=())
    by_synonym = method.segment(image, ["Black", Label("light", ("bright",))], background=())
    by_both = method.segment(image, [Label("d", ("dark", "black")), "bright"], background=())

    np.testing.assert_array_equal(by_synonym.label_map, by_name.label_map)
    np.testing.assert_array_equal(by_both.label_map, by_name.label_map)


def test_another_word_is_refused_and_the_known_ones_named(method: MaskclipPlus) -> None:
    with pytest.raises(UnlearnedWords, match=r"'house'.*this one knows: dark, bright"):
        method.read(["dark", "house"])


def test_whatever_else_it_learned_is_background_for_objects(method: MaskclipPlus) -> None:
    vocabulary = method.read(["bright"])
    found = method.segment(stripes(), ["bright"])

    assert vocabulary.background == ("dark",)
    assert (found.label_map[:, 40:] == 1).mean() > 0.8
    assert (found.label_map[:, :24] == 0).mean() > 0.8


def test_background_words_of_the_caller_are_learned_words_too(method: MaskclipPlus) -> None:
    vocabulary = method.read(["bright"], background=["black", "bright"])

    assert vocabulary.background == ("black",)
    assert vocabulary.dropped == ("bright",)
    with pytest.raises(UnlearnedWords, match="'sky'"):
        method.read(["bright"], background=["sky"])


def test_nothing_to_look_for_is_refused(method: MaskclipPlus) -> None:
    with pytest.raises(EmptyVocabulary):
        method.read(["Background"])


def test_the_learnable_row_stands_first_in_the_background(tmp_path: Path) -> None:
    student = trained(tmp_path, background=True)
    method = cliper_model.load("demo", method="maskclip+", student=student, device="cpu")

    vocabulary = method.read(["dark", "bright"])

    assert vocabulary.background == ("background",)
    torch.testing.assert_close(vocabulary.rows[-1].norm(), torch.tensor(1.0))
    assert method.read(["dark"], background=()).background == ()


def test_the_state_survives_bytes_and_does_not_know_words(method: MaskclipPlus) -> None:
    state = method.observe(stripes())
    again = StudentState.from_bytes(state.to_bytes())
    vocabulary = method.read(["dark", "bright"])

    first, second = method.score(state, vocabulary), method.score(again, vocabulary)

    assert again.size_hw == (40, 60)
    np.testing.assert_array_equal(first.maps, second.maps)
    np.testing.assert_array_equal(
        decide(first, method.decision("objects")).label_map,
        decide(second, method.decision("objects")).label_map,
    )


def test_the_state_of_another_method_is_refused(method: MaskclipPlus) -> None:
    with pytest.raises(IncompatibleState, match="observe the image again"):
        method.score(ImageState(size_hw=(4, 4)), method.read(["dark"]))


def test_pixels_are_decided_without_temperature(method: MaskclipPlus) -> None:
    state = method.observe(stripes())

    scores: Any = method.score(state, method.read(["dark", "bright"], background=()))

    assert scores.rows.scale == 1.0
    expected = torch.einsum("ehw,re->rhw", state.features, words().rows)
    np.testing.assert_allclose(scores.rows.values, expected.numpy(), atol=1e-5)


def test_the_identity_holds_the_students_checksum(student: Path, method: MaskclipPlus) -> None:
    from cliper_model.student.checkpoint import file_digest

    assert file_digest(student) in method.identity.weights.values()


def test_without_a_student_one_sentence_says_how_to_get_one() -> None:
    with pytest.raises(WeightsMissing, match="train one with cliper train-student"):
        cliper_model.load("demo", method="maskclip+", device="cpu")
