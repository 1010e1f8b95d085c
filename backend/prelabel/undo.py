"""Taking predictions back: our own, of one version, from which no annotation came.

Label Studio has three ways to delete predictions, and only two leave the task's dates alone:

    all of some tasks       a batch action; taken where a task has nothing else
    all of one version      taken for the rest, where nothing of the version must stay
    one by one              else; Label Studio dates the task, which its export shows

A draft may rest on any prediction of its task, and the API shows nobody else's draft in full:
what a drafted task has stays.
"""

import logging
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cliper_model import profiles

from ..errors import BadRequest
from ..studio.client import Json
from ..studio.project import (
    Listed,
    StudioProject,
    among,
    has_draft,
    has_one_prediction,
    has_version,
    unannotated,
)
from .progress import Progress

logger = logging.getLogger(__name__)

CHUNK = 200  # tasks per batch action
MANY = 500  # tasks of a page, without their data


def is_ours(version: str) -> bool:
    """Whether a version string is one that this service writes: profile, method, digest."""
    found = re.fullmatch(r"(.+?)-([^-].*)-[0-9a-f]{8}", version)
    return found is not None and found[1] in profiles.names() and found[2] in profiles.methods()


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One task with predictions of the version, of which something may go.

    count     how many may go
    complete  none of the version has to stay
    alone     the task has no other predictions
    plain     nor any annotation, and only this one prediction
    """

    task: int
    count: int
    complete: bool
    alone: bool
    plain: bool = False


def check(project: StudioProject, version: str) -> int:
    """How many predictions of the version there are. Raises BadRequest for others' versions."""
    there = project.versions()
    if not is_ours(version):
        ours = [name for name in there if is_ours(name)]
        raise BadRequest(
            f"{version!r} is no version of this service, and others' predictions are left alone; "
            f"ours in this project: {', '.join(ours) or 'none'}"
        )
    return there.get(version, 0)


def undo(
    project: StudioProject,
    version: str,
    progress: Progress,
    *,
    only_with: str | None = None,
    dry_run: bool = False,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Remove what may go, count it as `removed`, and the rest as `kept`.

    `only_with`: of tasks that also have predictions of this version. `pause` is called now and
    then, and may raise. Stopping at any point and starting again is fine. Raises BadRequest,
    StudioRefused, StudioAway.
    """
    progress.phase, progress.version = "removing", version
    before = check(project, version)
    progress.set(total=before)
    mixed = array("q")  # tasks with other predictions too, or touched since they were listed
    complete = only_with is None
    sure = not project.lookalikes(version)
    for page in _pages(project, version, only_with):
        pause()
        cases = list(_cases(project, page, version, sure=sure))
        complete = complete and _nothing_stays(page, cases)
        mixed.extend(case.task for case in cases if not case.alone)
        if dry_run:
            progress.add("removed", sum(case.count for case in cases))
            continue
        whole = [case for case in cases if case.alone]
        for first in range(0, len(whole), CHUNK):
            chunk, touched = _parted(project, whole[first : first + CHUNK])
            mixed.extend(case.task for case in touched)
            project.delete_all_of(case.task for case in chunk)
            progress.add("removed", sum(case.count for case in chunk))
            pause()
    if not dry_run:
        if mixed and complete and _still_complete(project, version):
            project.delete_version(version)
        else:
            _one_by_one(project, version, mixed, pause)
        progress.set(removed=max(before - project.versions().get(version, 0), 0))
    progress.set(kept=before - progress["removed"])
    progress.phase = "removed"


def _pages(project: StudioProject, version: str, only_with: str | None) -> Iterator[list[Listed]]:
    filters = [has_version(version), *([has_version(only_with)] if only_with else [])]
    last = 0
    while page := project.page(filters, after=last, size=MANY, with_data=False).tasks:
        last = page[-1].id
        yield page


def _cases(
    project: StudioProject, page: Sequence[Listed], version: str, *, sure: bool
) -> Iterator[_Case]:
    """The tasks of which something may go.

    `sure`: what Label Studio lists as of the version is of the version.
    """
    drafted = set(project.ids([among(one.id for one in page), has_draft()]))
    for one in page:
        if one.id in drafted:
            continue
        if sure and one.predictions == 1 and not one.annotations:
            yield _Case(task=one.id, count=1, complete=True, alone=True, plain=True)
            continue
        there = project.predictions(one.id)
        ours = [int(each["id"]) for each in there if each["model_version"] == version]
        built_on = _built_on(project, one)
        free = [number for number in ours if number not in built_on]
        if free:
            yield _Case(
                task=one.id,
                count=len(free),
                complete=len(free) == len(ours),
                alone=len(free) == len(there),
            )


def _parted(project: StudioProject, cases: Sequence[_Case]) -> tuple[list[_Case], list[_Case]]:
    """Tasks that are as they were listed, and those somebody has touched since."""
    same = {case.task for case in cases}
    plain = [case.task for case in cases if case.plain]
    if plain:
        same -= {*plain} - set(project.ids([among(plain), *unannotated(), has_one_prediction()]))
    if same:
        same -= set(project.ids([among(same), has_draft()]))
    return (
        [case for case in cases if case.task in same],
        [case for case in cases if case.task not in same],
    )


def _built_on(project: StudioProject, one: Listed) -> set[Json]:
    """Numbers of the predictions that the task's annotations came from."""
    if not one.annotations:
        return set()
    return {each.get("parent_prediction") for each in project.annotations(one.id)}


def _nothing_stays(page: Sequence[Listed], cases: Sequence[_Case]) -> bool:
    return len(cases) == len(page) and all(case.complete for case in cases)


def _still_complete(project: StudioProject, version: str) -> bool:
    """Whether even now nothing of what is left of a version has to stay."""
    return all(
        _nothing_stays(page, list(_cases(project, page, version, sure=False)))
        for page in _pages(project, version, None)
    )


def _one_by_one(
    project: StudioProject, version: str, tasks: Iterable[int], pause: Callable[[], None]
) -> None:
    for task in tasks:
        pause()
        if project.count([among([task]), has_draft()]):  # begun since it was listed
            continue
        ours = [one for one in project.predictions(task) if one["model_version"] == version]
        if not ours:
            continue
        built_on = {one.get("parent_prediction") for one in project.annotations(task)}
        for one in ours:
            if one["id"] not in built_on:
                project.delete_prediction(int(one["id"]))
