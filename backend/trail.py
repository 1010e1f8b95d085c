"""On whose behalf this thread works: a request's id and a task's number, for the lines of the log.

Only these two go along to other threads. A whole copy of the context would take the request's body
along, and keep it for as long as a job waits.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")

PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what is written to the log as it came


@dataclass(frozen=True, kw_only=True)
class Trail:
    """None where there is no request, or no single task."""

    request: str | None = None
    task: str | None = None


_NOBODY = Trail()
_HERE: ContextVar[Trail] = ContextVar("cliper_trail", default=_NOBODY)


def here() -> Trail:
    """On whose behalf this thread works now."""
    return _HERE.get()


def is_plain(name: str) -> bool:
    """Short, one line, and nothing a log reader could stumble over."""
    return PLAIN.fullmatch(name) is not None


@contextmanager
def followed(trail: Trail) -> Iterator[None]:
    """Work on behalf of others for a while."""
    before = _HERE.set(trail)
    try:
        yield
    finally:
        _HERE.reset(before)


@contextmanager
def of_task(number: object) -> Iterator[None]:
    """Work on one task of whoever it is for; a number that is not plain is left out."""
    name = str(number) if isinstance(number, int | str) else ""
    with followed(replace(here(), task=name if is_plain(name) else None)):
        yield


def carried(work: Callable[Given, Found]) -> Callable[Given, Found]:
    """`work`, to be done by another thread on behalf of whoever this one works for."""
    trail = here()

    @wraps(work)
    def done(*args: Given.args, **named: Given.kwargs) -> Found:
        with followed(trail):
            return work(*args, **named)

    return done


def common(trails: Iterable[Trail]) -> Trail:
    """What is the same for all of several who are worked for at once."""
    given = list(trails)
    requests, tasks = {one.request for one in given}, {one.task for one in given}
    return Trail(
        request=requests.pop() if len(requests) == 1 else None,
        task=tasks.pop() if len(tasks) == 1 else None,
    )
