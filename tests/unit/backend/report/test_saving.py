"""Time saved, and what it rests on."""

import pytest

from backend.report.comparing import REDONE, TOUCHED, UNTOUCHED
from backend.report.saving import ASSUMED, GIVEN, MEASURED, Stated, saving
from backend.report.tally import Line


def line(kind: str, *, masks: int = 2, changed: int = 0, seconds: float | None = None) -> Line:
    return Line(
        task=1,
        version="v1",
        prediction=1,
        basis="parent",
        is_seen=True,
        score=None,
        quality=1.0,
        kind=kind,
        masks=masks,
        changed=changed,
        add=0,
        remove=0,
        truth=0,
        created=None,
        seconds=seconds,
    )


def test_without_a_clock_the_defaults_are_assumed():
    found = saving([line(UNTOUCHED), line(TOUCHED, changed=1), line(REDONE)], [], Stated())

    # by hand 3 + 2 * 30 = 63 each; spent 3, 3 + 10, and 63 + 3
    assert found.by_hand == 3 * 63
    assert found.spent == 3 + 13 + 66
    assert found.hand.basis == ASSUMED
    assert "assumed" in found.assumption


def test_what_the_editor_counted_goes_before_the_defaults():
    lines = [line(UNTOUCHED, seconds=4)] * 5 + [line(REDONE, seconds=60)] * 5

    found = saving(lines, [], Stated())

    assert found.hand.basis == MEASURED
    assert "median of 5 redone pictures" in found.assumption
    assert found.seconds == 5 * (60 - 4)


def test_pictures_without_a_prediction_say_best_what_one_takes_by_hand():
    lines = [line(REDONE, seconds=60)] * 5

    found = saving(lines, [90.0] * 5, Stated())

    assert "5 pictures without a prediction" in found.assumption
    assert found.seconds == 5 * 30


def test_a_few_clocked_pictures_are_not_enough():
    assert saving([line(REDONE, seconds=60)] * 4, [1.0] * 4, Stated()).hand.basis == ASSUMED


def test_a_tab_left_open_over_night_does_not_count():
    lines = [line(UNTOUCHED, seconds=seconds) for seconds in (4, 4, 4, 4, 50_000)]

    assert saving(lines, [100.0] * 5, Stated()).costs[UNTOUCHED].picture == 4


def test_what_somebody_states_goes_before_what_was_measured():
    lines = [line(UNTOUCHED, seconds=4)] * 5 + [line(TOUCHED, changed=2, seconds=50)] * 5

    found = saving(lines, [90.0] * 9, Stated(per_mask=10, per_touch=1, per_look=0))

    assert {found.hand.basis, *(found.costs[kind].basis for kind in (UNTOUCHED, TOUCHED))} == {
        GIVEN
    }
    assert found.by_hand == 10 * 2 * 10
    assert found.spent == 5 * 2 * 1


def test_predictions_can_cost_time():
    found = saving([line(REDONE)] * 3, [], Stated())

    assert found.seconds == pytest.approx(-9)


def test_nothing_corrected_saves_nothing():
    found = saving([], [], Stated())

    assert (found.pictures, found.seconds, found.share(UNTOUCHED)) == (0, 0, 0)
    assert found.to_json()["seconds_saved"] == 0
