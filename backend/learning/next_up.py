"""The tasks of a project that people should correct next, found by a glance at each.

A glance is the cheap part of a look: no refinement, no masks. What it said is kept in the store
under the version in force, where it may be forgotten, so that asking again is quick.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from ..desks import Desk
from ..errors import BadRequest, CouldNotPredict
from ..labelstudio.tasks import Task
from ..prelabel.run import sit_down
from ..storage.base import Key, Scope, Storage
from ..studio.project import PAGE, StudioProject, annotated, has_draft, unannotated
from .choosing import choose

TITLE: Final = re.compile(r"Next [0-9]+ to correct \(CLIPer\)")  # of the tab we fill
MOST: Final = 500  # tasks of a tab: it has a filter for each
MOST_LOOKED_AT: Final = 2000  # tasks, unless people want more
MOST_SEEN: Final = 500  # corrected tasks whose doubt counts as seen, the newest

Doubts = Mapping[tuple[str, str], float]


class Glances(Protocol):
    """What is asked of the predictor."""

    def desk(
        self, config: str, extra_params: object = None, *, project: str | None = None
    ) -> Desk: ...
    def stream(self, *args: Any, **options: Any) -> Any: ...
    def doubts(self, task: Task, desk: Desk) -> dict[tuple[str, str], float]: ...


@dataclass(frozen=True, kw_only=True)
class NextUp:
    """What was found.

    tasks    numbers, the most useful first
    reasons  of each, the labels it says most about
    free     tasks of the project nobody has worked on
    looked   of these, looked at now or before
    failed   task -> why its picture could not be had
    version  of the predictions in force
    """

    tasks: tuple[int, ...]
    reasons: tuple[tuple[str, ...], ...]
    free: int
    looked: int
    failed: Mapping[int, str]
    version: str

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "tasks": [
                {"task": task, "labels": list(labels)}
                for task, labels in zip(self.tasks, self.reasons, strict=True)
            ],
            "free": self.free,
            "looked_at": self.looked,
            "failed": {str(task): reason for task, reason in self.failed.items()},
        }


def next_up(
    project: StudioProject,
    predictor: Glances,
    storage: Storage,
    scope: Scope,
    *,
    count: int,
    among: int = MOST_LOOKED_AT,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> NextUp:
    """The `count` tasks to correct next, of at most `among` that are free, evenly chosen.

    `told` hears how many are done, of how many. Raises BadRequest for a method that cannot learn,
    and as `sit_down`.
    """
    seat = sit_down(project, predictor)
    drafts = set(project.ids([has_draft()]))
    free = [task for task in project.ids([*unannotated()]) if task not in drafts]
    corrected = list(project.ids([*annotated()]))[-MOST_SEEN:]
    step = max(1, -(-len(free) // among))
    wanted = free[::step]
    glance = _Glance(predictor, seat.desk, storage, scope)
    taught = set(corrected)
    failed: dict[int, str] = {}
    table: dict[int, Doubts] = {}
    seen: list[Doubts] = []
    of = len(wanted) + len(corrected)
    for done, (number, task) in enumerate(_tasks(project, [*wanted, *corrected]), 1):
        try:
            found = glance.at(task)
        except CouldNotPredict as error:
            failed[number] = str(error)
        else:
            if not found:
                raise BadRequest("the method of its controls cannot learn; use cliper")
            if number in taught:
                seen.append(found)
            else:
                table[number] = found
        told(done, of)
    names = sorted({name for one in [*table.values(), *seen] for name in one})
    numbers = sorted(table)
    doubt = np.array([[table[task].get(name, 0.0) for name in names] for task in numbers])
    doubt = doubt.reshape(len(numbers), len(names))
    before = np.array([sum(one.get(name, 0.0) for one in seen) for name in names])
    order = choose(doubt, seen=before.reshape(len(names)), count=count)
    return NextUp(
        tasks=tuple(numbers[place] for place in order),
        reasons=tuple(_most_doubtful(table[numbers[place]]) for place in order),
        free=len(free),
        looked=len(table),
        failed=failed,
        version=seat.desk.plan.version,
    )


def title(count: int) -> str:
    """Of the tab."""
    return f"Next {count} to correct (CLIPer)"


def is_ours(title: str) -> bool:
    """Whether a tab of this title is one that we fill. Who wants to keep it renames it."""
    return TITLE.fullmatch(title) is not None


def _most_doubtful(found: Doubts, most: int = 3) -> tuple[str, ...]:
    order = sorted(found, key=lambda name: (-found[name], name))
    return tuple(label for _, label in order[:most])


def _tasks(project: StudioProject, numbers: Sequence[int]) -> Iterable[tuple[int, Task]]:
    """A page at a time; those that are gone by now are left out."""
    for first in range(0, len(numbers), PAGE):
        page = project.tasks(numbers[first : first + PAGE])
        for number in numbers[first : first + PAGE]:
            if number in page:
                yield number, page[number].task


class _Glance:
    """Doubts of tasks, kept under version and picture addresses."""

    def __init__(self, predictor: Glances, desk: Desk, storage: Storage, scope: Scope) -> None:
        self._predictor, self._desk = predictor, desk
        self._storage = storage
        self._place = Key(scope, ("doubts", desk.plan.version))

    def at(self, task: Task) -> Doubts:
        """Raises CouldNotPredict."""
        addresses = json.dumps(self._desk.plan.picture_addresses(task))
        digest = hashlib.sha256(addresses.encode()).hexdigest()[:16]
        key = self._place / f"{task.id} {digest}"
        kept = self._storage.get_blob(key)
        if kept is not None:
            return {(control, label): value for control, label, value in json.loads(kept)}
        found = self._predictor.doubts(task, self._desk)
        rows = [[control, label, round(value, 6)] for (control, label), value in found.items()]
        self._storage.put_blob(key, json.dumps(rows).encode())
        return found
