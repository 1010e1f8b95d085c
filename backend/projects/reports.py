"""`cliper report` as a job: the newest page of each project is kept in the store, for browsers.

    (project)/report       record: when the page was made, how many bytes it has
    (project)/report-page  blob: the page itself, which may have to make room for others

Nothing is written to Label Studio. A page that had to go is made again by another job.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final, Self

from ..errors import BadRequest
from ..fetching import Pictures
from ..jobs.base import Handle, Hopeless, Works
from ..jobs.desk import JobKind
from ..learning.records import Records, school_scope
from ..prelabel.wanted import Wanted
from ..prelabel.works import LabelStudio, hopeless, say_waiting, telling
from ..report import making
from ..report.learnt import versions_in
from ..report.page import headline, page
from ..report.reading import Told
from ..report.sources import PICTURE_SECONDS, Gallery, Pixels, ProjectSource
from ..storage.base import Json, Key, Scope, Storage, change
from ..storage.patience import patiently
from ..studio.project import StudioProject

REPORT: Final = "report"
MOST_PAGE_BYTES: Final = 32_000_000  # the ten worst pictures, four panels each, have some megabytes
LONGEST_VERSION: Final = 200  # characters


@dataclass(frozen=True, kw_only=True)
class ReportWanted:
    """What a job was asked for. `version` None: all model versions."""

    project: int
    version: str | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Json]) -> Self:
        """`{"project": 12}`. Raises BadRequest."""
        unknown = sorted(set(body) - {"project", "version"})
        if unknown:
            raise BadRequest(f"unknown field {unknown[0]!r}; known are project, version")
        project = Wanted.from_json({"project": body.get("project")}).project
        version = body.get("version")
        if version is not None and not (
            isinstance(version, str) and 0 < len(version) <= LONGEST_VERSION
        ):
            raise BadRequest(
                f"version must be text of at most {LONGEST_VERSION} characters, or left out"
            )
        return cls(project=project, version=version)

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


def kinds(studio: LabelStudio) -> Mapping[str, JobKind]:
    """What may be asked for over HTTP."""
    return {
        REPORT: JobKind(
            read=lambda body: ReportWanted.from_json(body).to_json(),
            scope=lambda params: studio.scope(params["project"]),
        )
    }


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """What is known of a page that was kept. `made` says when, for people."""

    made: str
    bytes: int

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


class ReportShelf:
    """The newest report of one project. Every method raises StorageAway."""

    def __init__(self, storage: Storage, scope: Scope) -> None:
        """`scope`: of the project, with its birth or without."""
        self._storage = storage
        school = school_scope(scope)
        self._facts, self._page = Key(school, ("report",)), Key(school, ("report-page",))

    def keep(self, data: bytes, *, made: str) -> ReportFacts | None:
        """In place of the one before; None where the store has no room for it."""
        facts = ReportFacts(made=made, bytes=len(data))
        if not self._storage.put_blob(self._page, data):
            change(self._storage, self._facts, lambda _: None)
            return None
        change(self._storage, self._facts, lambda _: facts.to_json())
        return facts

    def facts(self) -> ReportFacts | None:
        """Of the page that was kept last, which may have gone meanwhile."""
        found = self._storage.get(self._facts)
        return None if found is None else ReportFacts(**found.value)

    def page(self) -> bytes | None:
        return self._storage.get_blob(self._page)


class ReportWorks:
    """The work over one Label Studio; for many jobs, one after the other."""

    def __init__(
        self,
        studio: LabelStudio,
        pictures: Pictures,
        storage: Storage,
        *,
        timeout: float = PICTURE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`timeout`: seconds for one picture. `clock`: seconds since 1970."""
        self._studio, self._pictures, self._storage = studio, pictures, storage
        self._timeout, self._clock = timeout, clock

    def works(self) -> Works:
        """By kind of job."""
        return {REPORT: self._report}

    def _report(self, handle: Handle) -> Json:
        wanted = ReportWanted.from_json(handle.job.params)
        storage = patiently(self._storage, tell=say_waiting, sleep=handle.wait)
        records = Records(storage, handle.job.scope)
        made = f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m-%d %H:%M} UTC"
        studio = telling(self._studio, handle)
        with hopeless(), closing(studio):
            handle.tell({"phase": "counting"})
            gallery = _Watched(self._pictures, handle, timeout=self._timeout)
            source = ProjectSource(StudioProject(studio, wanted.project), gallery)
            asked = {"tasks": source.corrected}

            def told(done: int) -> None:
                handle.tell(
                    {"phase": "comparing", **asked, "done": done, "waits_for": studio.waits_for}
                )

            seen = making.report(
                source,
                making.Asked(version=wanted.version),
                made=made,
                learnt=versions_in([one.to_json() for one in records.versions()]),
                told=told,
            )
        facts = _kept(page(seen).encode(), ReportShelf(storage, handle.job.scope), made)
        return {
            "phase": "done",
            **facts.to_json(),
            "compared": seen.counts.compared,
            "headline": headline(seen),
        }


def _kept(data: bytes, shelf: ReportShelf, made: str) -> ReportFacts:
    """Raises Hopeless where there is no room."""
    if len(data) > MOST_PAGE_BYTES:
        raise Hopeless(
            f"the report has {len(data) / 1e6:.0f} MB, more than {MOST_PAGE_BYTES / 1e6:.0f}; "
            "'cliper report' writes it to a file, with fewer pictures by --worst"
        )
    facts = shelf.keep(data, made=made)
    if facts is None:
        raise Hopeless(
            f"the store has no room for the report's {len(data) / 1e6:.1f} MB: raise "
            "STORAGE_BLOBS_MB, or let 'cliper report' write it to a file"
        )
    return facts


class _Watched(Gallery):
    """Pictures, between which the job may be stopped."""

    def __init__(self, pictures: Pictures, handle: Handle, *, timeout: float) -> None:
        super().__init__(pictures, timeout=timeout)
        self._handle = handle

    def get(self, told: Told, address: str, page: int) -> Pixels:
        self._handle.tell({**self._handle.job.progress, "phase": "looking at pictures"})
        return super().get(told, address, page)
