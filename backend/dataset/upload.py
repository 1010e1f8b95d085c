"""Rows of a run -> predictions in Label Studio; as often as you like, each of them once.

A row that came with Label Studio's number of its task goes to that task. Any other goes to the
task whose picture has the row's address; tasks that are not there yet are made, if that is wanted.
Predictions are written as in a run over the project itself: what is there is left alone.
"""

import hashlib
import json
import logging
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Self

from ..errors import BadRequest, StudioUncertain
from ..labelstudio import label_config
from ..prelabel.progress import Progress
from ..prelabel.writing import Writer, once_each
from ..studio.project import PAGE, StudioProject, among, has_draft, unannotated
from .rows import Row

logger = logging.getLogger(__name__)

TRIES = 4  # of making tasks that Label Studio fails over
MOST_LISTED = 200  # tasks of a page, while addresses are read


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which rows go where.

    make_tasks         for pictures that the project does not have
    include_annotated  also tasks that people have annotated, skipped or begun
    """

    make_tasks: bool = False
    include_annotated: bool = False


def upload(
    rows: Iterable[Row],
    project: StudioProject,
    wish: Wish,
    progress: Progress,
    *,
    tell: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Counts are in `progress`. Raises BadRequest for rows of several versions, ConfigError,
    StudioRefused, StudioAway."""
    source = iter(rows)
    first = next((row for row in source if row.result is not None), None)
    if first is None:
        raise BadRequest("there is no prediction in these rows; look at why they failed")
    version = first.model_version
    key = _key(project)
    progress.version = version
    progress.begin()
    with (
        _Addresses(project, key) as addresses,
        Writer(project, version, progress) as writer,
    ):
        for chunk in _chunks(_one_version(_with(first, source), version, progress)):
            progress.set(total=progress["total"] + len(chunk))
            placed = _placed(chunk, project, addresses, wish, progress)
            for row, task in _untouched(placed, project, wish, progress):
                progress.add("predicted")
                progress.add("regions", row.regions)
                progress.add("empty", not row.regions)
                writer.add(task, row.prediction)
            writer.tick()
            tell(progress)
    progress.phase = "checking"
    once_each(project, version, progress)
    progress.phase = "done"
    tell(progress)


def _key(project: StudioProject) -> str | None:
    """Under which key the project's tasks have their picture; None where they have several."""
    images = {one.image for one in label_config.parse(project.facts().label_config).controls}
    image = next(iter(images))
    return image.data_key if len(images) == 1 and not image.listed else None


def _with(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _one_version(rows: Iterable[Row], version: str, progress: Progress) -> Iterator[Row]:
    """Rows that have a prediction. Raises BadRequest."""
    for row in rows:
        if row.model_version != version:
            raise BadRequest(
                f"rows are of {version} and of {row.model_version}; upload one run at a time"
            )
        if row.result is None:
            progress.set(total=progress["total"] + 1)
            progress.fail(row.number or 0, row.kind or "other", row.reason or "nobody knows why")
            continue
        yield row


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while chunk := list(islice(source, PAGE)):
        yield chunk


def _placed(
    chunk: Sequence[Row],
    project: StudioProject,
    addresses: "_Addresses",
    wish: Wish,
    progress: Progress,
) -> list[tuple[Row, int]]:
    """Rows with their tasks' numbers; what has none is counted."""
    there = project.tasks([row.number for row in chunk if row.number is not None])
    placed, homeless = [], []
    for row in chunk:
        if row.number is not None:
            one = there.get(row.number)
            if one is None:
                progress.add("gone")
            elif addresses.is_of(row, one.task.data):
                placed.append((row, row.number))
            else:
                progress.fail(
                    row.number,
                    "not in the project",
                    f"task {row.number} of the project has another picture than {row.id!r}; is it "
                    "the project these rows were made of?",
                )
            continue
        task = addresses.task(row)
        if task is None:
            homeless.append(row)
        else:
            placed.append((row, task))
    if homeless and not wish.make_tasks:
        for row in homeless:
            progress.fail(
                0,
                "not in the project",
                f"no task of the project has the picture {row.id!r}; --make-tasks makes them",
            )
    elif homeless:
        placed += addresses.made(homeless)
    return placed


def _untouched(
    placed: Sequence[tuple[Row, int]], project: StudioProject, wish: Wish, progress: Progress
) -> list[tuple[Row, int]]:
    """Without tasks that people have annotated, skipped or begun."""
    if wish.include_annotated or not placed:
        return list(placed)
    numbers = [task for _, task in placed]
    free = set(project.ids([among(numbers), *unannotated()]))
    begun = set(project.ids([among(numbers), has_draft()])) & free
    progress.add("annotated", sum(task not in free for task in numbers))
    progress.add("drafted", sum(task in begun for task in numbers))
    return [(row, task) for row, task in placed if task in free - begun]


class _Addresses:
    """Which task has which picture, on disk; read from the project when first asked."""

    def __init__(self, project: StudioProject, key: str | None) -> None:
        self._project, self._key = project, key
        self._file = tempfile.NamedTemporaryFile(prefix="cliper-addresses-")  # noqa: SIM115
        self._known = sqlite3.connect(self._file.name, isolation_level=None)
        self._known.execute("PRAGMA journal_mode=OFF")
        self._known.execute("PRAGMA synchronous=OFF")
        self._known.execute(
            "CREATE TABLE tasks (address BLOB PRIMARY KEY, task INTEGER) WITHOUT ROWID"
        )
        self._last: int | None = None  # number of the task listed last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._known.close()
        self._file.close()

    def task(self, row: Row) -> int | None:
        """Raises BadRequest where the project's tasks have several pictures."""
        if self._last is None:
            self._read()
        return self._find(self._address(row))

    def is_of(self, row: Row, data: Mapping[str, Any]) -> bool:
        """Whether a task has the row's picture; of several pictures nobody asks."""
        return self._key is None or str(data.get(self._key)) == self._address(row)

    def made(self, rows: Sequence[Row]) -> list[tuple[Row, int]]:
        """Tasks for rows that have none, and their numbers. Raises StudioRefused, StudioAway."""
        for _ in range(TRIES):
            missing = [row for row in rows if self._find(self._address(row)) is None]
            alone = {self._address(row): row for row in missing}  # a picture is one task
            if not alone:
                break
            try:
                self._project.make_tasks([json.loads(row.data) for row in alone.values()])
            except StudioUncertain as error:
                logger.info("%s; looking what became of it", error)
            self._read()
        found = [(row, self._find(self._address(row))) for row in rows]
        lost = [row.id for row, task in found if task is None]
        if lost:
            raise BadRequest(
                f"Label Studio made no task for the picture {lost[0]!r}; look at its log, and give "
                "the same command again"
            )
        return [(row, task) for row, task in found if task is not None]

    def _address(self, row: Row) -> str:
        if self._key is None:
            raise BadRequest(
                "tasks of this project have several pictures, and these rows come without task "
                "numbers; start from an export of the project"
            )
        return str(json.loads(row.data).get(self._key))

    def _find(self, address: str) -> int | None:
        found = self._known.execute(
            "SELECT task FROM tasks WHERE address = ?", (_digest(address),)
        ).fetchone()
        return None if found is None else int(found[0])

    def _read(self) -> None:
        """Tasks that came since the last time."""
        last = self._last or 0
        self._known.execute("BEGIN")
        while page := self._project.page(after=last, size=MOST_LISTED).tasks:
            for one in page:
                address = str(one.task.data.get(self._key or ""))
                self._known.execute(
                    "INSERT OR IGNORE INTO tasks VALUES (?, ?)", (_digest(address), one.id)
                )
            last = page[-1].id
        self._known.execute("COMMIT")
        self._last = last


def _digest(address: str) -> bytes:
    return hashlib.sha256(address.encode(errors="surrogatepass")).digest()[:16]
