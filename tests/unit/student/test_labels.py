"""Pseudo labels, with numbers that fit in the head."""

import numpy as np
import pytest
import torch

from cliper_model.student.labels import IGNORE, assign, fill_in, hide_unlabelled

WAITING = -1


def one_pixel(*logits: float) -> torch.Tensor:
    return torch.tensor(logits).view(-1, 1, 1)


def test_a_waiting_pixel_gets_the_best_unlabelled_class_even_if_another_is_better() -> None:
    logits = one_pixel(9.0, 1.0, 2.0)

    filled = assign(logits, torch.tensor([[WAITING]]), [1, 2])

    assert filled.tolist() == [[2]]


def test_annotated_and_ignored_pixels_keep_their_number() -> None:
    logits = torch.zeros(3, 1, 3)
    logits[2] = 5.0

    filled = assign(logits, torch.tensor([[0, IGNORE, WAITING]]), [1, 2])

    assert filled.tolist() == [[0, IGNORE, 2]]


def test_an_unsure_pixel_is_ignored_annotated_or_not() -> None:
    logits = torch.tensor([[[0.9, 0.1, 0.1]], [[0.0, 0.0, 0.0]]])

    filled = assign(logits, torch.tensor([[WAITING, WAITING, 1]]), [0, 1], confidence=0.5)

    assert filled.tolist() == [[0, IGNORE, IGNORE]]


def test_without_confidence_a_very_low_score_still_wins() -> None:
    assert assign(one_pixel(-7.0, -8.0), torch.tensor([[WAITING]]), [0, 1]).tolist() == [[0]]


def test_the_answer_is_a_tensor_even_where_no_pixel_waits() -> None:
    annotation = torch.tensor([[0, 1]])

    filled = assign(torch.zeros(2, 1, 1), annotation, [0, 1])

    assert isinstance(filled, torch.Tensor)
    assert filled.tolist() == [[0, 1]]


def test_without_unlabelled_classes_waiting_pixels_are_ignored() -> None:
    filled = assign(torch.zeros(2, 1, 1), torch.tensor([[WAITING, 1]]), [])

    assert filled.tolist() == [[IGNORE, 1]]


def test_refinement_sees_the_unlabelled_classes_only() -> None:
    seen = []

    def swap(logits: torch.Tensor) -> torch.Tensor:
        seen.append(logits.flatten().tolist())
        return logits.flip(0)

    filled = assign(one_pixel(9.0, 1.0, 2.0), torch.tensor([[WAITING]]), [1, 2], refine=swap)

    assert seen == [[1.0, 2.0]]
    assert filled.tolist() == [[1]]


def test_logits_are_enlarged_before_the_best_class_is_chosen() -> None:
    logits = torch.tensor([[[0.0, 1.0]], [[0.9, 0.0]]])  # two cells, eight pixels

    filled = assign(logits, torch.full((1, 8), WAITING), [0, 1])

    assert filled.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


def test_inputs_are_left_alone() -> None:
    logits, annotation = one_pixel(1.0, 2.0), torch.tensor([[WAITING]])

    assign(logits, annotation, [0], confidence=5.0)

    assert annotation.tolist() == [[WAITING]]
    assert logits.flatten().tolist() == [1.0, 2.0]


def test_the_student_learns_nothing_through_its_own_labels() -> None:
    logits = one_pixel(1.0, 2.0).requires_grad_()

    assert not assign(logits, torch.tensor([[WAITING]]), [0, 1]).requires_grad


def test_a_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="unlabelled classes must be 0 to 1"):
        assign(one_pixel(1.0, 2.0), torch.tensor([[WAITING]]), [2])


def test_annotations_of_unlabelled_classes_are_hidden() -> None:
    hidden = hide_unlabelled(np.array([[0, 1, IGNORE, WAITING]]), [1])

    assert hidden.tolist() == [[0, WAITING, IGNORE, WAITING]]


def test_a_decided_label_map_fills_waiting_pixels_with_the_numbers_asked_for() -> None:
    annotation = np.array([[WAITING, WAITING, WAITING, 0, IGNORE]])
    found = np.array([[1, 2, 0, 2, 2]])  # 0: the teacher claims nothing

    assert fill_in(annotation, found, [3, 5]).tolist() == [[3, 5, IGNORE, 0, IGNORE]]
    assert fill_in(annotation, found, [3, 5], nothing=0).tolist() == [[3, 5, 0, 0, IGNORE]]
