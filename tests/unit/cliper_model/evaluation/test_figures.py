"""Confusion, boundary, presence: small numbers that fit in the head."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cliper_model.evaluation import boundary, confusion, presence, views
from cliper_model.evaluation.confusion import IGNORED

from ....doubles import naive_metrics

LABELS = 4
LABEL_MAPS = arrays(np.int64, (7, 9), elements=st.integers(0, LABELS - 1))


def test_the_matrix_has_the_truth_in_rows():
    truth = np.array([[0, 1, 1], [2, IGNORED, 2]])
    predicted = np.array([[1, 1, 1], [2, 2, 0]])

    matrix = confusion.count(truth, predicted, labels=3)

    assert matrix.tolist() == [[0, 1, 0], [0, 2, 0], [1, 0, 1]]
    found = confusion.figures(matrix)
    assert found.iou.tolist() == pytest.approx([0, 100 * 2 / 3, 50])
    assert found.miou == pytest.approx((0 + 200 / 3 + 50) / 3)
    assert found.pixel_accuracy == pytest.approx(60)
    assert found.mean_accuracy == pytest.approx((0 + 100 + 50) / 3)
    assert found.frequency_weighted_iou == pytest.approx((0 * 1 + 200 / 3 * 2 + 50 * 2) / 5)


def test_a_label_that_is_only_predicted_is_an_error_but_no_class_of_the_mean():
    truth, predicted = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 2]])

    found = confusion.figures(confusion.count(truth, predicted, labels=3))

    assert found.miou == 75.0
    assert np.isnan(found.iou[[0, 2]]).all()


def test_without_a_counted_pixel_there_is_no_figure():
    matrix = confusion.count(np.full((2, 2), IGNORED), np.ones((2, 2), int), labels=3)

    assert matrix.sum() == 0
    assert np.isnan(confusion.figures(matrix).miou)
    assert np.isnan(confusion.image_miou(confusion.to_sparse(matrix)))


@pytest.mark.parametrize("wrong", [np.array([[3]]), np.array([[-2]])])
def test_a_label_outside_the_range_is_refused(wrong: np.ndarray):
    with pytest.raises(ValueError, match="labels go from 0 to 2"):
        confusion.count(wrong, np.array([[1]]), labels=3)
    with pytest.raises(ValueError, match="labels go from 0 to 2"):
        confusion.count(np.array([[1]]), wrong, labels=3)


@given(LABEL_MAPS, LABEL_MAPS)
def test_sparse_pairs_hold_the_whole_matrix(truth: np.ndarray, predicted: np.ndarray):
    matrix = confusion.count(truth, predicted, labels=LABELS)
    pairs = confusion.to_sparse(matrix)

    assert np.array_equal(confusion.from_sparse(pairs, labels=LABELS), matrix)
    assert confusion.image_miou(pairs) == pytest.approx(confusion.figures(matrix).miou)


def test_the_boundary_of_a_mask_is_inside_it_and_not_at_the_image_border():
    mask = np.zeros((5, 5), bool)
    mask[:, :3] = True

    assert np.argwhere(boundary.boundary(mask)).tolist() == [[row, 2] for row in range(5)]


def test_the_tolerance_is_three_quarters_of_a_percent_of_the_diagonal():
    assert boundary.tolerance((375, 500)) == 5
    assert boundary.tolerance((10, 10)) == 1


@given(LABEL_MAPS, LABEL_MAPS)
def test_boundary_f_equals_the_plain_search_for_partners(truth: np.ndarray, predicted: np.ndarray):
    found = boundary.image_f(boundary.outlines(truth, predicted))
    if found is not None:
        assert found == pytest.approx(
            naive_metrics.boundary_f([(truth, predicted)], LABELS), abs=1e-9
        )


def test_an_outline_inside_the_tolerance_is_right_and_beyond_it_wrong():
    truth = np.zeros((375, 500), int)
    truth[100:200, 100:200] = 1

    near, far = np.roll(truth, 5, axis=1), np.roll(truth, 30, axis=1)

    assert boundary.image_f(boundary.outlines(truth, near)) == 100.0
    share = boundary.image_f(boundary.outlines(truth, far))
    assert share is not None
    assert 30 < share < 50  # upper and lower edges still meet for 70 of 100 pixels


def test_the_true_outline_runs_in_the_middle_of_an_unlabelled_band():
    exact = np.zeros((150, 200), int)
    exact[:, 100:] = 1
    truth = exact.copy()
    truth[:, 98:102] = IGNORED
    late = np.zeros((150, 200), int)
    late[:, 104:] = 1

    assert boundary.tolerance((150, 200)) == 2
    assert boundary.image_f(boundary.outlines(truth, exact)) == 100.0
    assert boundary.image_f(boundary.outlines(truth, late)) == 0.0


def framed(rng: np.random.Generator) -> np.ndarray:
    """Two boxes on the ground, each in an unlabelled band of two pixels, as VOC has them."""
    truth = np.zeros((44, 60), int)
    for label, left in ((1, 6), (2, 34)):
        top, height = int(rng.integers(6, 12)), int(rng.integers(14, 20))
        width = int(rng.integers(10, 16))
        truth[top - 2 : top + height + 2, left - 2 : left + width + 2] = IGNORED
        truth[top : top + height, left : left + width] = label
    return truth


@pytest.mark.parametrize("seed", range(5))
def test_boundary_f_with_an_unlabelled_band_equals_the_plain_search(seed: int):
    rng = np.random.default_rng(seed)
    truth = framed(rng)
    predicted = np.roll(np.maximum(truth, 0), int(rng.integers(1, 4)), axis=int(rng.integers(2)))
    predicted[:, 50:] = rng.integers(0, 3, (44, 10))
    wide = truth.copy()
    wide[34:, :] = IGNORED  # deep inside, nothing is counted
    predicted[38:41, 10:30] = 1

    for counted in (truth, wide):
        expected = naive_metrics.boundary_f([(counted, predicted)], LABELS)
        assert boundary.image_f(boundary.outlines(counted, predicted)) == pytest.approx(
            expected, abs=1e-9
        )
        assert 5 < expected < 95
    without_band = naive_metrics.boundary_f([(np.maximum(truth, 0), predicted)], LABELS)
    assert abs(without_band - naive_metrics.boundary_f([(truth, predicted)], LABELS)) > 0.1


def test_outlines_deep_inside_an_unlabelled_region_are_not_counted():
    truth = np.full((60, 60), IGNORED)
    truth[:, :10], truth[:, 50:] = 1, 2
    predicted = np.ones((60, 60), int)
    predicted[:, 20:25] = 0
    predicted[:, 40:] = 2

    assert boundary.outlines(truth, predicted) == ()


def test_presence_counts_claims_over_all_images():
    found = presence.figures([((1, 2), (1, 3)), ((4,), (4,)), ((), (5,))])

    assert found.precision == 50.0
    assert found.recall == pytest.approx(200 / 3)
    assert found.false_per_image == pytest.approx(2 / 3)


def test_presence_without_any_claim_has_no_precision():
    found = presence.figures([((1,), ())])

    assert np.isnan(found.precision)
    assert found.recall == 0.0


def test_a_centre_crop_cuts_picture_and_truth_alike():
    image = np.zeros((20, 50, 3), np.uint8)
    truth = np.zeros((20, 50), int)
    image[:, 20:30] = 255
    truth[:, 20:30] = 7
    truth[0, 0] = IGNORED

    picture, labels = views.centre_crop(10)(image, truth)

    assert picture.shape == (10, 10, 3)
    assert labels.shape == (10, 10)
    assert np.array_equal(labels[5] == 7, picture[5, :, 0] > 127)
    assert (labels == 7).sum() == 50


def test_halves_are_the_right_one_and_the_left_one():
    image, truth = np.zeros((2, 6, 3), np.uint8), np.arange(12).reshape(2, 6)

    assert list(views.HALVES) == ["right", "left"]
    assert views.HALVES["right"](image, truth)[1].tolist() == [[3, 4, 5], [9, 10, 11]]
    assert views.HALVES["left"](image, truth)[1].tolist() == [[0, 1, 2], [6, 7, 8]]
