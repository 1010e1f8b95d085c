"""Rows, in lines and tables, come back as they were."""

import json

import numpy as np

from backend.dataset.rows import (
    Fetched,
    Given,
    Row,
    Seen,
    fetched_of,
    fetched_table,
    given_of,
    given_table,
    row_table,
    rows_of,
)
from backend.outcomes import NotPredicted, Predicted

GIVEN = Given(id="a/ü.png", data={"image": "s3://b/ü.png", "n": 3}, number=7, where="/b/ü.png")
FOUND = Predicted(
    regions=(b'[{"id":"r","value":{"rle":[1,2]}}]', b"[]"),
    score=0.25,
    model_version="demo-cliper-1",
    count=1,
)
BROKEN = NotPredicted(reason="the file ends too early", kind="image broken")
AWAY = NotPredicted(reason="nobody answers", kind="unreachable", passing=True)


def test_a_row_of_a_prediction_has_all_that_label_studio_stores() -> None:
    row = Row.of(GIVEN, FOUND, "unused")

    assert json.loads(row.prediction) == {
        "result": [{"id": "r", "value": {"rle": [1, 2]}}],
        "score": 0.25,
        "model_version": "demo-cliper-1",
    }
    assert (row.id, row.number, row.regions, row.kind) == ("a/ü.png", 7, 1, None)


def test_a_failed_task_is_a_row_with_a_reason_and_without_a_prediction() -> None:
    row = Row.of(GIVEN, BROKEN, "demo-cliper-1")

    assert row.result is None
    assert (row.kind, row.reason) == ("image broken", "the file ends too early")
    assert row.model_version == "demo-cliper-1"


def test_a_line_is_a_task_with_its_prediction_as_label_studio_imports_it() -> None:
    told = json.loads(Row.of(GIVEN, FOUND, "").to_line())

    assert told["data"] == {"image": "s3://b/ü.png", "n": 3}
    assert told["predictions"][0]["result"][0]["id"] == "r"


def test_lines_and_tables_lose_nothing() -> None:
    rows = [Row.of(GIVEN, FOUND, ""), Row.of(GIVEN, BROKEN, "demo-cliper-1")]

    assert [Row.from_line(one.to_line()) for one in rows] == rows
    assert list(rows_of(row_table(rows))) == rows


def test_pictures_of_several_sizes_and_failures_cross_processes_in_one_table() -> None:
    tall = np.arange(7 * 3 * 3, dtype=np.uint8).reshape(7, 3, 3)
    wide = np.full((2, 9, 3), 5, np.uint8)
    tasks = [
        Fetched(
            given=GIVEN, pictures=(Seen(digest="d1", pixels=tall), Seen(digest="d2", pixels=wide))
        ),
        Fetched(given=Given(id="2"), error=BROKEN),
        Fetched(given=Given(id="3"), error=AWAY),
    ]

    first, second, third = fetched_of(fetched_table(tasks))

    assert first.given == GIVEN
    assert [one.digest for one in first.pictures] == ["d1", "d2"]
    np.testing.assert_array_equal(first.pictures[0].pixels, tall)
    np.testing.assert_array_equal(first.pictures[1].pixels, wide)
    assert second.error == BROKEN
    assert second.pictures == ()
    assert third.error == AWAY


def test_an_empty_table_is_no_task() -> None:
    assert list(given_of(given_table([]))) == []
    assert list(fetched_of(fetched_table([]))) == []
