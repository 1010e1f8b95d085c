"""One project of a Label Studio: its tasks a page at a time, its predictions by version.

Pages are cut by task number, not by page number, so nothing shifts while predictions are written
and tasks come and go (protocol notes §7.2).
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

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
    """

    id: int
    key: str
    title: str
    label_config: str
    model_version: str | None
    tasks: int
    listing_predicts: bool


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

    def count(self, filters: Filters = ()) -> int:
        return int(self._tasks(filters, 1, "id")["total"])

    def ids(self, filters: Filters = ()) -> Iterator[int]:
        """Numbers of all tasks that match, rising."""
        last = 0
        while True:
            told = self._tasks([above(last), *filters], ID_PAGE, "id")["tasks"]
            found = sorted({int(one["id"]) for one in told})
            yield from found
            if len(told) < ID_PAGE:
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
        number = 1
        while True:
            params = {
                "view": view,
                "project": self.id,
                "page": number,
                "page_size": ID_PAGE,
                "include": "id",
                "resolve_uri": "false",
            }
            told = self.studio.get("/api/tasks", params=params)
            for one in told["tasks"]:
                if int(one["id"]) not in seen:
                    seen.add(int(one["id"]))
                    found.append(int(one["id"]))
            if number * ID_PAGE >= int(told["total"]):
                return found
            number += 1

    def _tasks(self, filters: Filters, size: int, include: str) -> Json:
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
        return self.studio.get("/api/tasks", params=params)

    # -- predictions ------------------------------------------------------------------

    def versions(self) -> dict[str, int]:
        """Version -> number of its predictions."""
        told = self.studio.get(f"/api/projects/{self.id}/model-versions")
        return {str(version): int(count) for version, count in dict(told or {}).items()}

    def predictions(self, task: int) -> list[Json]:
        """All predictions of a task with their regions, oldest first."""
        told = self.studio.get("/api/predictions", params={"task": task})
        listed = told["results"] if isinstance(told, dict) else told
        return sorted(listed, key=lambda one: int(one["id"]))

    def annotations(self, task: int) -> list[Json]:
        """All annotations of a task, skipped ones too."""
        return list(self.studio.get(f"/api/tasks/{task}/annotations/") or ())

    def write(self, predictions: bytes) -> None:
        """A JSON list of predictions, all or none. Raises StudioUncertain too.

        Bulk writing leaves the tasks' dates alone, and asks Label Studio for about a tenth of
        the work of one request per prediction.
        """
        self.studio.post(
            f"/api/projects/{self.id}/import/predictions",
            data=predictions,
            headers={"Content-Type": "application/json"},
        )

    def delete_all_of(self, tasks: Iterable[int]) -> None:
        """Every prediction of these tasks, whatever its version; their dates stay as they are."""
        self.studio.post(
            "/api/dm/actions",
            again=True,
            params={"id": "delete_tasks_predictions", "project": self.id},
            json={"selectedItems": {"all": False, "included": sorted(tasks)}},
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
    return _filter("predictions_model_versions", "contains", "List", [version])


def lacks_version(version: str) -> Mapping[str, Json]:
    return _filter("predictions_model_versions", "not_contains", "List", [version])


def unannotated() -> Filters:
    """Nobody has submitted or skipped."""
    return [
        _filter(column, "equal", "Number", 0)
        for column in ("total_annotations", "cancelled_annotations")
    ]


def has_draft() -> Mapping[str, Json]:
    return _filter("draft_exists", "equal", "Boolean", True)


def has_predictions(more_than: int) -> Mapping[str, Json]:
    return _filter("total_predictions", "greater", "Number", more_than)


def _filter(column: str, operator: str, kind: str, value: Json) -> Mapping[str, Json]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }
