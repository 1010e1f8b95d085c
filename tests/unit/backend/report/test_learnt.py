"""Versions of what was learnt, whatever the record holds."""

import math

import pytest

from backend.report.learnt import MOST_SHOWN, versions_in

VERDICT = {
    "better": False,
    "reason": "not switched on: that may be chance",
    "tasks": 20,
    "before": 40.0,
    "after": 40.5,
    "noise": None,
    "per_label": {"sky": [80.0, 81.0], "broken": [1.0], "worse": [None, 2.0]},
}


def test_a_version_comes_with_why_it_was_or_was_not_switched_on():
    (found,) = versions_in(
        [
            {
                "digest": None,
                "tasks": 20,
                "when": 5.0,
                "state": "candidate",
                "verdicts": {"m": VERDICT},
            }
        ]
    )

    (verdict,) = found.judgements
    assert (found.digest, found.tasks, found.state) == (None, 20, "candidate")
    assert (verdict.control, verdict.better, verdict.noise) == ("m", False, None)
    assert verdict.per_label == {"sky": (80.0, 81.0)}


@pytest.mark.parametrize("told", [None, {}, [], "x", {"versions": None}, [None, 3]])
def test_a_record_that_says_nothing_is_nothing_learnt(told):
    assert versions_in(told) == ()


def test_figures_nobody_has_are_none():
    verdict = {**VERDICT, "before": math.nan, "after": "x"}

    (found,) = versions_in([{"digest": "a", "verdicts": {"m": verdict}}])

    assert (found.judgements[0].before, found.judgements[0].after) == (None, None)


def test_the_active_one_is_there_however_old():
    told = [{"digest": str(number), "state": "candidate"} for number in range(MOST_SHOWN + 5)]
    told[-1]["state"] = "active"

    found = versions_in(told)

    assert len(found) == MOST_SHOWN + 1
    assert found[-1].state == "active"
