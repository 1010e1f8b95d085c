"""A whole report, in figures that fit in the head."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from backend.errors import Unreachable
from backend.report import tally
from backend.report.comparing import REDONE, TOUCHED, UNTOUCHED, Name
from backend.report.learnt import versions_in
from backend.report.making import MOST_FAILURES, Asked, Report, report
from backend.report.saving import Stated

from ....doubles.corrections import (
    PICTURE,
    Tasks,
    annotated,
    columns,
    corrected,
    painted,
    predicted,
    told,
)

TEN = columns(0, 10)
NOTHING = columns(0, 0)


def made_of(*tasks, **options) -> Report:
    source = options.pop("source", None) or Tasks(tasks)
    return report(source, Asked(**options), made="2026-03-01")


def three() -> list:
    """Taken as it was, touched up (8 of 10 columns), redone (2 of 10)."""
    return [
        corrected(1, TEN, TEN),
        corrected(2, TEN, columns(0, 8)),
        corrected(3, TEN, columns(0, 2)),
    ]


def test_every_kind_is_counted():
    seen = made_of(*three())

    assert seen.saving.kinds == {UNTOUCHED: 1, TOUCHED: 1, REDONE: 1}
    assert [one.quality for one in seen.lines] == pytest.approx([1.0, 0.8, 0.2])


def test_brush_work_is_summed_by_label_and_version():
    (version,) = made_of(*three()).versions

    label = version.to_json(_no_error())["labels"][0]
    assert (label["control"], label["label"]) == ("seg", "red")
    assert (label["add_pixels"], label["remove_pixels"], label["truth_pixels"]) == (100, 0, 300)
    assert label["add_share"] == pytest.approx(1 / 3, abs=1e-4)
    assert label["iou"] == pytest.approx(2 / 3, abs=1e-4)
    assert (label["untouched"], label["touched"], label["redone"]) == (1, 1, 1)


def test_versions_stand_in_the_order_of_their_predictions():
    tasks = [
        told(
            number,
            [annotated(painted("red", TEN), parent=number, hour=9)],
            [predicted(number, painted("red", TEN), version=version, hour=hour)],
        )
        for number, (version, hour) in enumerate([("b", 5), ("a", 7), ("c", 3)], 1)
    ]

    seen = made_of(*tasks)

    assert [one.version for one in seen.versions] == ["c", "b", "a"]
    assert seen.newest is not None
    assert seen.newest.version == "a"


def test_what_nobody_saw_counts_for_quality_and_not_for_the_saving():
    late = told(
        1,
        [annotated(painted("red", TEN), hour=2)],
        [predicted(5, painted("red", TEN), hour=3)],
    )

    seen = made_of(late)

    assert seen.saving.pictures == 0
    assert seen.versions[0].mean == 1.0
    assert seen.bases == {"parent": 0, "before": 0, "unseen": 1}


def test_tasks_without_annotation_are_nothing_and_those_without_prediction_tell_the_time():
    bare = [told(number, [annotated([], lead_time=40.0)], []) for number in range(1, 6)]
    seen = made_of(told(9, [], [predicted(1, [])]), *bare, corrected(7, TEN, TEN))

    assert (seen.counts.annotated, seen.counts.unpredicted, seen.counts.compared) == (6, 5, 1)
    assert seen.saving.hand.picture == 40.0


def test_only_the_version_that_was_asked_for():
    tasks = [corrected(1, TEN, TEN, version="a"), corrected(2, TEN, TEN, version="b")]

    seen = made_of(*tasks, version="b")

    assert [one.task for one in seen.lines] == [2]
    assert seen.counts.other_version == 1


def test_a_mask_that_cannot_be_read_loses_only_its_task():
    broken = corrected(2, TEN, TEN)
    broken.predictions[0]["result"][0]["value"]["rle"] = [0]
    other = told(
        3,
        [annotated(painted("red", TEN), parent=1)],
        [predicted(1, painted("red", columns(0, 5, (10, 10))))],
    )

    seen = made_of(corrected(1, TEN, TEN), broken, other)

    assert [one.task for one in seen.lines] == [1]
    assert sum(seen.counts.failures.values()) == 2


def test_kinds_of_failures_are_few():
    seen = made_of()
    for number in range(MOST_FAILURES + 5):
        seen.counts.fail(f"reason {number}")

    assert len(seen.counts.failures) == MOST_FAILURES + 1
    assert seen.counts.failures["other reasons"] == 5


def test_the_worst_come_first_and_those_taken_as_they_were_not_at_all():
    seen = made_of(*three(), corrected(4, TEN, columns(0, 5)), worst=2)

    assert [one.line.task for one in seen.worst] == [3, 4]
    assert seen.worst[0].link == "http://studio.test/projects/7/data?task=3"
    assert seen.worst[0].panels is not None
    assert seen.worst[0].panels.picture is not None


def test_the_worst_are_those_of_the_newest_version():
    old = corrected(1, TEN, NOTHING, version="old")
    new = corrected(2, TEN, columns(0, 9), version="new")
    new.predictions[0]["created_at"] = "2026-03-01T02:00:00Z"

    assert [one.line.task for one in made_of(old, new).worst] == [2]


def test_the_worst_are_of_a_version_that_people_saw():
    """The last one was made after the corrections, and maybe of them."""
    later = predicted(99, painted("red", TEN), version="later", hour=20, score=0.9)
    tasks = [
        told(
            number,
            [annotated(painted("red", TEN), hour=5)],
            [predicted(number, painted("red", columns(0, width))), later],
        )
        for number, width in ((1, 10), (2, 8), (3, 2))
    ]

    seen = made_of(*tasks)

    assert [one.version for one in seen.versions] == ["v1", "later"]
    assert [one.line.task for one in seen.worst] == [3, 2]


def test_a_picture_that_is_gone_loses_only_itself():
    seen = made_of(source=Tasks(three(), missing=frozenset({3})))

    assert [one.line.task for one in seen.worst] == [3, 2]
    gone = seen.worst[0]
    assert gone.reason == "there is nothing at the address"
    assert gone.panels is not None
    assert gone.panels.picture is None
    assert seen.sampled == 1
    assert dict(seen.unsampled) == {"there is nothing at the address": 1}


def test_a_picture_of_another_size_is_not_painted_on():
    seen = made_of(source=Tasks(three(), picture_of=np.zeros((5, 5, 3), np.uint8)))

    assert seen.worst[0].reason == "the picture has 5 x 5 pixels, its masks 20 x 10"
    assert seen.sampled == 0


def test_pictures_are_fetched_for_the_worst_and_the_sample_only():
    source = Tasks([corrected(number, TEN, columns(0, 5)) for number in range(1, 30)])

    made_of(source=source, worst=2, sample=3)

    assert len(source.asked) == len(set(source.asked)) <= 5


def test_the_sample_is_the_same_whatever_the_order_of_tasks():
    tasks = [corrected(number, TEN, columns(0, 5)) for number in range(1, 30)]
    asked = []
    for some in (tasks, tasks[::-1]):
        source = Tasks(some)
        made_of(source=source, worst=0, sample=4)
        asked.append(set(source.asked))

    assert asked[0] == asked[1]
    assert len(asked[0]) == 4


def test_edges_are_tried_on_masks_that_people_changed():
    seen = made_of(corrected(1, TEN, columns(0, 9)), corrected(2, TEN, TEN))

    label = seen.versions[0].labels[Name("seg", "red")]
    assert (label.stored.pictures, label.snapped.pictures) == (1, 1)
    assert label.stored.add == 10
    assert seen.sampled == 1


def test_without_a_sample_edges_are_not_measured():
    seen = made_of(*three(), sample=0)

    assert seen.to_json()["versions"][0]["edge_aware"] is None


def test_thresholds_are_judged_by_the_newest_version():
    false = [
        told(
            number,
            [annotated([], parent=number)],
            [predicted(number, painted("red", TEN, score=0.2))],
        )
        for number in range(1, 5)
    ]

    seen = made_of(*false, *(corrected(number, TEN, TEN, score=0.9) for number in range(5, 9)))

    (sweep,) = seen.sweeps
    assert (sweep.right, sweep.false) == (4, 4)
    assert sweep.attribute == '<Label value="red" model_score_threshold="0.2"/>'


def test_scores_are_held_against_quality():
    seen = made_of(corrected(1, TEN, TEN, score=0.9), corrected(2, TEN, columns(0, 5), score=0.9))

    assert seen.calibration.error == pytest.approx(0.15)
    assert seen.calibrations["v1"].count == 2


def test_a_task_that_was_emptied_meanwhile_is_left_out():
    class Changing(Tasks):
        def again(self, numbers):
            return iter([dataclasses.replace(one, annotations=[]) for one in self.kept])

    assert made_of(source=Changing(three())).worst == []


def test_whoever_asks_for_tasks_hears_how_many_are_done():
    heard: list[int] = []

    report(Tasks(three()), Asked(), made="", told=heard.append)

    assert heard == [1, 2, 3]


def test_trouble_with_label_studio_is_not_taken_for_a_missing_picture():
    class Broken(Tasks):
        def picture(self, told, place):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        made_of(source=Broken(three()))


def test_a_server_that_does_not_answer_is_a_missing_picture():
    class Silent(Tasks):
        def picture(self, told, place):
            raise Unreachable("nobody answers")

    assert made_of(source=Silent(three())).worst[0].reason == "nobody answers"


def test_many_labels_share_the_last_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tally, "MOST_LABELS", 2)

    seen = made_of(*(corrected(n, TEN, TEN, label=f"label {n}") for n in range(1, 6)))

    labels = seen.versions[0].labels
    assert [name.label for name in labels] == ["label 1", "label 2", "(others)"]
    assert labels[tally.OTHERS].all.pictures == 3


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_json_has_every_figure_under_the_same_keys(count):
    told_json = made_of(*three()[:count]).to_json()

    assert set(told_json) == {
        "format",
        "title",
        "project",
        "made",
        "version",
        "definitions",
        "tasks",
        "failures",
        "compared_with",
        "saving",
        "versions",
        "order",
        "calibration",
        "thresholds",
        "edge_aware",
        "worst",
        "learnt",
        "warnings",
        "pictures",
    }
    json.dumps(told_json, allow_nan=False)


def test_stated_seconds_are_used():
    seen = made_of(*three(), stated=Stated(per_mask=100, per_touch=0, per_look=0))

    assert seen.saving.seconds == 200  # two of three; the third was painted anew


def test_the_picture_is_told_by_its_place_in_a_list():
    task = told(
        1,
        [
            annotated(
                [*painted("red", TEN, index=0), *painted("red", TEN, index=1)],
                parent=1,
            )
        ],
        [predicted(1, painted("red", TEN, index=0))],
    )

    (worst,) = made_of(task).worst
    assert worst.place.number == 1
    assert worst.to_json()["picture"] == 1


def _no_error() -> dict:
    return {"expected_calibration_error": None}


def test_the_picture_of_this_test_is_as_large_as_its_masks():
    assert PICTURE.shape[:2] == TEN.shape


def test_the_reference_page_names_every_key():
    page = (Path(__file__).parents[4] / "docs" / "reference" / "report.md").read_text("utf-8")
    verdict = {"better": True, "reason": "", "tasks": 1, "per_label": {}}
    learnt = versions_in([{"digest": "a", "verdicts": {"seg": verdict}}])
    seen = report(Tasks(three()), Asked(), made="", learnt=learnt)
    named = set(re.findall(r"`([a-z_]+)`", page))

    assert keys(seen.to_json()) - named == set()


def keys(told) -> set[str]:
    """Of everything inside, without those of tables whose keys are names."""
    if isinstance(told, list):
        return {key for one in told for key in keys(one)}
    if not isinstance(told, dict):
        return set()
    free = {"failures", "without_picture", "per_label"}
    return set(told) | {key for name in set(told) - free for key in keys(told[name])}
