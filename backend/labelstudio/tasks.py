"""Requests and tasks as Label Studio spells them (protocol notes §1.2, §1.3)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..errors import BadRequest, LabelsMissing, TaskDataMissing

Region = dict[str, Any]

LONGEST_PROJECT = 100  # characters of a project's number and birth, which have some twenty
LONGEST_HOSTNAME = 2_000  # characters of an address
MOST_TASKS = 100_000  # of one request: each gets an entry in the answer, which has 20 MB then
LONGEST_ID = 100  # characters of a task's; Label Studio's are numbers
UNNAMED_KEY = "$undefined$"  # data key of files uploaded before the project had a config


@dataclass(frozen=True)
class Task:
    """One thing to label: its number and its data (`{"image": "/data/upload/..."}`)."""

    id: int | str | None
    data: Mapping[str, Any] = field(default_factory=dict)

    def image_address(self, key: str) -> str:
        """The picture's address under the config's data key. Raises TaskDataMissing."""
        for name in (key, UNNAMED_KEY):
            address = self.data.get(name)
            if isinstance(address, str) and address.strip():
                return address.strip()
        raise TaskDataMissing(key, tuple(self.data))

    def image_addresses(self, key: str, *, listed: bool) -> tuple[str, ...]:
        """One address, or all of a list of them (valueList). Raises TaskDataMissing."""
        if not listed:
            return (self.image_address(key),)
        given = self.data.get(key)
        if not isinstance(given, list) or not given:
            raise TaskDataMissing(key, tuple(self.data))
        addresses = tuple(one.strip() for one in given if isinstance(one, str) and one.strip())
        if len(addresses) != len(given):
            raise TaskDataMissing(key, tuple(self.data))
        return addresses

    def page(self, key: str | None) -> int:
        """The page, counted from 1, of a file with several; 1 where the data names none.

        Raises LabelsMissing for what is no page: masks of another page would be worse than none.
        """
        given = self.data.get(key) if key is not None else None
        if given is None or given == "":
            return 1
        try:
            number = float(str(given))
        except ValueError:
            number = 0.0
        if not (math.isfinite(number) and number >= 1 and number == int(number)):
            raise LabelsMissing(
                f"{given!r} under {key!r} is no page; give a whole number from 1 on"
            )
        return int(number)


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Tasks to pre-label under one config; `context` holds an annotator's prompt, if any.

    `project` is the number and birth of the project, as Label Studio writes it.
    """

    tasks: tuple[Task, ...]
    label_config: str
    context: Mapping[str, Any] | None = None
    project: str | None = None

    @classmethod
    def from_json(cls, body: object) -> Self:
        """Read the body of `POST /predict`. Raises BadRequest."""
        fields = _fields(body)
        tasks = fields.get("tasks")
        if not isinstance(tasks, list):
            raise BadRequest("the request has no list of tasks")
        if len(tasks) > MOST_TASKS:
            raise BadRequest(
                f"the request has {len(tasks)} tasks, more than {MOST_TASKS}; send fewer at a time"
            )
        params = fields.get("params")
        context = params.get("context") if isinstance(params, dict) else None
        if context is not None and not isinstance(context, dict):
            raise BadRequest("params.context is neither null nor an object")
        return cls(
            tasks=tuple(_task(item) for item in tasks),
            label_config=_text(fields, "label_config"),
            context=context,
            project=_project(fields),
        )


@dataclass(frozen=True, kw_only=True)
class SetupRequest:
    """A project's config, and what the admin stored on the connection (`extra_params`).

    `hostname` is what Label Studio takes for its own address.
    """

    label_config: str
    project: str | None = None
    extra_params: object = None
    hostname: str | None = None

    @classmethod
    def from_json(cls, body: object) -> Self:
        """Read the body of `POST /setup`. Raises BadRequest."""
        fields = _fields(body)
        return cls(
            label_config=_text(fields, "schema"),
            project=_project(fields),
            extra_params=fields.get("extra_params"),
            hostname=_hostname(fields.get("hostname")),
        )


def _project(fields: Mapping[str, Any]) -> str | None:
    """Stores keep things under it, so it must be one that they can write. Raises BadRequest."""
    given = fields.get("project")
    if isinstance(given, bool) or not isinstance(given, str | int):
        return None
    project = str(given)
    if len(project) > LONGEST_PROJECT or not _is_writable(project):
        raise BadRequest("the request's project is not the number and birth of one")
    return project


def _hostname(given: object) -> str | None:
    fits = isinstance(given, str) and 0 < len(given) <= LONGEST_HOSTNAME and _is_writable(given)
    return str(given) if fits else None


def _is_writable(text: str) -> bool:
    """JSON may hold halves of characters, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fields(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadRequest("the request body is not a JSON object")
    return body


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"the request has no label config under {name!r}")
    return value


def _task(item: object) -> Task:
    data = item.get("data") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(data, dict):
        raise BadRequest("a task in the request is not an object with data")
    number = item.get("id")
    if isinstance(number, bool) or not isinstance(number, int | str):
        number = None
    return Task(number[:LONGEST_ID] if isinstance(number, str) else number, data)
