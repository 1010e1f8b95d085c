"""Where to raise a threshold, and where to leave it."""

from backend.report.comparing import Name
from backend.report.thresholds import Masks, sweeps

CLOUD = Name("seg", "cloud")


def swept(right: list[float], false: list[float], name: Name = CLOUD):
    masks = Masks()
    for score in right:
        masks.take(score, is_right=True)
    for score in false:
        masks.take(score, is_right=False)
    (found,) = sweeps({name: masks})
    return found


def test_advice_says_what_would_go_and_what_would_be_lost():
    found = swept([0.9] * 40 + [0.5], [0.3] * 4 + [0.58] * 8 + [0.95] * 2)

    assert found.sentence == (
        "raising model_score_threshold of “cloud” to 0.6 would remove up to 12 of 14 false masks "
        "and lose at most 1 of 41 right ones"
    )
    assert found.attribute == '<Label value="cloud" model_score_threshold="0.6"/>'


def test_the_lowest_threshold_that_does_it_is_taken():
    found = swept([0.9] * 5, [0.12] * 3)

    assert found.advice is not None
    assert (found.advice.threshold, found.advice.removed, found.advice.lost) == (0.15, 3, 0)
    assert found.sentence.endswith("and lose no right one")


def test_two_false_masks_are_too_few_to_tell():
    found = swept([0.9] * 9, [0.1] * 2)

    assert found.advice is None
    assert found.attribute is None
    assert "too seldom" in found.sentence


def test_no_advice_where_right_and_false_masks_score_alike():
    found = swept([0.3, 0.4, 0.5, 0.6] * 5, [0.3, 0.4, 0.5, 0.6])

    assert found.advice is None
    assert "no threshold parts" in found.sentence


def test_no_advice_that_loses_more_than_a_tenth_of_the_right_ones():
    assert swept([0.2] * 2 + [0.9] * 8, [0.2] * 30).advice is None


def test_a_label_that_was_never_right_may_go():
    found = swept([], [0.4] * 6)

    assert found.advice is not None
    assert found.advice.removed == 6


def test_a_label_is_escaped_where_it_is_pasted():
    found = swept([], [0.4] * 6, Name("seg", 'a "b" <c>'))

    assert found.attribute == '<Label value=\'a "b" &lt;c&gt;\' model_score_threshold="0.4"/>'


def test_labels_with_advice_come_first():
    few, many = Masks(), Masks()
    for _ in range(20):
        many.take(0.5, is_right=False)
        many.take(0.5, is_right=True)
    for _ in range(3):
        few.take(0.1, is_right=False)

    assert [one.name.label for one in sweeps({CLOUD: many, Name("seg", "sun"): few})] == [
        "sun",
        "cloud",
    ]
