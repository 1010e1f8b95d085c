"""What is asked of a run, read from JSON or from words."""

import json

import pytest

from backend.errors import BadRequest
from backend.prelabel.wanted import COLUMNS, SIGNS, Wanted, read_filter


def test_a_wish_survives_json():
    wanted = Wanted(
        project=3, view=4, filters=("data.a=b",), limit=5, redo=True, replace=True, dry_run=True
    )

    assert Wanted.from_json(json.loads(json.dumps(wanted.to_json()))) == wanted
    named = Wanted(project=3, tasks=(9, 7), key="3.1769855431", include_annotated=True)
    assert Wanted.from_json(json.loads(json.dumps(named.to_json()))) == named


def test_a_project_is_enough():
    assert Wanted.from_json({"project": 3}) == Wanted(project=3)
    assert Wanted.from_json({"project": 3, "filters": None}).conditions() == []


def test_a_whole_number_may_be_written_with_a_point():
    """JSON does not tell 3.0 from 3."""
    wanted = Wanted.from_json({"project": 3.0, "tasks": [7.0, 7, 9.0], "limit": 2.0})

    assert wanted.to_json() == Wanted(project=3, tasks=(7, 9), limit=2).to_json()
    assert (repr(wanted.project), repr(wanted.tasks)) == ("3", "(7, 9)")


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "which project"),
        ({"project": None}, "which project"),
        ({"project": 0}, "project must be a whole number from 1 on, got 0"),
        ({"project": True}, "project must be a whole number from 1 on, got True"),
        ({"project": "3"}, "project must be a whole number"),
        ({"project": 3, "limit": 0}, "limit must be a whole number from 1 on"),
        ({"project": 3, "limit": 1.5}, "limit must be a whole number"),
        ({"project": 3, "view": -1}, "view must be a whole number"),
        ({"project": 3, "redo": 1}, "redo must be true or false, got 1"),
        ({"project": 3, "dry_run": "yes"}, "dry_run must be true or false"),
        ({"project": 3, "colour": 1}, "unknown field 'colour'; known are dry_run, filters"),
        ({"project": 3, "tasks": []}, "tasks must name at least one; leave it out for all"),
        ({"project": 3, "tasks": {}}, "tasks must be a list"),
        ({"project": 3, "tasks": "12"}, "tasks must be a list"),
        ({"project": 3, "tasks": [True]}, "tasks must hold whole numbers from 1 on, got True"),
        ({"project": 3, "tasks": [2.5]}, "tasks must hold whole numbers from 1 on, got 2.5"),
        ({"project": float("inf")}, "project must be a whole number from 1 on, got inf"),
        ({"project": 3, "tasks": [1], "view": 2}, "give tasks or a view, not both"),
        ({"project": 3, "key": 7}, "key must be a project's number and birth"),
        ({"project": 3, "filters": "data.a=b"}, "filters must be a list"),
        ({"project": 3, "filters": {"a": 1}}, "filters must be a list"),
        ({"project": 3, "filters": 0}, "filters must be a list"),
        ({"project": 3, "filters": [7]}, "a filter must be text"),
        ({"project": 3, "filters": ["nonsense"]}, "cannot read the filter 'nonsense'"),
    ],
)
def test_a_wrong_wish_is_named(params: dict, sentence: str):
    with pytest.raises(BadRequest, match=sentence):
        Wanted.from_json(params)


@pytest.mark.parametrize(
    ("text", "column", "operator", "kind", "value"),
    [
        ("id>=100", "id", "greater_or_equal", "Number", 100),
        (" inner_id < 7 ", "inner_id", "less", "Number", 7),
        ("total_predictions!=0", "total_predictions", "not_equal", "Number", 0),
        ("data.split=train", "data.split", "equal", "String", "train"),
        ("data.name~har=bour", "data.name", "contains", "String", "har=bour"),
        ("data.name!~x", "data.name", "not_contains", "String", "x"),
        ("data.n>=-1.5", "data.n", "greater_or_equal", "Number", -1.5),
        ("data.n=007", "data.n", "equal", "Number", 7),
        ('data.n="007"', "data.n", "equal", "String", "007"),
        ("data.n~5", "data.n", "contains", "String", "5"),
        ('data.a="with spaces "', "data.a", "equal", "String", "with spaces "),
        ('data.a=say "hi"', "data.a", "equal", "String", 'say "hi"'),
        ('data.a="', "data.a", "equal", "String", '"'),
        ("data.a=", "data.a", "equal", "String", ""),
        ("data.a=nan", "data.a", "equal", "String", "nan"),
        ("data.a=inf", "data.a", "equal", "String", "inf"),
        ("data.a=1e999", "data.a", "equal", "String", "1e999"),
        ("data.a=1_000", "data.a", "equal", "String", "1_000"),
        ("data.a=²", "data.a", "equal", "String", "²"),
        ("data.a=12345678901234567890", "data.a", "equal", "String", "12345678901234567890"),
        ("data.with space=a", "data.with space", "equal", "String", "a"),
        ("file_upload~a.png", "file_upload", "contains", "String", "a.png"),
        (
            "created_at>2026-01-31",
            "created_at",
            "greater",
            "Datetime",
            "2026-01-31T00:00:00.000000Z",
        ),
        (
            "updated_at<=2026-01-31T18:00:00+02:00",
            "updated_at",
            "less_or_equal",
            "Datetime",
            "2026-01-31T16:00:00.000000Z",
        ),
    ],
)
def test_a_condition_in_words_is_one_of_the_data_manager(
    text: str, column: str, operator: str, kind: str, value: object
):
    assert read_filter(text) == {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cannot read the filter ''"),
        ("split=train", "columns are data.KEY, id, inner_id"),
        ("data.=a", "cannot read"),
        ("data.a", "cannot read"),
        ("id=abc", "id is a number, and 'abc' is none"),
        ("id=nan", "id is a number, and 'nan' is none"),
        ("id=inf", "id is a number, and 'inf' is none"),
        ("data.a>b", "> compares numbers, and 'b' is none"),
        ('data.a>="5"', ">= compares numbers"),
        ("created_at>yesterday", "created_at is a date such as 2026-01-31"),
        ("id~5", "~ looks into text, and id is none"),
        ("total_predictions!~5", "!~ looks into text, and total_predictions is none"),
        ("created_at~2026-01-01", "~ looks into text, and created_at is none"),
        ("{nonsense", "a filter as JSON needs filter, operator, type and value"),
        ('{"filter": "a"}', "a filter as JSON needs"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(text: str, sentence: str):
    with pytest.raises(BadRequest) as caught:
        read_filter(text)

    assert sentence in str(caught.value)


def test_the_data_manager_s_own_filters_are_taken_as_they_are():
    given = {"filter": "filter:tasks:x", "operator": "regex", "type": "String", "value": "a.*"}

    assert read_filter(json.dumps(given)) == given


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("column", [*COLUMNS, "data.a"])
def test_every_sign_is_read_whole_with_every_column(column: str, sign: str):
    kind = COLUMNS.get(column, "String")
    value = {"Number": "5", "Datetime": "2026-01-31", "String": "5"}[kind]
    if "~" in sign and kind != "String":
        with pytest.raises(BadRequest, match="looks into text"):
            read_filter(f"{column}{sign}{value}")
        return

    assert read_filter(f"{column}{sign}{value}")["operator"] == SIGNS[sign]


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("a" + " " * 1000, "a filter has 1001 characters, more than 1000"),
        (" " * 999 + "!", "cannot read the filter"),
        ("a" * 500 + " " * 499, "cannot read the filter"),
        ('{"a":' * 200, "a filter as JSON needs"),
        ("created_at>0001-01-01T00:00:00+23:00", "created_at is a date such as"),
        ("created_at<9999-12-31T23:59:59-23:00", "created_at is a date such as"),
    ],
)
def test_conditions_that_take_for_ever_or_fall_off_the_calendar_are_refused(
    condition: str, sentence: str
):
    with pytest.raises(BadRequest, match=sentence):
        read_filter(condition)


def test_only_so_many_conditions_are_taken():
    with pytest.raises(BadRequest, match="filters has 101 conditions, more than 100"):
        Wanted.from_json({"project": 3, "filters": ["id>1"] * 101})


def test_blanks_around_a_condition_and_its_sign_do_not_matter():
    assert read_filter("  data.a  >=  7 ") == read_filter("data.a>=7")
