"""Which tasks a run takes on, page by page, and how many it leaves alone and why."""

from collections.abc import Iterator, Sequence

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


def select(
    project: StudioProject, wanted: Wanted, version: str, progress: Progress
) -> Iterator[list[Listed]]:
    """Pages of tasks to predict; what is left alone is counted in `progress`.

    Tasks with predictions of `version` are left alone unless they are to be redone, tasks with
    annotations, skipped ones or drafts unless they are included. Whatever else is written
    meanwhile does not shift the pages. Raises StudioRefused, StudioAway.
    """
    chosen = _named(project, wanted)
    pages = (
        _by_number(project, wanted, version)
        if chosen is None
        else _by_name(project, chosen, wanted, version, progress)
    )
    left = wanted.limit
    for page in pages:
        untouched = page
        if not wanted.include_annotated:
            untouched = _undrafted(project, page)
            progress.add("drafted", len(page) - len(untouched))
        if left is not None:
            untouched, left = untouched[:left], left - len(untouched)
        yield untouched
        if left is not None and left <= 0:
            return


def measure(project: StudioProject, wanted: Wanted, version: str, progress: Progress) -> None:
    """Count what there is, before anything is done. Drafts show up on the way."""
    chosen = _named(project, wanted)
    if chosen is not None:
        progress.set(total=len(chosen))
    else:
        conditions = wanted.conditions()
        total = project.count(conditions)
        lacking = project.count([*conditions, *_lacks(wanted, version)])
        to_do = project.count([*conditions, *_lacks(wanted, version), *_free(wanted)])
        progress.set(total=total, already=total - lacking, annotated=lacking - to_do)
    if wanted.limit is not None:
        aside = progress["already"] + progress["annotated"]
        progress.set(total=min(progress["total"], aside + wanted.limit))


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


def _by_number(project: StudioProject, wanted: Wanted, version: str) -> Iterator[list[Listed]]:
    filters = [*wanted.conditions(), *_lacks(wanted, version), *_free(wanted)]
    last = 0
    while True:
        page = project.page(filters, after=last).tasks
        if not page:
            return
        last = page[-1].id
        yield page


def _by_name(
    project: StudioProject,
    numbers: Sequence[int],
    wanted: Wanted,
    version: str,
    progress: Progress,
) -> Iterator[list[Listed]]:
    conditions = wanted.conditions()
    for first in range(0, len(numbers), PAGE):
        chunk = list(numbers[first : first + PAGE])
        found = {one.id: one for one in project.page([among(chunk), *conditions]).tasks}
        progress.add("gone", len(chunk) - len(found))
        lacking = set(found)
        if not wanted.redo:
            lacking &= set(project.ids([among(chunk), lacks_version(version)]))
        progress.add("already", len(found) - len(lacking))
        free = [
            found[number]
            for number in chunk
            if number in lacking and (wanted.include_annotated or not found[number].annotations)
        ]
        progress.add("annotated", len(lacking) - len(free))
        yield free


def _undrafted(project: StudioProject, page: Sequence[Listed]) -> list[Listed]:
    if not page:
        return []
    drafted = set(project.ids([among(one.id for one in page), has_draft()]))
    return [one for one in page if one.id not in drafted]
