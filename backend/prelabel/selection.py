"""Which tasks a run takes on, page by page, and how many it leaves alone and why."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..studio.project import (
    PAGE,
    Filters,
    Listed,
    StudioProject,
    among,
    has_draft,
    lacks_version,
    unannotated,
)
from .progress import Progress
from .wanted import Wanted

PAGE_LETTERS = 4_000_000  # of data that a page may hold; tasks may hold whole pictures
MOST_LISTED = 200  # tasks


class _Step(NamedTuple):
    """A page of tasks, how many beside them were left alone, and how many the filters leave out."""

    page: list[Listed]
    skipped: int
    unmatched: int


def select(
    project: StudioProject, wanted: Wanted, version: str, progress: Progress
) -> Iterator[list[Listed]]:
    """Pages of tasks to predict; what is left alone is counted in `progress`.

    Tasks with predictions of `version` are left alone unless they are to be redone, tasks with
    annotations, skipped ones or drafts unless they are included. Whatever else is written
    meanwhile does not shift the pages. Raises StudioRefused, StudioAway.
    """
    chosen = _named(project, wanted)
    aside = progress["already"] + progress["annotated"] if chosen is None else 0
    steps = (
        _by_number(project, wanted, version)
        if chosen is None
        else _by_name(project, chosen, wanted, version, progress)
    )
    left = wanted.limit
    for page, skipped, unmatched in steps:
        untouched = page
        if not wanted.include_annotated:
            untouched = _undrafted(project, page)
            progress.add("drafted", len(page) - len(untouched))
        aside += skipped + len(page) - len(untouched)
        progress.whole -= unmatched
        _bound(wanted, progress, aside)
        if left is not None:
            untouched, left = untouched[:left], left - len(untouched)
        yield untouched
        if left is not None and left <= 0:
            return


def measure(project: StudioProject, wanted: Wanted, version: str, progress: Progress) -> None:
    """Count what there is, before anything is done. Drafts show up on the way, and for tasks
    named one by one whatever else is left alone."""
    chosen = _named(project, wanted)
    if chosen is not None:
        progress.whole = len(chosen)
    else:
        conditions = wanted.conditions()
        progress.whole = project.count(conditions)
        lacking = project.count([*conditions, *_lacks(wanted, version)])
        to_do = project.count([*conditions, *_lacks(wanted, version), *_free(wanted)])
        progress.set(already=progress.whole - lacking, annotated=lacking - to_do)
    _bound(wanted, progress, progress["already"] + progress["annotated"])


def _bound(wanted: Wanted, progress: Progress, aside: int) -> None:
    """Tasks asked for: all that match, or those left aside so far and as many as the limit."""
    total = progress.whole
    if wanted.limit is not None:
        total = min(total, aside + wanted.limit)
    progress.set(total=total)


def _lacks(wanted: Wanted, version: str) -> Filters:
    return () if wanted.redo else (lacks_version(version),)


def _free(wanted: Wanted) -> Filters:
    return () if wanted.include_annotated else unannotated()


def _named(project: StudioProject, wanted: Wanted) -> Sequence[int] | None:
    """Tasks one by one; None for all. A tab's filters may look at what we write, so its tasks are
    noted before anything is."""
    if wanted.view is not None:
        return project.ids_of_view(wanted.view)
    return wanted.tasks or None


def _by_number(project: StudioProject, wanted: Wanted, version: str) -> Iterator[_Step]:
    filters = [*wanted.conditions(), *_lacks(wanted, version), *_free(wanted)]
    last, size = 0, PAGE
    while True:
        page = project.page(filters, after=last, size=size).tasks
        if not page:
            return
        last, size = page[-1].id, _fitting(page)
        yield _Step(page, 0, 0)


def _fitting(page: Sequence[Listed]) -> int:
    """How many such tasks to list at once: each page costs Label Studio a count of the project."""
    letters = sum(len(str(value)) for one in page for value in one.task.data.values())
    return min(max(PAGE_LETTERS * len(page) // max(letters, 1), 1), MOST_LISTED)


def _by_name(
    project: StudioProject,
    numbers: Sequence[int],
    wanted: Wanted,
    version: str,
    progress: Progress,
) -> Iterator[_Step]:
    conditions = wanted.conditions()
    for first in range(0, len(numbers), PAGE):
        chunk = list(numbers[first : first + PAGE])
        there = project.tasks(chunk)
        progress.add("gone", len(chunk) - len(there))
        found = set(there)
        if conditions:
            found &= set(project.ids([among(chunk), *conditions]))
        lacking = set(found)
        if not wanted.redo:
            lacking &= set(project.ids([among(chunk), lacks_version(version)]))
        progress.add("already", len(found) - len(lacking))
        free = [
            one
            for number, one in there.items()
            if number in lacking and (wanted.include_annotated or not one.annotations)
        ]
        progress.add("annotated", len(lacking) - len(free))
        unmatched = len(there) - len(found)
        yield _Step(free, len(chunk) - unmatched - len(free), unmatched)


def _undrafted(project: StudioProject, page: Sequence[Listed]) -> list[Listed]:
    if not page:
        return []
    drafted = set(project.ids([among(one.id for one in page), has_draft()]))
    return [one for one in page if one.id not in drafted]
