"""A project of Label Studio in memory that can only be read: whoever writes finds no method."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.labelstudio.tasks import Task
from backend.studio.project import PAGE, Filters, Listed, Page, ProjectFacts


@dataclass
class Kept:
    """One task. `versions` are those of its predictions."""

    id: int
    data: Mapping[str, Any]
    annotations: int = 0
    draft: bool = False
    versions: tuple[str, ...] = ()


@dataclass
class ReadOnlyProject:
    """`asked` counts requests for tasks with their data."""

    config: str
    kept: Sequence[Kept]
    title: str = "a project"
    listing_predicts: bool = False
    views: Mapping[int, Sequence[int]] = field(default_factory=dict)
    asked: int = 0
    id: int = 7

    def facts(self) -> ProjectFacts:
        return ProjectFacts(
            id=self.id,
            key=f"{self.id}.1",
            title=self.title,
            label_config=self.config,
            model_version=None,
            tasks=len(self.kept),
            listing_predicts=self.listing_predicts,
        )

    def connections(self) -> list[Any]:
        return []

    def page(
        self, filters: Filters = (), *, after: int = 0, size: int = PAGE, with_data: bool = True
    ) -> Page:
        self.asked += 1
        found = [one for one in self._matching(filters) if one.id > after]
        listed = [
            Listed(
                task=Task(one.id, dict(one.data)),
                annotations=one.annotations,
                predictions=len(one.versions),
            )
            for one in found[:size]
        ]
        return Page(listed, len(found))

    def tasks(self, numbers: Sequence[int]) -> dict[int, Listed]:
        listed = {one.id: one for one in self.page(size=len(self.kept)).tasks}
        return {number: listed[number] for number in numbers if number in listed}

    def ids(self, filters: Filters = ()) -> Iterator[int]:
        return (one.id for one in self._matching(filters))

    def ids_of_view(self, view: int) -> "array[int]":
        return array("q", self.views[view])

    def _matching(self, filters: Filters) -> list[Kept]:
        return [one for one in self.kept if all(holds(each, one) for each in filters)]


def holds(condition: Mapping[str, Any], task: Kept) -> bool:
    """Conditions of the Data Manager, as far as runs use them."""
    column = str(condition["filter"]).removeprefix("filter:tasks:")
    value, operator = condition["value"], condition["operator"]
    if column == "predictions_model_versions":
        there = any(one in task.versions for one in value)
        return there == (operator == "contains")
    if column == "draft_exists":
        return task.draft == value
    number = {
        "id": task.id,
        "total_annotations": task.annotations,
        "cancelled_annotations": 0,
    }[column]
    return {
        "greater": lambda: number > value,
        "greater_or_equal": lambda: number >= value,
        "equal": lambda: number == value,
        "in_list": lambda: number in value,
    }[operator]()
