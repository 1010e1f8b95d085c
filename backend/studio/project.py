"""One project of a Label Studio: its tasks a page at a time, its predictions by version.

Pages are cut by task number, not by page number, so nothing shifts while predictions are written
and tasks come and go (protocol notes §7.2).
"""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ..errors import StudioRefused
from ..labelstudio.tasks import Task
from .client import Json, Studio

PAGE = 50  # tasks with their data: some hold whole pictures
ID_PAGE = 1000  # task numbers only
LISTED = ("id", "total_annotations", "cancelled_annotations", "total_predictions")

Filters = Sequence[Mapping[str, Json]]


@dataclass(frozen=True, kw_only=True)
class ProjectFacts:
    """What a run has to know of a project.

    key            number and birth, as Label Studio writes it in its requests: `12.1795190531`
    listing_predicts  listing tasks makes Label Studio ask its model for predictions
    annotated         tasks with a submitted annotation that is no ground truth
    """

    id: int
    key: str
    title: str
    label_config: str
    model_version: str | None
    tasks: int
    listing_predicts: bool
    annotated: int = 0


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A task of a list. `annotations` counts skipped ones too."""

    task: Task
    annotations: int
    predictions: int

    @property
    def id(self) -> int:
        return int(self.task.id or 0)


class Page(NamedTuple):
    """Tasks in the order of their numbers, and how many match in all from here on."""

    tasks: list[Listed]
    total: int


class StudioProject:
    """A project by its number. Every method raises StudioRefused, StudioAway."""

    def __init__(self, studio: Studio, project: int) -> None:
        self.studio, self.id = studio, project

    def facts(self) -> ProjectFacts:
        told = self.studio.get(f"/api/projects/{self.id}")
        born = datetime.fromisoformat(str(told["created_at"]).replace("Z", "+00:00"))
        return ProjectFacts(
            id=self.id,
            key=f"{self.id}.{int(born.timestamp())}",
            title=str(told.get("title") or ""),
            label_config=str(told.get("label_config") or ""),
            model_version=told.get("model_version") or None,
            tasks=int(told.get("task_number") or 0),
            listing_predicts=bool(told.get("evaluate_predictions_automatically")),
            annotated=int(told.get("num_tasks_with_annotations") or 0),
        )

    def connections(self) -> list[Json]:
        """Models of the project; asking makes Label Studio ask them how they are."""
        found = self.studio.get("/api/ml", params={"project": self.id})
        return sorted(found, key=lambda one: int(one["id"]))

    # -- tasks ------------------------------------------------------------------------

    def page(
        self,
        filters: Filters = (),
        *,
        after: int = 0,
        size: int = PAGE,
        with_data: bool = True,
    ) -> Page:
        """The next tasks that match all `filters`, numbers above `after`."""
        listed = ("data", *LISTED) if with_data else LISTED
        told = self._tasks([above(after), *filters], size, ",".join(listed))
        found: dict[int, Listed] = {}  # one with two matching predictions is listed twice
        for one in told["tasks"]:
            found.setdefault(int(one["id"]), _listed(one))
        return Page(list(found.values()), int(told["total"]))

    def leaf(self, number: int, *, size: int) -> Page:
        """A page by its number, from 1 on, for who leafs through by hand; empty beyond the last.

        `total` is of all pages. Tasks that come and go meanwhile shift pages: runs go by task
        numbers instead.
        """
        try:
            told = self._tasks([], size, "id,data", page=number)
        except StudioRefused as error:
            if error.status == 404 and number > 1:
                return Page([], 0)
            raise
        return Page([_listed(one) for one in told["tasks"][:size]], int(told["total"]))

    def tasks(self, numbers: Sequence[int]) -> dict[int, Listed]:
        """A few tasks by their numbers, in the order of these; those that are gone are left out."""
        found: dict[int, Listed] = {}
        last = 0
        while page := self.page([among(numbers)], after=last).tasks if numbers else []:
            found.update((one.id, one) for one in page)
            last = page[-1].id
            if len(found) >= len(set(numbers)):
                break
        return {number: found[number] for number in numbers if number in found}

    def make_tasks(self, data: Sequence[Mapping[str, Json]]) -> None:
        """New tasks with these data. Raises StudioUncertain too."""
        self.studio.post(
            f"/api/projects/{self.id}/import", json=[{"data": dict(one)} for one in data]
        )

    def count(self, filters: Filters = ()) -> int:
        return int(self._tasks(filters, 1, "id")["total"])

    def ids(self, filters: Filters = (), *, size: int = ID_PAGE) -> Iterator[int]:
        """Numbers of all tasks that match, rising, `size` of them with one request."""
        last = 0
        while True:
            told = self._tasks([above(last), *filters], size, "id")
            found = sorted({int(one["id"]) for one in told["tasks"]})
            yield from found
            # an administrator may allow smaller pages only (TASK_API_PAGE_SIZE_MAX)
            if not found or len(told["tasks"]) >= int(told["total"]):
                return
            last = found[-1]

    def drafted(self) -> set[int]:
        """Tasks that anybody has begun; the API shows nobody else's draft, but counts it."""
        return set(self.ids([has_draft()]))

    def ids_of_view(self, view: int) -> "array[int]":
        """Tasks of a tab of the Data Manager in its order, as they are now.

        Kept as numbers, eight bytes each: the tab's filters may look at what we write.
        """
        found = array("q")
        seen: set[int] = set()
        number, rows = 1, 0
        while True:
            params = {
                "view": view,
                "project": self.id,
                "page": number,
                "page_size": ID_PAGE,
                "include": "id",
                "resolve_uri": "false",
            }
            try:
                told = self.studio.get("/api/tasks", params=params)
            except StudioRefused as error:
                if error.status == 404 and number > 1:  # the last tasks went meanwhile
                    return found
                raise
            rows += len(told["tasks"])
            for one in told["tasks"]:
                if int(one["id"]) not in seen:
                    seen.add(int(one["id"]))
                    found.append(int(one["id"]))
            if not told["tasks"] or rows >= int(told["total"]):
                return found
            number += 1

    def _tasks(self, filters: Filters, size: int, include: str, *, page: int | None = None) -> Json:
        query: dict[str, Json] = {"ordering": ["tasks:id"]}
        if filters:
            query["filters"] = {"conjunction": "and", "items": list(filters)}
        params = {
            "project": self.id,
            "query": json.dumps(query),
            "page_size": size,
            "include": include,
            "resolve_uri": "false",  # s3:// stays: it is fetched when its turn comes
        }
        if page is not None:
            params["page"] = page
        return self.studio.get("/api/tasks", params=params)

    def save_tab(self, title: str, tasks: Sequence[int], *, is_ours: Callable[[str], bool]) -> int:
        """A tab of the Data Manager with these tasks, worst score first; its number.

        The first tab whose title `is_ours` is filled anew: all else that we might write into one is
        gone as soon as somebody changes anything of it in the browser. A filter per task: with one
        that lists them Label Studio's page stays empty. Raises StudioUncertain too.
        """
        data = {
            "title": title,
            "filters": {
                "conjunction": "or",
                "items": [_filter("id", "equal", "Number", task) for task in tasks],
            },
            "ordering": ["tasks:predictions_score"],
        }
        known = self.studio.get("/api/dm/views/", params={"project": self.id})
        for view in known:
            if is_ours(str((view.get("data") or {}).get("title") or "")):
                path = f"/api/dm/views/{int(view['id'])}/"
                self.studio.patch(path, json={"project": self.id, "data": data})
                return int(view["id"])
        made = self.studio.post("/api/dm/views/", json={"project": self.id, "data": data})
        return int(made["id"])

    # -- predictions ------------------------------------------------------------------

    def versions(self) -> dict[str, int]:
        """Version -> number of its predictions."""
        told = self.studio.get(f"/api/projects/{self.id}/model-versions")
        return {str(version): int(count) for version, count in dict(told or {}).items()}

    def lookalikes(self, version: str) -> list[str]:
        """Other versions in the project that the filters below take for this one.

        Label Studio looks for a part of the text, in some databases whatever its case.
        """
        part = version.casefold()
        return [one for one in self.versions() if one != version and part in one.casefold()]

    def predictions(self, task: int) -> list[Json]:
        """All predictions of a task with their regions, oldest first; none of one that is gone."""
        try:
            told = self.studio.get("/api/predictions", params={"task": task})
        except StudioRefused as error:
            if error.status in (400, 404) and self._is_gone(task):
                return []
            raise
        listed = told["results"] if isinstance(told, dict) else told
        return sorted(listed, key=lambda one: int(one["id"]))

    def annotations(self, task: int) -> list[Json]:
        """All annotations of a task, skipped ones too; none of one that is gone.

        `/api/tasks/ID/annotations/` leaves skipped ones out. Label Studio may ask its model for
        predictions of a task that has none, so ask only about tasks with predictions.
        """
        try:
            told = self.studio.get(f"/api/tasks/{task}/", params={"resolve_uri": "false"})
            return list(told["annotations"])
        except StudioRefused as error:
            if error.status == 404 and self._is_gone(task):
                return []
            raise

    def submitted(self, task: int) -> list[Json]:
        """Annotations of a task but skipped ones and drafts; none of one that is gone. Asks no
        model for anything."""
        try:
            return list(self.studio.get(f"/api/tasks/{task}/annotations/"))
        except StudioRefused as error:
            if error.status == 404 and self._is_gone(task):
                return []
            raise

    def _is_gone(self, task: int) -> bool:
        return not self.count([among([task])])

    def write(self, predictions: bytes) -> int:
        """A JSON list of predictions; returns how many were stored. Raises StudioUncertain too.

        One that does not fit the label config is refused together with all others, or left out
        without a word: that depends on how Label Studio is set up.

        Bulk writing leaves the tasks' dates alone, and asks Label Studio for about a tenth of
        the work of one request per prediction.
        """
        told = self.studio.post(
            f"/api/projects/{self.id}/import/predictions",
            data=predictions,
            headers={"Content-Type": "application/json"},
        )
        return int(told["created"])

    def delete_all_of(self, tasks: Iterable[int]) -> None:
        """Every prediction of these tasks, whatever its version; their dates stay as they are."""
        included = sorted(tasks)
        if not included:  # Label Studio would take it for all tasks of the project
            return
        self.studio.post(
            "/api/dm/actions",
            again=True,
            params={"id": "delete_tasks_predictions", "project": self.id},
            json={"selectedItems": {"all": False, "included": included}},
        )

    def delete_version(self, version: str) -> None:
        """Every prediction of a version in the project; the tasks' dates stay as they are."""
        self.studio.delete(
            f"/api/projects/{self.id}/model-versions/", json={"model_version": version}
        )

    def delete_prediction(self, prediction: int) -> None:
        """One prediction. Label Studio takes it for a change of the task, and dates it so."""
        self.studio.delete(f"/api/predictions/{prediction}/")


def _listed(one: Mapping[str, Any]) -> Listed:
    return Listed(
        task=Task(int(one["id"]), dict(one.get("data") or {})),
        annotations=int(one.get("total_annotations") or 0)
        + int(one.get("cancelled_annotations") or 0),
        predictions=int(one.get("total_predictions") or 0),
    )


# -- filters of the Data Manager ----------------------------------------------------------


def above(task: int) -> Mapping[str, Json]:
    return _filter("id", "greater", "Number", task)


def among(tasks: Iterable[int]) -> Mapping[str, Json]:
    return _filter("id", "in_list", "Number", sorted(tasks))


def has_version(version: str) -> Mapping[str, Json]:
    """Of this version, or of one that contains its name: see `lookalikes`."""
    return _filter("predictions_model_versions", "contains", "List", [version])


def lacks_version(version: str) -> Mapping[str, Json]:
    return _filter("predictions_model_versions", "not_contains", "List", [version])


def unannotated() -> Filters:
    """Nobody has submitted or skipped."""
    return [
        _filter(column, "equal", "Number", 0)
        for column in ("total_annotations", "cancelled_annotations")
    ]


def annotated() -> Filters:
    """Somebody has submitted."""
    return [_filter("total_annotations", "greater", "Number", 0)]


def has_draft() -> Mapping[str, Json]:
    return _filter("draft_exists", "equal", "Boolean", True)


def has_predictions(more_than: int) -> Mapping[str, Json]:
    return _filter("total_predictions", "greater", "Number", more_than)


def has_one_prediction() -> Mapping[str, Json]:
    return _filter("total_predictions", "equal", "Number", 1)


def _filter(column: str, operator: str, kind: str, value: Json) -> Mapping[str, Json]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }
