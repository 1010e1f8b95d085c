"""What somebody asks of a run, read from JSON or the command line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self

from ..errors import BadRequest
from ..labelstudio import bounded_json
from ..studio.project import Filters

Json = Any

COLUMNS = {  # what a filter may name beside data.KEY -> its kind in the Data Manager
    "id": "Number",
    "inner_id": "Number",
    "created_at": "Datetime",
    "updated_at": "Datetime",
    "total_annotations": "Number",
    "total_predictions": "Number",
    "file_upload": "String",
}
SIGNS = {  # longest first
    ">=": "greater_or_equal",
    "<=": "less_or_equal",
    "!=": "not_equal",
    "!~": "not_contains",
    "=": "equal",
    ">": "greater",
    "<": "less",
    "~": "contains",
}
MOST_TASKS = 100_000  # named one by one
LONGEST_FILTER = 1_000  # characters of a condition
MOST_FILTERS = 100
FILTER = re.compile(r"(?P<column>[^=!<>~]+)(?P<sign>>=|<=|!=|!~|=|>|<|~)(?P<value>.*)")
FILTER_FIELDS = frozenset({"filter", "operator", "type", "value"})
FILTER_HELP = "such as 'data.split=train', 'id>=100' or 'data.name~harbour' (= != > >= < <= ~ !~)"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which tasks of a project are wanted, and what becomes of earlier predictions.

    view              tab of the Data Manager, in its order
    tasks             only these, in this order
    key               number and birth of the project that is meant: another Label Studio may have
                      one of the same number
    filters           conditions that all have to hold, see `read_filter`
    limit             at most so many tasks
    redo              also tasks that have predictions of the present version, which are replaced
    include_annotated also tasks somebody has annotated, skipped or begun
    replace           in the end, remove our older versions' predictions from what has the new one
    dry_run           say what would be done
    """

    project: int
    view: int | None = None
    tasks: tuple[int, ...] = ()
    key: str | None = None
    filters: tuple[str, ...] = ()
    limit: int | None = None
    redo: bool = False
    include_annotated: bool = False
    replace: bool = False
    dry_run: bool = False

    @classmethod
    def from_json(cls, params: Mapping[str, Json]) -> Self:
        """Raises BadRequest."""
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(params) - known)
        if unknown:
            raise BadRequest(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
        filters = () if params.get("filters") is None else params["filters"]
        if isinstance(filters, str) or not isinstance(filters, Sequence):
            raise BadRequest(f"filters must be a list of conditions, {FILTER_HELP}")
        if len(filters) > MOST_FILTERS:
            raise BadRequest(f"filters has {len(filters)} conditions, more than {MOST_FILTERS}")
        for one in filters:
            read_filter(one)
        if params.get("project") is None:
            raise BadRequest("which project? give its number as 'project'")
        key = params.get("key")
        if key is not None and not isinstance(key, str):
            raise BadRequest(f"key must be a project's number and birth, got {key!r}")
        tasks = _numbers(params, "tasks")
        if tasks and params.get("view") is not None:
            raise BadRequest("give tasks or a view, not both")
        return cls(
            project=_number(params, "project") or 0,
            view=_number(params, "view"),
            tasks=tasks,
            key=key,
            filters=tuple(filters),
            limit=_number(params, "limit"),
            **{
                name: _switch(params, name)
                for name in ("redo", "include_annotated", "replace", "dry_run")
            },
        )

    def to_json(self) -> dict[str, Json]:
        return {**vars(self), "filters": list(self.filters), "tasks": list(self.tasks) or None}

    def conditions(self) -> Filters:
        """The filters as the Data Manager takes them."""
        return [read_filter(one) for one in self.filters]


def read_filter(text: object) -> Mapping[str, Json]:
    """`COLUMN SIGN VALUE`, or one of the Data Manager's own filters as JSON. Raises BadRequest.

    A value of digits is a number; in quotation marks it is text.
    """
    if not isinstance(text, str):
        raise BadRequest(f"a filter must be text, {FILTER_HELP}")
    if len(text) > LONGEST_FILTER:
        raise BadRequest(f"a filter has {len(text)} characters, more than {LONGEST_FILTER}")
    if text.lstrip().startswith("{"):
        try:
            given = bounded_json.loads(text)
        except bounded_json.Unreadable:
            given = {}
        if not set(given) >= FILTER_FIELDS:
            raise BadRequest("a filter as JSON needs filter, operator, type and value")
        return dict(given)
    found = FILTER.fullmatch(text.strip())
    column = found["column"].strip() if found else ""
    if found is None or not (column in COLUMNS or re.fullmatch(r"data\..+", column)):
        raise BadRequest(
            f"cannot read the filter {text!r}; write one {FILTER_HELP}; "
            f"columns are data.KEY, {', '.join(COLUMNS)}"
        )
    kind, value, operator = (
        COLUMNS.get(column, "String"),
        found["value"].strip(),
        SIGNS[found["sign"]],
    )
    if kind != "String" and "contains" in operator:
        raise BadRequest(f"{found['sign']} looks into text, and {column} is none; use = or !=")
    number = _as_number(value)
    if column.startswith("data.") and number is not None and "contains" not in operator:
        kind = "Number"  # of numbers and of digits alike
    elif column.startswith("data.") and operator.startswith(("greater", "less")):
        raise BadRequest(f"{found['sign']} compares numbers, and {value!r} is none")
    if kind == "Number" and number is None:
        raise BadRequest(f"{column} is a number, and {value!r} is none")
    if kind == "Datetime":
        value = _as_date(column, value)
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": number if kind == "Number" else _unquoted(value),
    }


def _as_date(column: str, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last day there is are none elsewhere
        raise BadRequest(
            f"{column} is a date such as 2026-01-31 or 2026-01-31T18:00:00, and {text!r} is none"
        ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text


def _as_number(text: str) -> float | None:
    """Digits, with a sign and a point perhaps; `1_000`, `nan` and `inf` are text."""
    if re.fullmatch(r"[+-]?[0-9]{1,15}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?[0-9]{1,15}\.[0-9]{1,15}", text) else None


def counted(value: Json) -> int | None:
    """A whole number from 1 on, also one written as 12.0, which JSON does not tell apart; None for
    anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return None
    return value


def _number(params: Mapping[str, Json], name: str) -> int | None:
    value = params.get(name)
    if value is None:
        return None
    number = counted(value)
    if number is None:
        raise BadRequest(f"{name} must be a whole number from 1 on, got {value!r}")
    return number


def _numbers(params: Mapping[str, Json], name: str) -> tuple[int, ...]:
    given = params.get(name)
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) > MOST_TASKS:
        raise BadRequest(f"{name} must be a list of at most {MOST_TASKS} task numbers")
    if not given:  # would be taken for all of them
        raise BadRequest(f"{name} must name at least one; leave it out for all")
    numbers: dict[int, None] = {}
    for one in given:
        number = counted(one)
        if number is None:
            raise BadRequest(f"{name} must hold whole numbers from 1 on, got {one!r}")
        numbers[number] = None
    return tuple(numbers)


def _switch(params: Mapping[str, Json], name: str) -> bool:
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false, got {value!r}")
    return value
