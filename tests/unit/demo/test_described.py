"""Pictures with two of one class, and what counts as finding the right one."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cliper_model.demo.captions import NEVER_TOGETHER
from cliper_model.demo.described import (
    KINDS,
    PAIRS,
    Answer,
    ask,
    described_figures,
    kind_of,
    question,
)
from cliper_model.segmenter import Scores


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_twins_show_both_and_exchange_their_sides(pair):
    one, other = (question(*pair, index) for index in (0, 1))

    for asked in (one, other):
        assert asked.name == " ".join(pair)
        assert pair[1] not in asked.others
        assert min(asked.right.sum(), asked.wrong.sum()) > 100
        assert not (asked.right & asked.wrong).any()
    assert middle(one.right) < middle(one.wrong)
    assert middle(other.right) > middle(other.wrong)


def middle(mask):
    """Mean column."""
    return np.nonzero(mask)[1].mean()


def test_the_same_number_is_the_same_picture_and_the_next_pair_another():
    first, again, later = (question("blue", "car", index) for index in (0, 0, 2))

    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != later.image).any()


def test_a_blue_car_is_bluer_than_the_other_one():
    asked = [question("blue", "car", index) for index in range(8)]

    for one in asked:
        right, wrong = (one.image[mask].mean(0) for mask in (one.right, one.wrong))
        assert right[2] - right[0] > wrong[2] - wrong[0]


def test_every_name_is_one_that_no_training_text_says():
    assert set(PAIRS) == NEVER_TOGETHER
    assert {kind_of(quality) for quality, _ in PAIRS} == set(KINDS)


@dataclass(frozen=True)
class State:
    queries: torch.Tensor
    keys: torch.Tensor


class OneEyed:
    """Answers with maps made by hand: `coarse` and `refined` where the name is."""

    def __init__(self, coarse, refined):
        self._maps, self.method, self.asked = (coarse, refined), self, []

    def read(self, words, *, background):
        self.asked.append((words, background))
        return words

    def observe(self, image):
        return State(torch.ones(1, 1, 1), torch.ones(1, 1, 1))

    def score(self, state, words):
        name = self._maps[int(state.queries.shape[0] > 0)].astype(np.float32)
        maps = np.stack([name, *[np.full_like(name, 0.5)] * (len(words) - 1)])
        largest = maps.max((1, 2))
        return Scores(
            labels=tuple(words), maps=maps, strength=largest, presence=largest, size_hw=name.shape
        )


def test_the_right_one_is_found_where_the_name_scores_higher():
    asked = question("blue", "car", 0)
    sight = OneEyed(coarse=1.0 * asked.wrong, refined=1.0 * asked.right)

    assert ask(sight, asked) == Answer(coarse=False, refined=True, beside=True, pixels=True)
    assert sight.asked == [
        (("blue car", *asked.others), ()),
        (("blue car", "car", *asked.others), ()),
    ]


def test_a_name_on_both_is_not_mostly_on_the_right_one():
    asked = question("striped", "tent", 0)
    both = 0.9 * asked.wrong + 1.0 * asked.right
    ground = np.where(asked.right, 1.0, 0.8)

    assert not ask(OneEyed(both, ground), asked).pixels
    assert ask(OneEyed(both, ground), asked).refined


def test_figures_are_shares_of_pictures():
    right, wrong = Answer(True, True, True, True), Answer(False, True, False, False)

    figures = described_figures({("blue", "car"): [right, wrong], ("night", "sky"): [right, right]})

    assert figures["described"]["higher score"] == 75
    assert figures["described"]["pictures"] == 4
    assert figures["described: colour"]["most pixels, refined"] == 50
    assert figures["described: pattern"]["pictures"] == 0
    assert figures["described: by name"] == {"blue car": 100, "night sky": 100}
