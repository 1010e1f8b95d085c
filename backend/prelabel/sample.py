"""A few tasks that stand for all of a project: seeded, spread evenly, chosen by number alone."""

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..studio.project import (
    Filters,
    StudioProject,
    among,
    has_draft,
    lacks_version,
    unannotated,
)
from .wanted import Wanted

SEED = 1
CHUNK = 1000  # task numbers asked about at once


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Numbers of tasks, eight bytes each.

    all    everything the view and the filters let through
    to_do  what a run would take on of it
    """

    all: "array[int]"
    to_do: "array[int]"

    @property
    def worth_looking_at(self) -> "array[int]":
        """What a run would take on; where that is nothing, everything."""
        return self.to_do or self.all


def candidates(project: StudioProject, wanted: Wanted, version: str) -> Candidates:
    """What a run with `wanted` would find, by the same rules, at a page of numbers a thousand.

    Raises StudioRefused, StudioAway.
    """
    conditions, open_ = wanted.conditions(), still_open(wanted, version)
    if wanted.view is not None or wanted.tasks:
        named = wanted.tasks if wanted.view is None else project.ids_of_view(wanted.view)
        found = _those(project, named, conditions)
        to_do = _those(project, found, open_)
    else:
        found = array("q", project.ids(conditions))
        to_do = array("q", project.ids([*conditions, *open_]))
    if not wanted.include_annotated:
        drafted = set(project.ids([has_draft()]))
        to_do = array("q", (number for number in to_do if number not in drafted))
    return Candidates(all=found, to_do=to_do[: wanted.limit])


def still_open(wanted: Wanted, version: str) -> Filters:
    """What a run leaves alone does not match: what is done, and what people have annotated."""
    free = [] if wanted.include_annotated else unannotated()
    return [*free, *([] if wanted.redo else [lacks_version(version)])]


def evenly(numbers: "array[int]", count: int, *, seed: int = SEED) -> list[int]:
    """`count` of the numbers, one from each of as many equal parts, in their order.

    All of them where there are no more. The same numbers and seed give the same choice.
    """
    if len(numbers) <= count:
        return list(numbers)
    chance = random.Random(seed)
    edges = [len(numbers) * part // count for part in range(count + 1)]
    return [numbers[chance.randrange(begin, end)] for begin, end in pairwise(edges)]


def _those(project: StudioProject, numbers: Sequence[int], filters: Filters) -> "array[int]":
    """Those of the numbers that match, in their order."""
    if not filters:
        return array("q", numbers)
    found = array("q")
    for first in range(0, len(numbers), CHUNK):
        chunk = numbers[first : first + CHUNK]
        matching = set(project.ids([among(chunk), *filters]))
        found.extend(number for number in chunk if number in matching)
    return found
