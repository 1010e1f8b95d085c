"""What a token sees of a Label Studio: whose it is, and the projects, a page at a time."""

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import StudioRefused
from .client import Studio


@dataclass(frozen=True, kw_only=True)
class ListedProject:
    """A project of the list. `annotated` counts tasks with a submitted annotation."""

    id: int
    title: str
    tasks: int
    annotated: int


class ProjectPage(NamedTuple):
    """Projects in Label Studio's own order, and how many there are in all."""

    projects: list[ListedProject]
    total: int


def release(studio: Studio) -> str | None:
    """Of Label Studio, such as 1.23.2. Raises StudioRefused, StudioAway."""
    told = studio.get("/api/version")
    found = told.get("release") if isinstance(told, dict) else None
    return found if isinstance(found, str) else None


def user(studio: Studio) -> str:
    """Whose token it is. Raises StudioRefused, StudioAway."""
    told = studio.get("/api/current-user/whoami")
    return str(told.get("email") or told.get("username") or "somebody")


def projects(studio: Studio, *, page: int, size: int) -> ProjectPage:
    """A page of the projects, from 1 on; an empty one beyond the last. Raises StudioRefused,
    StudioAway."""
    params: dict[str, str | int] = {
        "page": page,
        "page_size": size,
        "include": "id,title,task_number,num_tasks_with_annotations",  # label configs are long
    }
    try:
        told = studio.get("/api/projects/", params=params)
    except StudioRefused as error:
        if error.status == 404 and page > 1:
            return ProjectPage([], 0)
        raise
    found = [
        ListedProject(
            id=int(one["id"]),
            title=str(one.get("title") or ""),
            tasks=int(one.get("task_number") or 0),
            annotated=int(one.get("num_tasks_with_annotations") or 0),
        )
        for one in told["results"][:size]
    ]
    return ProjectPage(found, int(told.get("count") or len(found)))
