"""Label Studio's API in memory, as far as long runs use it, with faults to order.

What it answers is what Label Studio 1.23.2 answers: `tests/e2e/test_studio_contract.py` tells both
the same story. Times are counted, not measured, so that a change of a task's date shows.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .label_studio import LEGACY_TOKEN, PERSONAL_TOKEN

Json = Any
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="seg" toName="image">'
    '<Label value="red"/><Label value="green"/></BrushLabels></View>'
)
LARGEST_PAGE = 100  # where nothing else is asked for


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Json
    authorization: str | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that `only` is found in.

    status   answered instead of doing it; with `done` after doing it
    drop     the connection breaks without an answer; with `done` after doing it
    half     the answer ends in the middle
    gate     waits for this before anything else
    """

    times: int = 1
    only: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"<html><body>Bad Gateway</body></html>"
    drop: bool = False
    half: bool = False
    done: bool = False
    gate: threading.Event | None = None

    def fits(self, call: Call) -> bool:
        return self.times > 0 and re.search(self.only, str(call)) is not None


class Trouble(Exception):
    """An answer of Label Studio's that is an error."""

    def __init__(self, status: int, detail: str, errors: Json = None) -> None:
        super().__init__(detail)
        self.body = {
            "id": "7f1a…",
            "status_code": status,
            "version": "1.23.2",
            "detail": detail,
            "exc_info": None,
            **({} if errors is None else {"validation_errors": errors}),
        }
        self.status = status


@dataclass
class Project:
    id: int
    label_config: str
    created_at: str = "2026-01-31T10:30:31.179519Z"
    model_version: str = ""
    connections: list[Json] = field(default_factory=list)
    evaluates: bool = False
    title: str | None = None  # a plain one


@dataclass
class StudioServer:
    """The state may be read and changed at any time under `lock`.

    strict        a prediction that does not fit the label config fails its whole request
    largest_page  of tasks, where an administrator set TASK_API_PAGE_SIZE_MAX
    before        called with every request; what it returns or raises is the fault, if any
    files         uploaded ones, by path: "/data/upload/1/a.png"
    """

    strict: bool = True
    largest_page: int | None = None
    url: str = ""
    before: Callable[[Call], Fault | None] = lambda call: None
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    projects: dict[int, Project] = field(default_factory=dict)
    tasks: dict[int, Json] = field(default_factory=dict)
    predictions: dict[int, Json] = field(default_factory=dict)
    annotations: dict[int, Json] = field(default_factory=dict)
    drafts: dict[int, Json] = field(default_factory=dict)
    views: dict[int, Json] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exchanges: int = 0
    legacy_token: str = LEGACY_TOKEN
    personal_token: str = PERSONAL_TOKEN
    _last: int = 0
    _restart: Callable[[bool], None] = lambda up: None

    # -- for tests ----------------------------------------------------------------------

    def fail(self, times: int = 1, only: str = "", **what: Any) -> Fault:
        """Order a fault; `only` is a pattern for `METHOD /path`."""
        fault = Fault(times=times, only=only, **what)
        with self.lock:
            self.faults.append(fault)
        return fault

    def down(self) -> None:
        """Connections are refused from now on."""
        self._restart(False)

    def up(self) -> None:
        """Listens again, at the same address."""
        self._restart(True)

    def forget(self) -> None:
        """Empty, as at the start."""
        with self.lock:
            self.projects.clear()
            for table in (self.tasks, self.predictions, self.annotations, self.drafts, self.views):
                table.clear()
            self.files.clear()
            self.calls.clear()
            self.faults.clear()
            self.before = lambda call: None

    def asked(self, pattern: str) -> list[Call]:
        """Requests so far whose `METHOD /path` holds the pattern."""
        with self.lock:
            return [one for one in self.calls if re.search(pattern, str(one))]

    def project(self, tasks: int = 0, label_config: str = CONFIG, **options: Any) -> int:
        """A new project; its tasks have `{"image": "N", "n": N}` for data, N from 0 on."""
        with self.lock:
            number = self.next()
            self.projects[number] = Project(number, label_config, **options)
        self.add(number, *({"image": str(n), "n": n} for n in range(tasks)))
        return number

    def add(self, project: int, *data: Json) -> list[int]:
        with self.lock:
            inner = max((one["inner_id"] for one in self._of(project)), default=0)
            found = []
            for extra, one in enumerate(data, start=1):
                number = self.next()
                self.tasks[number] = {
                    "id": number,
                    "data": one,
                    "project": project,
                    "inner_id": inner + extra,
                    "created_at": self.now(),
                    "updated_at": self.now(),
                    "updated_by": None,
                    "file_upload": None,
                }
                found.append(number)
            return found

    def ids(self, project: int) -> list[int]:
        with self.lock:
            return [one["id"] for one in self._of(project)]

    def predict(self, task: int, version: str, **fields: Any) -> int:
        """A prediction that is there already."""
        with self.lock:
            number = self.next()
            self.predictions[number] = {
                "id": number,
                "task": task,
                "project": self.tasks[task]["project"],
                "result": [],
                "score": 0.5,
                "model_version": version,
                **fields,
            }
            return number

    def annotate(self, task: int, parent: int | None = None, *, skip: bool = False) -> int:
        with self.lock:
            number = self.next()
            self.annotations[number] = {
                "id": number,
                "task": task,
                "result": [],
                "was_cancelled": skip,
                "parent_prediction": parent,
            }
            self._touch(task)
            return number

    def draft(self, task: int) -> int:
        """Begun by somebody else: only filters see it."""
        with self.lock:
            number = self.next()
            self.drafts[number] = {"id": number, "task": task}
            return number

    def remove(self, task: int) -> None:
        """Delete a task with all it has."""
        with self.lock:
            self.tasks.pop(task, None)
            for table in (self.predictions, self.annotations, self.drafts):
                for number in [n for n, one in table.items() if one["task"] == task]:
                    del table[number]

    def versions(self, task: int) -> list[str]:
        """Model versions of a task's predictions, the oldest first."""
        with self.lock:
            found = [one for one in self.predictions.values() if one["task"] == task]
            return [one["model_version"] for one in sorted(found, key=lambda one: one["id"])]

    def export(self, project: int) -> bytes:
        """As the JSON export: predictions by number, dates of the tasks."""
        with self.lock:
            told = [
                {
                    **task,
                    "predictions": [n for n, p in self.predictions.items() if p["task"] == number],
                    "annotations": [a for a in self.annotations.values() if a["task"] == number],
                }
                for number, task in self.tasks.items()
                if task["project"] == project
            ]
            return json.dumps(told).encode()

    # -- state --------------------------------------------------------------------------

    def next(self) -> int:
        self._last += 1
        return self._last

    def now(self) -> str:
        return f"2026-02-01T00:00:00.{self.next():06d}Z"

    def _of(self, project: int) -> list[Json]:
        return [one for one in self.tasks.values() if one["project"] == project]

    def _mean_score(self, task: int, project: int) -> float | None:
        """Of the task's predictions of the project's model version."""
        version = self.projects[project].model_version
        scores = [
            one["score"]
            for one in self.predictions.values()
            if one["task"] == task and one["model_version"] == version
        ]
        return sum(scores) / len(scores) if scores else None

    def _touch(self, task: int) -> None:
        self.tasks[task].update(updated_at=self.now(), updated_by=1)

    def _listed(self, project: int) -> list[Json]:
        """All tasks of a project with what the Data Manager adds to them."""
        listed = {
            one["id"]: {
                **one,
                "total_annotations": 0,
                "cancelled_annotations": 0,
                "total_predictions": 0,
                "predictions_model_versions": [],
                "predictions_score": self._mean_score(one["id"], project),
                "draft_exists": False,
            }
            for one in self._of(project)
        }
        for one in self.annotations.values():
            if (task := listed.get(one["task"])) is not None:
                task["cancelled_annotations" if one["was_cancelled"] else "total_annotations"] += 1
        for one in self.predictions.values():
            if (task := listed.get(one["task"])) is not None:
                task["total_predictions"] += 1
                task["predictions_model_versions"].append(one["model_version"])
        for one in self.drafts.values():
            if (task := listed.get(one["task"])) is not None:
                task["draft_exists"] = True
        return list(listed.values())

    # -- answers ------------------------------------------------------------------------

    def answer(self, call: Call) -> tuple[int, Json]:
        if str(call) == "POST /api/token/refresh":
            return self._refresh(call)
        with self.lock:
            accepted = {f"Token {self.legacy_token}"}
            if self.exchanges:
                accepted.add(f"Bearer access-{self.exchanges}")
        if call.authorization not in accepted:
            return 401, {"detail": "Invalid token.", "status_code": 401}
        for pattern, route in ROUTES:
            found = re.fullmatch(pattern, str(call))
            if found is not None:
                with self.lock:
                    try:
                        return route(self, call, *map(int, found.groups()))
                    except Trouble as error:
                        return error.status, error.body
        return 404, {"detail": "Not found.", "status_code": 404}

    def _refresh(self, call: Call) -> tuple[int, Json]:
        with self.lock:
            if call.body.get("refresh") != self.personal_token:
                return 401, {"detail": "Token is invalid", "code": "token_not_valid"}
            self.exchanges += 1
            return 200, {"access": f"access-{self.exchanges}"}

    def _known(self, project: int) -> Project:
        if project not in self.projects:
            raise Trouble(404, "No Project matches the given query.")
        return self.projects[project]

    def _project(self, call: Call, number: int) -> tuple[int, Json]:
        one = self._known(number)
        return 200, {
            "id": one.id,
            "title": f"project {one.id}" if one.title is None else one.title,
            "label_config": one.label_config,
            "created_at": one.created_at,
            "model_version": one.model_version,
            "task_number": len(self._of(number)),
            "num_tasks_with_annotations": len(self._annotated(number)),
            "evaluate_predictions_automatically": one.evaluates,
        }

    def _annotated(self, project: int) -> set[int]:
        found = {a["task"] for a in self.annotations.values() if not a["was_cancelled"]}
        return {one["id"] for one in self._of(project) if one["id"] in found}

    def _project_list(self, call: Call) -> tuple[int, Json]:
        page, size = int(call.query.get("page", 1)), int(call.query.get("page_size", 30))
        newest_first = sorted(self.projects, reverse=True)
        shown = newest_first[(page - 1) * size : page * size]
        if page > 1 and not shown:
            raise Trouble(404, "Invalid page.")
        told = [self._project(call, number)[1] for number in shown]
        kept = call.query.get("include")
        fields = kept.split(",") if kept else list(told[0]) if told else []
        return 200, {
            "count": len(newest_first),
            "results": [{name: one[name] for name in fields} for one in told],
        }

    def _version(self, call: Call) -> tuple[int, Json]:
        return 200, {"release": "1.23.2", "label-studio-os-package": {}}

    def _whoami(self, call: Call) -> tuple[int, Json]:
        return 200, {"id": 1, "email": "admin@example.com"}

    def _new_project(self, call: Call) -> tuple[int, Json]:
        told = call.body
        number = self.project(label_config=told["label_config"], title=told.get("title"))
        return 201, self._project(call, number)[1]

    def _change_project(self, call: Call, number: int) -> tuple[int, Json]:
        one = self._known(number)
        one.label_config = call.body.get("label_config", one.label_config)
        one.model_version = call.body.get("model_version", one.model_version)
        return self._project(call, number)

    def _import(self, call: Call, project: int) -> tuple[int, Json]:
        self._known(project)
        self.add(project, *(one.get("data", one) for one in call.body))
        return 201, {"task_count": len(call.body)}

    def _connections(self, call: Call) -> tuple[int, Json]:
        return 200, self._known(int(call.query["project"])).connections

    def _tasks(self, call: Call) -> tuple[int, Json]:
        project = int(call.query["project"])
        self._known(project)
        if "view" in call.query:
            view = self.views.get(int(call.query["view"]))
            if view is None:
                raise Trouble(404, "No View matches the given query.")
            if view["project"] != project:
                raise Trouble(500, "Project and View mismatch")
            query = view["data"]
        else:
            query = json.loads(call.query.get("query", "{}"))
        found = self._listed(project)
        filters = query.get("filters") or {}
        rules, join = filters.get("items", []), any if filters.get("conjunction") == "or" else all
        if rules:
            found = [one for one in found if join([_holds(rule, one) for rule in rules])]
        order = (query.get("ordering") or ["tasks:id"])[0]  # others do not count
        column = order.removeprefix("-").removeprefix("tasks:")
        known = [one for one in found if _value(column, one) is not None]
        known.sort(key=lambda one: _value(column, one), reverse=order.startswith("-"))
        found = known + [one for one in found if _value(column, one) is None]
        number = int(call.query.get("page", 1))
        size = int(call.query.get("page_size", LARGEST_PAGE)) or LARGEST_PAGE
        if self.largest_page is not None:
            size = min(size, self.largest_page)
        page = found[(number - 1) * size : number * size]
        if number > 1 and not page:
            raise Trouble(404, "Invalid page.")
        kept = call.query.get("include")
        fields = kept.split(",") if kept else None
        return 200, {
            "total": len(found),
            "total_annotations": sum(one["total_annotations"] for one in found),
            "total_predictions": sum(one["total_predictions"] for one in found),
            "tasks": [
                {name: one[name] for name in fields if name in one} if fields else one
                for one in page
            ],
        }

    def _delete_task(self, call: Call, task: int) -> tuple[int, Json]:
        self.remove(task)
        return 204, None

    def _predictions(self, call: Call) -> tuple[int, Json]:
        task = int(call.query["task"])
        if task not in self.tasks:
            words = "Select a valid choice. That choice is not one of the available choices."
            raise Trouble(400, "Validation error", {"task": [words]})
        return 200, [one for one in self.predictions.values() if one["task"] == task]

    def _delete_prediction(self, call: Call, number: int) -> tuple[int, Json]:
        if number not in self.predictions:
            raise Trouble(404, "No Prediction matches the given query.")
        self._touch(self.predictions.pop(number)["task"])
        return 204, None

    def _annotations(self, call: Call, task: int) -> tuple[int, Json]:
        if task not in self.tasks:
            raise Trouble(404, "No Task matches the given query.")
        mine = [one for one in self.annotations.values() if one["task"] == task]
        return 200, [one for one in mine if not one["was_cancelled"]]

    def _task(self, call: Call, task: int) -> tuple[int, Json]:
        if task not in self.tasks:
            raise Trouble(404, "No Task matches the given query.")
        annotations = [one for one in self.annotations.values() if one["task"] == task]
        return 200, {**self.tasks[task], "annotations": annotations}

    def _annotate(self, call: Call, task: int) -> tuple[int, Json]:
        parent = call.body.get("parent_prediction")
        if parent is not None and parent not in self.predictions:
            words = f'Invalid pk "{parent}" - object does not exist.'
            raise Trouble(400, "Validation error", {"parent_prediction": [words]})
        number = self.annotate(task, parent, skip=bool(call.body.get("was_cancelled")))
        return 201, self.annotations[number]

    def _draft(self, call: Call, task: int) -> tuple[int, Json]:
        return 201, self.drafts[self.draft(task)]

    def _write(self, call: Call, project: int) -> tuple[int, Json]:
        config = self._known(project).label_config
        problems, good = [], []
        for number, item in enumerate(call.body):
            task = self.tasks.get(item.get("task"))
            if task is None or task["project"] != project:
                words = f"Invalid task ID {item.get('task')} - task not found in project"
                if not self.strict:
                    words = f'{item} contains invalid "task" field'
                    raise Trouble(400, "Validation error", {"non_field_errors": [words]})
                problems.append(f"Prediction {number}: {words}")
            elif (wrong := _wrong(item, config)) is not None:
                problems.append(f"Prediction {number}: {wrong}")
            else:
                good.append(item)
        if problems and self.strict:
            raise Trouble(400, "Validation error", {"non_field_errors": problems})
        for item in good:
            self.predict(**_renamed(item))
        return 201, {"created": len(good)}

    def _action(self, call: Call) -> tuple[int, Json]:
        assert call.query["id"] == "delete_tasks_predictions"
        project, chosen = int(call.query["project"]), call.body["selectedItems"]
        included = set(chosen["included"]) if chosen["included"] else set(self.ids(project))
        gone = [
            number
            for number, one in self.predictions.items()
            if one["task"] in included and one["project"] == project
        ]
        for number in gone:
            del self.predictions[number]
        count = len(gone)
        return 200, {"processed_items": count, "detail": f"Deleted {count} predictions"}

    def _versions(self, call: Call, project: int) -> tuple[int, Json]:
        self._known(project)
        counts: dict[str, int] = {}
        for one in self.predictions.values():
            if one["project"] == project:
                counts[one["model_version"]] = counts.get(one["model_version"], 0) + 1
        return 200, counts

    def _delete_version(self, call: Call, project: int) -> tuple[int, Json]:
        self._known(project)
        version = call.body["model_version"]
        gone = [
            number
            for number, one in self.predictions.items()
            if one["project"] == project and one["model_version"] == version
        ]
        for number in gone:
            del self.predictions[number]
        return 200, {"deleted_predictions": len(gone)}

    def _views(self, call: Call) -> tuple[int, Json]:
        project = int(call.query["project"])
        return 200, [one for one in self.views.values() if one["project"] == project]

    def _new_view(self, call: Call) -> tuple[int, Json]:
        number = self.next()
        self.views[number] = {"id": number, **call.body}
        return 201, self.views[number]

    def _change_view(self, call: Call, number: int) -> tuple[int, Json]:
        if number not in self.views:
            raise Trouble(404, "No View matches the given query.")
        before = self.views[number]["data"]
        kept = {name: before[name] for name in ("filters", "ordering") if before.get(name)}
        given = {name: value for name, value in call.body["data"].items() if value}
        self.views[number]["data"] = {**kept, **given}
        return 200, self.views[number]

    def _delete_view(self, call: Call, number: int) -> tuple[int, Json]:
        if self.views.pop(number, None) is None:
            raise Trouble(404, "No View matches the given query.")
        return 204, None

    def _export(self, call: Call, project: int) -> tuple[int, Json]:
        return 200, json.loads(self.export(project))

    def _file(self, call: Call) -> tuple[int, Json]:
        if call.path not in self.files:
            raise Trouble(404, "Not found.")
        return 200, self.files[call.path]


Route = Callable[..., tuple[int, Json]]
ROUTES: tuple[tuple[str, Route], ...] = (
    (r"GET /api/version", StudioServer._version),
    (r"GET /api/current-user/whoami", StudioServer._whoami),
    (r"GET /api/projects/?", StudioServer._project_list),
    (r"GET /api/projects/(\d+)/?", StudioServer._project),
    (r"POST /api/projects/?", StudioServer._new_project),
    (r"PATCH /api/projects/(\d+)/?", StudioServer._change_project),
    (r"POST /api/projects/(\d+)/import", StudioServer._import),
    (r"POST /api/projects/(\d+)/import/predictions", StudioServer._write),
    (r"GET /api/projects/(\d+)/model-versions/?", StudioServer._versions),
    (r"DELETE /api/projects/(\d+)/model-versions/", StudioServer._delete_version),
    (r"GET /api/projects/(\d+)/export", StudioServer._export),
    (r"GET /api/ml/?", StudioServer._connections),
    (r"GET /api/tasks/?", StudioServer._tasks),
    (r"GET /api/tasks/(\d+)/", StudioServer._task),
    (r"DELETE /api/tasks/(\d+)/", StudioServer._delete_task),
    (r"GET /api/tasks/(\d+)/annotations/", StudioServer._annotations),
    (r"POST /api/tasks/(\d+)/annotations/", StudioServer._annotate),
    (r"POST /api/tasks/(\d+)/drafts", StudioServer._draft),
    (r"GET /api/predictions/?", StudioServer._predictions),
    (r"DELETE /api/predictions/(\d+)/", StudioServer._delete_prediction),
    (r"POST /api/dm/actions/?", StudioServer._action),
    (r"GET /api/dm/views/?", StudioServer._views),
    (r"POST /api/dm/views/?", StudioServer._new_view),
    (r"PATCH /api/dm/views/(\d+)/", StudioServer._change_view),
    (r"DELETE /api/dm/views/(\d+)/", StudioServer._delete_view),
    (r"GET /data/upload/.+", StudioServer._file),
)


def _renamed(item: Json) -> Json:
    fields = {name: value for name, value in item.items() if name != "model_version"}
    return {**fields, "version": item.get("model_version", "undefined")}


def _wrong(item: Json, config: str) -> str | None:
    """What is wrong with a prediction, as far as a control's name goes."""
    regions = item.get("result")
    if not isinstance(regions, list):
        return "Missing required field in prediction: 'result'"
    for place, region in enumerate(regions):
        name = region.get("from_name")
        if f'name="{name}"' not in config:
            return f"Region {place}: Control tag {name!r} not found in config"
    return None


def _value(column: str, task: Json) -> Any:
    return task["data"].get(column[5:]) if column.startswith("data.") else task.get(column)


def _holds(rule: Json, task: Json) -> bool:
    column = rule["filter"].removeprefix("filter:tasks:")
    operator, wanted, kind = rule["operator"], rule["value"], rule["type"]
    found = _value(column, task)
    if column == "predictions_model_versions":  # a part of the name will do
        has = any(part in name for part in wanted for name in found)
        return has == (operator == "contains")
    if not column.startswith("data.") and column not in task:
        raise Trouble(500, f"Cannot resolve keyword {column!r} into field. Choices are: id")
    if found is None:
        return False
    if operator == "in_list":
        return found in wanted
    if kind == "Number":
        try:
            wanted = float(wanted)
        except ValueError:
            raise Trouble(500, f"could not convert string to float: {wanted!r}") from None
        found = _as_float(found)
    elif kind == "String":
        found = str(found)
    return COMPARE[operator](found, wanted)


def _as_float(found: Any) -> float:
    """As SQLite casts: what is no number is 0."""
    try:
        return float(found)
    except ValueError:
        return 0.0


COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "equal": lambda found, wanted: found == wanted,
    "not_equal": lambda found, wanted: found != wanted,
    "less": lambda found, wanted: found < wanted,
    "greater": lambda found, wanted: found > wanted,
    "less_or_equal": lambda found, wanted: found <= wanted,
    "greater_or_equal": lambda found, wanted: found >= wanted,
    "contains": lambda found, wanted: str(wanted).casefold() in str(found).casefold(),
    "not_contains": lambda found, wanted: str(wanted).casefold() not in str(found).casefold(),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 50

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # who asked may have gone


@contextmanager
def studio_server(**options: Any) -> Iterator[StudioServer]:
    """A running StudioServer on a free port of this machine."""
    state = StudioServer(**options)

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = Call(
                method=self.command,
                path=parts.path,
                query=dict(parse_qsl(parts.query)),
                body=json.loads(content) if content else None,
                authorization=self.headers.get("Authorization"),
            )
            with state.lock:
                state.calls.append(call)
                fault = state.before(call)
                if fault is None:
                    fault = next((one for one in state.faults if one.fits(call)), None)
                if fault is not None:
                    fault.times -= 1
            if fault is None:
                self._send(*state.answer(call))
                return
            if fault.gate is not None:
                assert fault.gate.wait(60), "the test never opened the gate"
            instead = fault.status is not None or fault.drop
            answer = state.answer(call) if fault.done or not instead else None
            if fault.drop:
                return
            if fault.status is not None:
                self.send_response(fault.status)
                for name, value in fault.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(fault.body)))
                self.end_headers()
                self.wfile.write(fault.body)
            elif answer is not None:
                self._send(*answer, half=fault.half)

        do_GET = do_POST = do_PATCH = do_DELETE = _handle

        def _send(self, status: int, body: Json, *, half: bool = False) -> None:
            is_file = isinstance(body, bytes)
            sent = b"" if body is None else body if is_file else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "image/png" if is_file else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent[: len(sent) // 2] if half else sent)

        def log_message(self, format: str, *args: object) -> None:
            return

    running: list[tuple[_Server, threading.Thread]] = []

    def restart(up: bool, port: int = 0) -> None:
        if not up:
            server, thread = running.pop()
            server.shutdown()
            server.server_close()
            thread.join()
            return
        server = _Server(("127.0.0.1", port or int(state.url.rsplit(":", 1)[1])), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
        thread.start()
        running.append((server, thread))
        state.url = f"http://127.0.0.1:{server.server_address[1]}"

    state.url = "http://127.0.0.1:0"
    restart(True)
    state._restart = restart
    try:
        yield state
    finally:
        for server, thread in running:
            server.shutdown()
            server.server_close()
            thread.join()


def soon(holds: Callable[[], bool]) -> None:
    """Wait until something another thread does has happened."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)
