"""The picture of one task, fetched and unpacked exactly as the service would."""

from collections.abc import Iterator
from typing import Any

from ..errors import (
    AddressRefused,
    CouldNotPredict,
    ImageBroken,
    ImageMissing,
    ImageTooLarge,
    LabelsMissing,
    MaskTooLarge,
    TaskDataMissing,
    TokenRefused,
    Unreachable,
    WrongStatus,
)
from ..images.guarded import shown
from ..labelstudio.tasks import Task
from ..looking import refuse_brush
from ..plan import View
from ..settings import Settings
from . import tasks
from .case import Case, known
from .findings import Finding, fail, ok, skip, warn

STEPS: tuple[tuple[type[CouldNotPredict], str, str], ...] = (
    (
        TaskDataMissing,
        "key",
        'make value="$key" of the Image tag the name under which tasks have their picture',
    ),
    (LabelsMissing, "data", "correct the data of the task, see docs/reference/label-config.md"),
    (
        AddressRefused,
        "address",
        "a server on a private address must be LABEL_STUDIO_URL's or be named in PRIVATE_HOSTS; "
        "other addresses: see docs/reference/pictures.md",
    ),
    (TokenRefused, "token", "LABEL_STUDIO_API_KEY must be of somebody who may see the project"),
    (ImageMissing, "file", "put the file back where its address says, or delete the task"),
    (
        WrongStatus,
        "status",
        "is the file still where its address says? The log of the server that answered says more",
    ),
    (Unreachable, "reach", "check LABEL_STUDIO_URL and the network between here and the picture"),
    (ImageTooLarge, "size", "raise MAX_IMAGE_MB or MAX_IMAGE_MEGAPIXELS"),
    (ImageBroken, "decode", "replace the file by a picture that browsers can show"),
)
MOST_VIEWS = 5  # of one task with a list of pictures


def picture(case: Case) -> Iterator[Finding]:
    """One task is enough to see whether pictures can be had."""
    rules = () if case.question.task is None else (tasks.numbered(case.question.task),)
    _, found = tasks.look(known(case.api), known(case.question.project), *rules)
    if found is None and case.question.task is not None:
        yield fail(
            f"the project has no task {case.question.task}",
            "the number is in the task's address: ...?task=NUMBER",
        )
        return
    if found is None:
        yield skip("the project has no tasks")
        return
    from ..wiring import pictures

    task = Task(found["id"], found.get("data") or {})
    fetcher = pictures(known(case.settings))
    try:
        views = known(case.plan).views(task)[:MOST_VIEWS]
        for view in views:
            yield _of_view(view, task, fetcher, known(case.settings))
    except CouldNotPredict as error:
        yield _failed(error, task)


def _of_view(view: View, task: Task, fetcher: Any, settings: Settings) -> Finding:
    timeout, megapixels = settings.fetch_timeout, settings.max_brush_megapixels
    number = task.id if isinstance(task.id, int) else None
    address = f"{view.address[:4]}..." if view.address[:5] == "data:" else shown(view.address)
    try:
        data = fetcher.fetch(view.address, timeout=timeout, task_id=number)
        pixels = fetcher.decode(data, page=view.page)
    except CouldNotPredict as error:
        return _failed(error, task, address)
    height, width = pixels.shape[:2]
    try:
        refuse_brush((height, width), view.wanted, megapixels=megapixels)
    except MaskTooLarge as error:
        return warn(
            f"task {task.id}: {error}",
            "use BitmaskLabels or PolygonLabels, or raise MAX_BRUSH_MEGAPIXELS",
            task=task.id,
            address=address,
        )
    return ok(
        f"task {task.id}: {width} x {height} pixels, {len(data) / 1000:.0f} kB, from {address}",
        task=task.id,
        address=address,
        size_wh=[int(width), int(height)],
    )


def _failed(error: CouldNotPredict, task: Task, address: str | None = None) -> Finding:
    step, mend = next(
        ((step, mend) for kind, step, mend in STEPS if isinstance(error, kind)),
        ("picture", "the log of the service says more"),
    )
    return fail(
        f"task {task.id}, step {step!r}: {error}", mend, task=task.id, step=step, address=address
    )
