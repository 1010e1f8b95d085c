"""A mask moved onto the edges of its picture."""

import numpy as np

from backend.report.snapping import LONGEST, enlarged, guide_of, moved, shrunk

from ....doubles.pictures import stripes


def snapped(mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
    guide = guide_of(picture)
    (cells,) = moved([shrunk(mask, guide)], guide)
    return enlarged(cells, (mask.shape[0], mask.shape[1]))


def test_an_outline_beside_an_edge_moves_onto_it():
    picture = stripes("red", "blue", height=96, width=96)
    mask, right = np.zeros((96, 192), bool), np.zeros((96, 192), bool)
    mask[:, :94], right[:, :96] = True, True

    assert (snapped(mask, picture) ^ right).sum() < (mask ^ right).sum() / 2


def test_where_the_picture_has_one_colour_nothing_moves():
    mask = np.zeros((96, 192), bool)
    mask[:, :90] = True

    assert (snapped(mask, stripes("red", height=96, width=192)) == mask).all()


def test_a_large_picture_is_filtered_on_a_bounded_grid_and_comes_back_at_its_size():
    picture = stripes("red", "blue", height=300, width=700)
    mask = np.zeros((300, 1400), bool)
    mask[:, :690] = True
    guide = guide_of(picture)

    assert max(guide.shape[1:]) == LONGEST
    assert snapped(mask, picture).shape == (300, 1400)


def test_no_mask_is_no_work():
    assert moved([], guide_of(stripes("red"))) == []
