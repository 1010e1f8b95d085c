"""Any Segmenter as a teacher: what it is asked, and what becomes of its answer."""

from typing import Any

import numpy as np
import pytest
import torch

from cliper_model import presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.methods.clip import PlainClip
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.methods.windowed import WindowedConfig
from cliper_model.segmenter import Identity, Label, RowLogits
from cliper_model.student.errors import NothingToLearn
from cliper_model.student.labels import IGNORE, UNLABELLED
from cliper_model.student.teachers import (
    SegmenterTeacher,
    TeacherRules,
    class_logits,
    without_refinement,
)
from cliper_model.student.words import StudentWords, read_words

LABELS = [Label("house", ("house", "home")), Label("tree"), Label("red car"), Label("other")]


def cliper(**changes: Any) -> Cliper:
    return Cliper(
        tiny_clip(),
        tiny_diffusion(),
        CliperConfig(**{"short_side": 64, **changes}),
        presets=lambda name: presets.get(name, "tiny"),
        identity=Identity(method="cliper", revision=1, profile="tiny"),
    )


def plain_clip() -> PlainClip:
    return PlainClip(
        tiny_clip(),
        WindowedConfig(short_side=64, crop=64, stride=64),
        presets=lambda name: presets.get(name, "tiny", "clip"),
        identity=Identity(method="clip", revision=1, profile="tiny"),
    )


def words(**changes: Any) -> StudentWords:
    return read_words(without_refinement(cliper()), LABELS, templates=("a {}.",), **changes)


def test_every_name_has_one_row_of_unit_length_and_the_rest_has_none() -> None:
    learned = words()

    assert learned.names == ("house", "tree", "red car")
    torch.testing.assert_close(learned.rows.norm(dim=-1), torch.ones(3))


def test_every_pixel_that_waits_gets_a_class_and_the_others_keep_theirs(picture: Any) -> None:
    image = picture(48, 64)
    annotation = np.full((48, 64), UNLABELLED)
    annotation[:10] = 0
    annotation[10:20] = IGNORE
    teacher = SegmenterTeacher(without_refinement(cliper()), words(), (0, 1, 2))

    filled = teacher.fill(image, annotation)

    assert (filled[:10] == 0).all()
    assert (filled[10:20] == IGNORE).all()
    assert set(np.unique(filled[20:])) <= {0, 1, 2}


def test_only_unlabelled_classes_are_asked_for(picture: Any) -> None:
    teacher = SegmenterTeacher(without_refinement(cliper()), words(), (1, 2))

    filled = teacher.fill(picture(48, 64), np.full((48, 64), UNLABELLED))

    assert set(np.unique(filled)) <= {1, 2}


def test_class_numbers_stand_behind_a_background_class(picture: Any) -> None:
    teacher = SegmenterTeacher(without_refinement(cliper()), words(background=True), (1, 2, 3))

    filled = teacher.fill(picture(48, 64), np.full((48, 64), UNLABELLED))

    assert filled.min() >= 1


@pytest.mark.parametrize(("background", "nothing"), [(True, 0), (False, IGNORE)])
def test_what_the_teacher_calls_background_is_ignored_or_a_class(
    background: bool, nothing: int
) -> None:
    blank = np.full((48, 64, 3), 128, np.uint8)
    learned = words(background=background)
    rules = TeacherRules(every_pixel=False)
    numbers = range(learned.first, learned.classes)
    teacher = SegmenterTeacher(without_refinement(cliper()), learned, list(numbers), rules)
    found = teacher.segmenter.segment(blank, learned.labels, decision=teacher.decision)

    filled = teacher.fill(blank, np.full((48, 64), UNLABELLED))

    np.testing.assert_array_equal(filled == nothing, found.label_map == 0)


def test_confidence_drops_unsure_pixels_of_a_teacher_with_row_logits(picture: Any) -> None:
    image, annotation = picture(48, 64), np.full((48, 64), UNLABELLED)
    annotation[0] = 1
    sure = SegmenterTeacher(plain_clip(), words(), (0, 1, 2), TeacherRules(confidence=1e-6))
    unsure = SegmenterTeacher(plain_clip(), words(), (0, 1, 2), TeacherRules(confidence=1.0))

    assert (unsure.fill(image, annotation) == IGNORE).all()
    assert (sure.fill(image, annotation) != IGNORE).any()


def test_confidence_is_refused_at_once_where_the_method_has_no_row_logits() -> None:
    with pytest.raises(ValueError, match="choose maskclip: cliper gives no row logits"):
        SegmenterTeacher(
            without_refinement(cliper()), words(), (0, 1), TeacherRules(confidence=0.5)
        )


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"confidence must be in \[0, 1\], got"):
        TeacherRules(confidence=confidence)


def test_confidence_beside_the_thresholds_of_objects_is_refused() -> None:
    with pytest.raises(ValueError, match="leave confidence at 0 or let every pixel have a label"):
        TeacherRules(every_pixel=False, confidence=0.5)


def test_the_best_synonym_speaks_for_its_class() -> None:
    rows = RowLogits(
        values=np.array([[[1.0]], [[3.0]], [[2.0]], [[9.0]]], np.float32),
        row_class=(0, 0, 1, -1),
        scale=1.0,
    )

    assert class_logits(rows, classes=2).flatten().tolist() == [3.0, 2.0]


def test_the_digest_knows_rules_words_and_weights() -> None:
    segmenter = plain_clip()

    def digest(*asked: int, rules: TeacherRules | None = None) -> str:
        return SegmenterTeacher(segmenter, words(), asked, rules).digest

    assert digest(0, 1) == digest(0, 1)
    assert len({digest(0, 1), digest(0, 2), digest(0, 1, rules=TeacherRules(confidence=1.0))}) == 3


def test_a_teacher_without_refinement_is_another_one_and_never_looks_through_diffusion(
    picture: Any,
) -> None:
    refined = cliper()
    coarse = without_refinement(refined)

    digests = [SegmenterTeacher(teacher, words(), (0, 1)).digest for teacher in (refined, coarse)]
    assert digests[0] != digests[1]
    assert refined.diffusion is not None
    assert coarse.diffusion is None  # type: ignore[attr-defined]
    assert coarse.observe(picture(48, 64)).queries.numel() == 0  # type: ignore[attr-defined]
    with pytest.raises(NothingToLearn, match="clip has none"):
        without_refinement(plain_clip())


def test_a_teacher_of_nothing_is_refused() -> None:
    with pytest.raises(NothingToLearn, match="leave at least one label without annotation"):
        SegmenterTeacher(cliper(), words(), ())
