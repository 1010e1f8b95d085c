"""The project asked about; without one, which projects there are and what they are connected to."""

from collections.abc import Iterator

from ..demo.errors import Refused
from ..demo.label_studio_api import Json
from ..images.guarded import shown
from .case import Case, known
from .findings import Finding, brief, fail, ok

MOST_LISTED = 30  # each is asked for its models, and those for their health


def project(case: Case) -> Iterator[Finding]:
    """It exists, and this token may see it."""
    number, api = known(case.question.project), known(case.api)
    try:
        found: Json = api.call("GET", f"/api/projects/{number}")
        connections = api.connections(number)
    except Refused as error:
        if error.status != 404:
            yield fail(
                f"project {number} cannot be read ({error.status}): {brief(error.message)}",
                "use the token of somebody who may change the project",
            )
            return
        yield fail(
            f"there is no project {number}, or this token may not see it",
            "the number is in the project's address: .../projects/NUMBER/data",
        )
        return
    case.project = found
    case.connections = sorted(connections, key=lambda one: int(one["id"]))
    count = int(found.get("task_number") or 0)
    yield ok(f"{number} {found.get('title')!r}, tasks: {count}", project=number, tasks=count)


def projects(case: Case) -> Iterator[Finding]:
    """A list, for those who named none."""
    api = known(case.api)
    params = {"page_size": MOST_LISTED, "include": "id,title"}
    page = api.call("GET", "/api/projects/", params=params)
    rows, lines = [], []
    for one in page["results"]:
        models = _models(case, one)
        rows.append({"project": int(one["id"]), "title": str(one["title"]), "models": models})
        lines.append(f"{one['id']:>4}  {one['title']}: {'; '.join(models) or 'no model'}")
    count = int(page.get("count") or len(rows))
    more = f", the first {MOST_LISTED} are" if count > len(rows) else ""
    yield ok(
        f"{count} to be seen with this token{more}",
        "look closer with --project NUMBER" if rows else "create one",
        lines=tuple(lines),
        projects=rows,
    )


def _models(case: Case, one: Json) -> list[str]:
    return [
        f"{model.get('title')} at {shown(str(model.get('url')))} ({model.get('readable_state')})"
        for model in known(case.api).connections(int(one["id"]))
    ]
