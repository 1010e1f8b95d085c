"""Numbers that fit in the head: two classes, two directions, one edge."""

import numpy as np
import pytest
import torch

from cliper_model.evaluation import affinity
from cliper_model.evaluation.affinity import Affinity, area_under_curve, summarise, to_grid

LEFT, RIGHT = (1.0, 0.0), (0.0, 1.0)


def halves(height: int = 4, width: int = 6) -> tuple[torch.Tensor, np.ndarray]:
    """Features and labels that change in the middle."""
    features = torch.zeros(2, height, width)
    features[0, :, : width // 2] = 3.0  # length does not matter
    features[1, :, width // 2 :] = 0.5
    labels = np.ones((height, width), np.int64)
    labels[:, width // 2 :] = 2
    return features, labels


def test_features_that_know_the_classes_separate_them_fully() -> None:
    found = affinity.affinity(*halves())

    assert found is not None
    assert found.same == pytest.approx(1.0)
    assert found.other == pytest.approx(0.0)
    assert found.separation == pytest.approx(1.0)
    assert found.auc == 1.0


def test_features_that_are_alike_everywhere_separate_nothing() -> None:
    _, labels = halves()

    found = affinity.affinity(torch.ones(3, 4, 6), labels)

    assert found is not None
    assert found.separation == pytest.approx(0.0)
    assert found.auc == 0.5


def test_every_pair_is_counted_once() -> None:
    vectors = torch.tensor([LEFT, LEFT, RIGHT]).T[:, None]  # three places in a row
    labels = np.array([[1, 2, 2]])

    found = affinity.affinity(vectors, labels)

    assert found is not None  # pairs: 1-2 alike and of two classes, 1-3 of two, 2-3 of one
    assert found.same == pytest.approx(0.0)
    assert found.other == pytest.approx(0.5)
    assert found.auc == pytest.approx(0.25)  # one tie, one defeat


@pytest.mark.parametrize("value", [affinity.REST, affinity.UNKNOWN])
def test_places_without_a_class_are_not_compared(value: int) -> None:
    features, labels = halves()
    features[:, 0] = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    labels[0] = value

    found = affinity.affinity(features, labels)

    assert found is not None
    assert found.separation == pytest.approx(1.0)


@pytest.mark.parametrize("labels", [[[1, 1, 1]], [[1, 2, 0]], [[0, 0, 255]]])
def test_a_picture_without_two_classes_has_no_affinity(labels: list[list[int]]) -> None:
    assert affinity.affinity(torch.ones(2, 1, 3), np.array(labels)) is None


def test_of_many_places_a_repeatable_part_stands_for_all() -> None:
    features, labels = halves(60, 80)
    features += 0.3 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))

    first, again = affinity.affinity(features, labels), affinity.affinity(features, labels)

    assert first == again
    assert first is not None
    other = affinity.affinity(features, labels, seed=1)
    assert other is not None
    assert other != first
    assert other.auc == pytest.approx(first.auc, abs=0.02)


def test_the_area_counts_ties_by_half() -> None:
    above, below = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0, 3.0])

    # 1 beats 0, ties 1, loses to 3; 2 beats 0 and 1, loses to 3
    assert area_under_curve(above, below) == pytest.approx((1.5 + 2) / 6)


def test_a_cell_takes_the_label_of_most_of_its_pixels() -> None:
    label_map = np.zeros((4, 6), np.int64)
    label_map[:2, :3] = [[7, 7, 7], [7, 7, 255]]  # the first cell: five sevens
    label_map[2:, 3:] = [[0, 3, 3], [3, 0, 0]]  # the last: three of each

    grid = to_grid(label_map, (2, 2))

    assert grid.tolist() == [[7, 0], [0, 0]]


def test_a_grid_finer_than_the_mask_repeats_it() -> None:
    grid = to_grid(np.array([[1, 2]]), (2, 6))

    assert grid.tolist() == [[1, 1, 1, 2, 2, 2]] * 2


def test_an_edge_of_features_on_the_edge_of_the_mask_is_a_perfect_hit() -> None:
    edges = affinity.edges(*halves())

    assert edges.best_f == pytest.approx(1.0)
    assert edges.truth == 4  # one place per row, left of the edge
    assert edges.places == 24
    assert edges.near == 12  # one place to either side
    assert edges.chance_f == pytest.approx(2 / 3)  # precision a half, everything found


def test_an_edge_may_lie_one_place_off_but_not_two() -> None:
    _, labels = halves(4, 12)

    def shifted(by: int) -> torch.Tensor:
        features = torch.zeros(2, 4, 12)
        features[0, :, : 6 + by] = 1
        features[1, :, 6 + by :] = 1
        return features

    assert affinity.edges(shifted(1), labels).best_f == pytest.approx(1.0)
    missed = affinity.edges(shifted(3), labels)
    assert missed.best_f == missed.f[0] == 0.0


def test_flat_features_mark_nothing() -> None:
    _, labels = halves()

    edges = affinity.edges(torch.ones(2, 4, 6), labels)

    assert edges.best_f == 0.0
    assert edges.marked.tolist() == [0] * affinity.THRESHOLDS


def test_the_border_of_no_class_is_an_edge_and_that_of_the_unknown_is_none() -> None:
    features, labels = halves()

    against_rest = affinity.edges(features, np.where(labels == 2, affinity.REST, labels))
    against_unknown = affinity.edges(features, np.where(labels == 2, affinity.UNKNOWN, labels))

    assert against_rest.truth == 4
    assert against_unknown.truth == 0
    assert against_unknown.places == 8  # unknown places and their left neighbours do not count
    assert against_unknown.best_f == against_unknown.chance_f == 0.0


def test_an_edge_downwards_counts_like_one_to_the_right() -> None:
    features, labels = halves(6, 6)

    lying = affinity.edges(features.transpose(1, 2), labels.T)

    standing = affinity.edges(features, labels)
    assert lying.truth == standing.truth == 6
    assert lying.best_f == standing.best_f == pytest.approx(1.0)


def test_one_threshold_serves_the_whole_set() -> None:
    """The clutter of one picture is as strong as the edge of the other."""
    strong, labels = halves()
    clutter = strong.clone()
    clutter[1, :, 0] = 3 * 0.2  # leftmost column, away from the edge
    weak = torch.stack([torch.ones(4, 6), torch.full((4, 6), 0.2)])
    weak[1, :, :3] = 0.0

    alone = [affinity.edges(picture, labels).best_f for picture in (clutter, weak)]
    together = (affinity.edges(clutter, labels) + affinity.edges(weak, labels)).best_f

    assert alone == pytest.approx([1.0, 1.0])
    assert together == pytest.approx(0.8)  # everything found, a third of it clutter


def test_a_summary_is_the_mean_over_pictures_with_two_classes() -> None:
    features, labels = halves()
    edge = affinity.edges(features, labels)

    summary = summarise(
        [
            Affinity(same=0.8, other=0.2, auc=0.9),
            None,
            Affinity(same=0.4, other=0.4, auc=0.5),
        ],
        [edge, edge],
    )

    assert summary is not None
    assert summary.pictures == 2
    assert (summary.same, summary.other) == pytest.approx((0.6, 0.3))
    assert summary.separation == pytest.approx(0.3)
    assert summary.auc == pytest.approx(0.7)
    assert summary.boundary_f == pytest.approx(1.0)


def test_a_set_without_two_classes_has_no_summary() -> None:
    assert summarise([None, None], []) is None
