"""A preview of a project in memory: what is looked at, counted, foretold, and not written."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from backend.errors import ConfigError, ImageMissing, Unreachable
from backend.prelabel.preview import UNLIKE_SENTENCE, Preview, preview
from backend.prelabel.run import AGAIN
from backend.prelabel.wanted import Wanted

from ....doubles.pictures import brush_config, stripes
from ....doubles.studio_project import Kept, ReadOnlyProject
from ..test_predictor import Album, predictor_of

RED_AND_BLUE = brush_config(["red", "blue", "yellow"])


class Gaps(Album):
    """Pictures some of which cannot be had."""

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        if address == "gone":
            raise ImageMissing("there is nothing at the address")
        if address == "silent":
            raise Unreachable("nobody answers")
        return super().fetch(address, timeout=timeout, task_id=task_id)


PICTURES = {
    "both": stripes("red", "blue", height=12, width=8),
    "red": stripes("red", "green", height=12, width=8),
    "none": stripes("green", height=12, width=8),
}


def looked_at(*addresses: str, config: str = RED_AND_BLUE, count: int = 24, **options) -> Preview:
    tasks = [Kept(number, {"image": one}) for number, one in enumerate(addresses, 1)]
    project = ReadOnlyProject(config, tasks, **options)
    with predictor() as at_work:
        return preview(project, at_work, Wanted(project=7), count, shares_processor=False)


@contextmanager
def predictor() -> Iterator[object]:
    at_work = predictor_of(Gaps(**PICTURES))
    try:
        yield at_work
    finally:
        at_work.close()


def test_every_label_has_a_row_also_where_it_was_not_found():
    seen = looked_at("both", "red", "none", "red")

    rows = {row.label: row for row in seen.rows}
    assert list(rows) == ["red", "blue", "yellow"]
    assert [(row.asked, row.found) for row in rows.values()] == [(4, 3), (4, 1), (4, 0)]
    assert rows["red"].presence(0.5) == pytest.approx(0.9)
    assert rows["red"].area == pytest.approx(0.5)
    assert (rows["yellow"].presences, rows["yellow"].area) == ([0.0] * 4, None)
    assert sorted(seen.regions) == [0, 1, 1, 2]
    assert seen.median_presence == pytest.approx(0.9)


def test_tiles_hang_in_the_order_of_the_sample():
    seen = looked_at("both", "gone", "red")

    assert [tile.task for tile in seen.tiles] == [1, 2, 3]
    assert [tile.reason for tile in seen.tiles] == ["", "there is nothing at the address", ""]
    assert seen.tiles[0].labels == (("seg", "red"), ("seg", "blue"))


def test_the_same_picture_twice_has_two_tiles():
    seen = looked_at("both", "both")

    assert [tile.picture is not None for tile in seen.tiles] == [True, True]


def test_a_sample_is_no_larger_than_asked():
    seen = looked_at(*["red"] * 10, count=3)

    assert len(seen.tasks) == 3
    assert seen.estimate.tasks == 10
    assert len(seen.to_json()["sample"]["tasks"]) == 3


def test_failures_are_counted_by_kind_and_retries_are_waited_for():
    seen = looked_at("red", "gone", "gone", "silent")

    assert {kind: one.count for kind, one in seen.failures.items()} == {
        "image missing": 2,
        "unreachable": 1,
    }
    assert seen.estimate.seconds >= sum(AGAIN)
    assert "3 of 4 tasks of the sample failed, so will others" in seen.warnings()


def test_low_presence_is_warned_about_with_the_one_sentence():
    assert UNLIKE_SENTENCE in looked_at("none", "none", "red").warnings()
    assert UNLIKE_SENTENCE not in looked_at("red", "red", "none").warnings()


def test_where_nothing_was_measured_the_bound_is_what_a_label_must_reach_to_be_found():
    config = RED_AND_BLUE.replace('toName="image"', 'toName="image" model_score_threshold="0.8"')

    assert looked_at("red", config=config).unlike_below == 0.8


def test_labels_that_are_nowhere_or_everywhere_are_named():
    warnings = looked_at(*["red"] * 8).warnings()

    assert "in no picture of the sample: blue, yellow" in warnings
    assert "in every picture of the sample, look whether that is so: red" in warnings


def test_a_few_pictures_say_nothing_about_everywhere():
    assert not any("every picture" in one for one in looked_at("red", "red").warnings())


def test_a_project_without_tasks_is_looked_at_in_vain():
    seen = looked_at()

    assert seen.warnings() == ["no task matches: there is nothing to look at"]
    assert (seen.estimate.seconds, seen.median_presence) == (0.0, None)


def test_a_list_of_pictures_has_a_tile_for_each():
    config = RED_AND_BLUE.replace('value="$image"', 'valueList="$image"', 1)
    tasks = [Kept(1, {"image": ["both", "none"]})]

    with predictor() as at_work:
        seen = preview(
            ReadOnlyProject(config, tasks), at_work, Wanted(project=7), 4, shares_processor=False
        )

    assert [(tile.index, tile.of, len(tile.labels)) for tile in seen.tiles] == [
        (0, 2, 2),
        (1, 2, 0),
    ]
    assert {row.label: (row.asked, row.found) for row in seen.rows}["red"] == (2, 1)


def test_a_project_that_predicts_while_it_is_listed_is_warned_about():
    warnings = looked_at("red", listing_predicts=True).warnings()

    assert any("evaluate_predictions_automatically" in one for one in warnings)


def test_without_a_label_config_there_is_nothing_to_preview():
    with pytest.raises(ConfigError, match="has no label config yet"):
        looked_at("red", config=" ")


def test_the_picture_on_a_tile_is_the_task_s():
    (tile,) = looked_at("both").tiles

    assert tile.picture is not None
    assert np.abs(tile.picture[5, 5].astype(int) - (255, 0, 0)).max() < 10
