"""Classes that are drawn for the test alone."""

import numpy as np
import pytest

from cliper_model.demo.captions import SYNONYMS, trained_words
from cliper_model.demo.scenes.things import TABLE
from cliper_model.demo.unseen import UNSEEN, Overlap, picture, unseen_figures


@pytest.mark.parametrize("name", UNSEEN)
def test_a_picture_shows_the_thing_and_asks_by_trained_words(name):
    shown, again = picture(name, 0), picture(name, 0)

    assert shown.mask.sum() > 300
    assert set(shown.words.split()) <= set(trained_words())
    assert set(shown.others) <= set(SYNONYMS)
    np.testing.assert_array_equal(shown.image, again.image)


def test_no_training_scene_can_show_them():
    words = {word for synonyms in SYNONYMS.values() for word in synonyms}

    assert len(UNSEEN) >= 3
    assert not set(UNSEEN) & (words | set(TABLE))


def test_overlap_is_counted_over_all_pictures():
    parts = [(Overlap(1, 4), Overlap(3, 4)), (Overlap(1, 4), Overlap(4, 4))]

    figures = unseen_figures({"duck": parts})

    assert figures["unseen"] == {"duck, asked for as 'yellow bird'": 25}
    assert figures["unseen refined"] == {"duck, asked for as 'yellow bird'": 87.5}
