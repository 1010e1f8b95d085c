"""What labels claim, and how close the decision was, for whoever points at a picture."""

import numpy as np
import pytest

from backend.playground import claims
from cliper_model import Decision, Scores
from cliper_model.segmenter import RowLogits


def scores(*maps: list[list[float]], **more: object) -> Scores:
    values = np.array(maps, np.float32)
    return Scores(
        labels=tuple("abc"[: len(maps)]),
        maps=values,
        strength=values.max(axis=(1, 2)),
        presence=np.full(len(maps), 0.9, np.float32),
        size_hw=(4, 4),
        **more,  # type: ignore[arg-type]
    )


def test_the_largest_claim_of_a_label_is_its_strength() -> None:
    given = scores([[0.2, 0.4]], [[0.1, 0.1]])

    told, behind = claims.of_labels(given)

    np.testing.assert_allclose(told.max(axis=(1, 2)), [0.4, 0.1], rtol=1e-4)
    assert behind is None


def test_before_refinement_the_coarse_maps_claim() -> None:
    given = scores([[0.2, 0.4]], coarse=np.array([[[0.8]]], np.float32))

    told, _ = claims.of_labels(given, refined=False)

    assert told.shape == (1, 1, 1)


def test_fine_maps_are_shown_coarser() -> None:
    given = scores(np.random.default_rng(1).random((400, 200)).tolist())

    told, _ = claims.of_labels(given)

    assert told.shape == (1, claims.LONGEST, claims.LONGEST // 2)


def test_background_words_claim_where_rows_compete() -> None:
    rows = RowLogits(values=np.array([[[1.0]], [[3.0]]], np.float32), row_class=(0, -1), scale=1.0)
    given = scores([[0.5]], rows=rows)

    told, behind = claims.of_labels(given)

    assert behind is not None
    np.testing.assert_allclose(told[0] + behind, 1.0, rtol=1e-5)
    assert behind > told[0]


@pytest.mark.parametrize(
    ("first", "second", "doubt"), [(0.8, 0.8, 1.0), (0.9, 0.3, 0.5), (0.5, 0.0, 0.0)]
)
def test_a_tie_is_all_doubt_and_a_lone_claim_is_none(
    first: float, second: float, doubt: float
) -> None:
    given = scores([[first]], [[second]])
    told = np.array([[[first]], [[second]]], np.float32)

    found = claims.doubt(told, None, given, Decision(background="none"))

    np.testing.assert_allclose(found, doubt, atol=1e-6)


def test_the_background_is_a_rival_as_its_rule_says() -> None:
    given, told = scores([[0.3]]), np.array([[[0.3]]], np.float32)

    by_threshold = claims.doubt(told, None, given, Decision(background_threshold=0.3))
    by_square = claims.doubt(told, None, given, Decision(background="quadratic"))

    np.testing.assert_allclose(by_threshold, 1.0, atol=1e-6)
    np.testing.assert_allclose(by_square, 1 - (0.49 - 0.3) / 0.79, atol=1e-5)


def test_labels_that_are_not_there_claim_nothing() -> None:
    given = scores([[0.9]], [[0.9]])
    told = np.full((2, 1, 1), 0.9, np.float32)

    found = claims.doubt(
        told, None, given, Decision(background="none", presence_threshold=(0.5, 0.95))
    )

    np.testing.assert_allclose(found, 0.0)
