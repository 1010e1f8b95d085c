"""Which corrected tasks teach, and how finely each is kept: pure.

New versions come at 5, 10, 20, 50, 100, 200 … corrected tasks and not with every submit, so the
tasks that count are those corrected first, up to such a number; a new one never displaces an old
one. Beyond the number of tasks that are kept whole, versions come more often, so that little waits:
the oldest of those that count are thinned, and the oldest of these are let go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Final

FEWEST: Final = 5  # tasks that teach anything
STEPS: Final = (1, 2, 5)  # between powers of ten
MORE_OFTEN: Final = 5  # new versions for every further so many kept whole
MOST_THIN: Final = 10  # thinned tasks for every one that is kept whole


class Grain(StrEnum):
    """How finely a task's evidence is kept; see `thinning`."""

    WHOLE = "whole"
    THIN = "thin"
    NAME = "name"  # only which annotation it was


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What people asked for.

    asked   learn from so many tasks now; of no effect once fewer are there, or a milestone of more
    pinned  version that is to be used whatever is learnt; "": none; None: nobody cares
    """

    asked: int | None = None
    pinned: str | None = None


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """What follows for every corrected task.

    chosen  tasks that teach, in the order of their numbers
    grains  of every task that is known
    """

    chosen: tuple[int, ...]
    grains: Mapping[int, Grain]


def milestone(tasks: int, *, most_whole: int) -> int:
    """Of how many tasks the newest version is made, where so many are corrected; 0 for none."""
    if tasks >= most_whole:
        step = max(1, most_whole // MORE_OFTEN)
        return most_whole + (tasks - most_whole) // step * step
    reached = 0
    for power in count():
        for factor in STEPS:
            number = factor * 10**power
            if number > tasks:
                return reached
            if number >= FEWEST:
                reached = number
    raise AssertionError("there is no largest number")


def curriculum(
    annotations: Mapping[int, int], *, asked: int | None = None, most_whole: int
) -> Curriculum:
    """`annotations`: number of the annotation that counts, by task. `most_whole`: tasks that teach
    with all they say."""
    if most_whole < FEWEST:
        raise ValueError(f"most_whole must be at least {FEWEST}, got {most_whole}")
    oldest_first = sorted(annotations, key=lambda task: (annotations[task], task))
    taken = milestone(len(oldest_first), most_whole=most_whole)
    if asked is not None and taken < asked <= len(oldest_first) and asked >= FEWEST:
        taken = asked
    thin = max(0, taken - most_whole)
    gone = max(0, thin - MOST_THIN * most_whole)
    grains = {task: Grain.WHOLE for task in oldest_first}
    grains.update((task, Grain.THIN) for task in oldest_first[:thin])
    grains.update((task, Grain.NAME) for task in oldest_first[:gone])
    return Curriculum(chosen=tuple(sorted(oldest_first[gone:taken])), grains=grains)
