"""Projects of one Label Studio for people in front of a browser: seen, and looked after.

Whoever looks waits for the answer, so Label Studio is asked once, with little patience, and for a
page at a time; what the store knows is told also while Label Studio is away.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import (
    AddressRefused,
    BadRequest,
    NoReport,
    StudioError,
    StudioRefused,
    UnknownProject,
)
from ..images.guarded import Origin, origin, shown
from ..jobs.base import Job
from ..jobs.desk import JobDesk
from ..learning.records import Records
from ..learning.status import digest_of, use, use_what_follows
from ..learning.works import LEARN
from ..prelabel.undo import is_ours
from ..prelabel.works import LabelStudio
from ..redaction import Redaction
from ..storage.base import Key, Scope, Storage
from ..studio import account
from ..studio.account import ListedProject
from ..studio.client import Json, Patience, Studio
from ..studio.project import Listed, StudioProject
from . import connection
from .connection import Connection
from .learning import learning_of
from .reports import ReportFacts, ReportShelf

MOST_PROJECTS: Final = 20  # of a page
MOST_TASKS: Final = 30  # of a page
MOST_JOBS: Final = 20  # of a project, the newest
MOST_VERSIONS: Final = 50  # model versions with predictions
MOST_MODELS: Final = 10  # connected to a project
LONGEST_NAME: Final = 60  # characters of a task's name
LONGEST_TITLE: Final = 200  # characters of a title
LONGEST_READ: Final = 2000  # characters of task data that a name is made from
UPLOADED: Final = re.compile(r"^[0-9a-f]{8}-")
SECONDS: Final = 15.0  # for an answer of Label Studio's; it may ask its models first
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
CONNECT: Final = (
    "in Label Studio open the project's Settings, Model, Connect Model, and enter this service's "
    "address as Label Studio sees it"
)
LOOK_THERE: Final = "open the project's Settings, Model in Label Studio; 'cliper doctor' says more"


def in_a_hurry(studio: LabelStudio) -> LabelStudio:
    """The same Label Studio, for somebody who waits for the answer."""
    return replace(studio, patience=Patience(total=0.0), timeout=SECONDS)


@dataclass(frozen=True, kw_only=True)
class ProjectList:
    """A page of projects. `next`: number of the page behind it, None where there is none."""

    connection: Connection
    projects: Sequence[ListedProject] = ()
    total: int = 0
    page: int = 1
    next: int | None = None

    def to_json(self) -> Mapping[str, Any]:
        return {
            "connection": self.connection.to_json(),
            "projects": [
                {
                    "id": one.id,
                    "title": one.title[:LONGEST_TITLE],
                    "tasks": one.tasks,
                    "annotated": one.annotated,
                }
                for one in self.projects
            ],
            "total": self.total,
            "page": self.page,
            "next": self.next,
        }


@dataclass(frozen=True, kw_only=True)
class ProjectView:
    """One project.

    jobs      the newest first
    versions  of what was learnt, the newest first
    counts    of tasks, and predictions by model version; None where Label Studio does not say
    trouble   why it does not
    """

    id: int
    address: str
    jobs: Sequence[Job]
    learning: Mapping[str, Json]
    versions: Sequence[Mapping[str, Json]]
    report: ReportFacts | None
    title: str = ""
    label_config: str = ""
    counts: Mapping[str, Json] | None = None
    trouble: Connection | None = None

    def to_json(self) -> dict[str, Any]:
        """Without the jobs, which are printed as everywhere."""
        return {
            "id": self.id,
            "address": self.address,
            "title": self.title[:LONGEST_TITLE],
            "label_config": self.label_config,
            "counts": self.counts,
            "trouble": None if self.trouble is None else self.trouble.to_json(),
            "learning": self.learning,
            "versions": list(self.versions),
            "report": None if self.report is None else self.report.to_json(),
        }


class Projects:
    """Over one Label Studio, the jobs on it and the store; for many threads."""

    def __init__(self, studio: LabelStudio, desk: JobDesk, storage: Storage) -> None:
        self._studio, self._storage = in_a_hurry(studio), storage
        self.desk = desk

    # -- seen -------------------------------------------------------------------------

    def listed(self, page: int) -> ProjectList:
        """Whether Label Studio answers, and its projects; never raises what it does."""
        with self._opened() as studio:
            found = connection.look(studio)
            if not found.answers:
                return ProjectList(connection=found, page=page)
            try:
                shelf = account.projects(studio, page=page, size=MOST_PROJECTS)
            except StudioError as error:
                told = connection.trouble(shown(self._studio.url), error, release=found.release)
                return ProjectList(connection=told, page=page)
        more = bool(shelf.projects) and page * MOST_PROJECTS < shelf.total
        return ProjectList(
            connection=found,
            projects=shelf.projects,
            total=shelf.total,
            page=page,
            next=page + 1 if more else None,
        )

    def project(self, number: int) -> ProjectView:
        """Raises UnknownProject, StorageAway."""
        learning, versions = learning_of(self._records(number))
        view = ProjectView(
            id=number,
            address=f"{shown(self._studio.url)}/projects/{number}/data",
            jobs=self.jobs(number),
            learning=learning,
            versions=versions,
            report=self._shelf(number).facts(),
        )
        try:
            with self._opened() as studio, _known(number):
                project = StudioProject(studio, number)
                facts, predictions = project.facts(), project.versions()
        except StudioError as error:
            told = connection.trouble(shown(self._studio.url), error)
            return replace(view, trouble=told)
        counts = {
            "tasks": facts.tasks,
            "annotated": facts.annotated,
            "predictions": _by_version(predictions),
        }
        return replace(view, title=facts.title, label_config=facts.label_config, counts=counts)

    def jobs(self, number: int) -> list[Job]:
        """The newest first, without the long lists that some were asked with."""
        found = self.desk.jobs.all(project=str(number), limit=MOST_JOBS)
        return [brief(job) for job in found]

    def tasks(self, number: int, page: int) -> Mapping[str, Any]:
        """A page of tasks with a name for each. Raises UnknownProject, StudioError."""
        with self._opened() as studio, _known(number):
            found = StudioProject(studio, number).leaf(page, size=MOST_TASKS)
        seen = (page - 1) * MOST_TASKS + len(found.tasks)
        more = bool(found.tasks) and seen != found.total
        return {
            "tasks": [{"id": one.id, "name": name_of(one)} for one in found.tasks],
            "next": page + 1 if more else None,
        }

    def models(self, number: int, asked_at: str) -> Mapping[str, Any]:
        """Models of a project, and whether this service is one that works. `asked_at`: an address
        of ours, as whoever asks knows us. Asking makes Label Studio ask the models how they are.

        Raises UnknownProject, StudioRefused, StudioAway.
        """
        with self._opened() as studio, _known(number):
            found = StudioProject(studio, number).connections()
        given = self._versions_given()
        models = [_model(one, asked_at, given) for one in found[:MOST_MODELS]]
        ours = [one for one in models if one["ours"]]
        works = any(one["connected"] for one in ours)
        trouble = remedy = None
        if not ours:
            trouble, remedy = "this service is not connected to the project", CONNECT
        elif not works:
            said = ours[0]["said"] or ours[0]["state"] or "nothing"
            trouble, remedy = f"Label Studio says of this service: {said}", LOOK_THERE
        return {"models": models, "connected": works, "trouble": trouble, "remedy": remedy}

    def report(self, number: int) -> bytes:
        """The newest report's page. Raises NoReport, StorageAway."""
        found = self._shelf(number).page()
        if found is None:
            raise NoReport(number)
        return found

    # -- looked after -----------------------------------------------------------------

    def place(self, number: int, body: Any) -> tuple[Job, bool]:
        """See JobDesk; for this project. Raises BadRequest, TooManyJobs, StorageAway."""
        asked = {**body, "project": number} if isinstance(body, Mapping) else body
        job, new = self.desk.place(asked)
        return brief(job), new

    def roll_back(self, number: int, body: Any) -> Job | None:
        """Use one version of what was learnt, whatever is learnt: `{"version": digest}`, "" for
        none; null takes that back, which is a job of learning. Raises BadRequest, StorageAway."""
        if not isinstance(body, Mapping) or set(body) != {"version"}:
            raise BadRequest('a version is chosen with {"version": …}')
        version, records = body["version"], self._records(number)
        if version is None:
            use_what_follows(records)
            return self.place(number, {"kind": LEARN})[0]
        if not isinstance(version, str):
            raise BadRequest(
                "version must be the digest of one, empty for none, or null for what is learnt"
            )
        use(records, digest_of(records, version) if version else "")
        return None

    # -- with what --------------------------------------------------------------------

    @contextmanager
    def _opened(self) -> Iterator[Studio]:
        with closing(self._studio.open(time.sleep)) as studio:
            yield studio

    def _records(self, number: int) -> Records:
        return Records(self._storage, self._studio.scope(number))

    def _shelf(self, number: int) -> ReportShelf:
        return ReportShelf(self._storage, self._studio.scope(number))

    def _versions_given(self) -> frozenset[str]:
        """Model versions that services on this store gave out lately."""
        found = self._storage.get(Key(Scope.of(self._studio.url), ("versions",)))
        return frozenset(map(str, found.value)) if found is not None else frozenset()


def _by_version(versions: Mapping[str, int]) -> list[Mapping[str, Json]]:
    """Numbers of predictions by model version; what is `ours` can be taken back."""
    listed = sorted(versions.items(), key=lambda one: (not is_ours(one[0]), -one[1], one[0]))
    return [
        {"version": version, "count": count, "ours": is_ours(version)}
        for version, count in listed[:MOST_VERSIONS]
    ]


def brief(job: Job) -> Job:
    """A job without the lists in what it was asked: tasks may be a hundred thousand."""
    params = {name: one for name, one in job.params.items() if not isinstance(one, list)}
    return replace(job, params=params)


def name_of(one: Listed) -> str:
    """How people know a task: its first file by name, else its first words, else its number."""
    words = [
        value[:LONGEST_READ]
        for value in one.task.data.values()
        if isinstance(value, str) and value.strip() and not value.startswith("data:")
    ]
    files = (_file_name(value) for value in words if "://" in value or value.startswith("/"))
    named = next(filter(None, files), None) or next(iter(words), None) or f"task {one.id}"
    return " ".join(named.split())[:LONGEST_NAME]


def _file_name(address: str) -> str:
    """The last part of a path, without what Label Studio puts before the names of uploads."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    local = parse_qs(parts.query).get("d", [""])[0]  # /data/local-files/?d=folder/a.png
    name = unquote(local or parts.path).rstrip("/").rpartition("/")[2]
    return UPLOADED.sub("", name)


def _model(one: Mapping[str, Json], asked_at: str, given: frozenset[str]) -> dict[str, Any]:
    """A connection as Label Studio tells it. Of its address only the server is shown: the rest may
    hold the secret of events."""
    url, version = str(one.get("url") or ""), str(one.get("model_version") or "")
    server, here = _server(url), _server(asked_at)
    said = Redaction().hide(str(one.get("error_message") or ""))
    return {
        "title": str(one.get("title") or "")[:LONGEST_TITLE],
        "address": None if server is None else f"{server[0]}://{_bracketed(server[1])}:{server[2]}",
        "state": str(one.get("readable_state") or ""),
        "connected": one.get("state") == "CO",
        "ours": is_ours(version) or version in given or _same(server, here),
        "said": " ".join(said[:1000].split())[:300] or None,
    }


def _server(url: str) -> Origin | None:
    try:
        return origin(url)
    except AddressRefused:
        return None


def _same(one: Origin | None, other: Origin | None) -> bool:
    """Whether both lead to the same port of the same host, whatever this host calls itself."""
    if one is None or other is None or one[2] != other[2]:
        return False
    return one[1] == other[1] or (one[1] in LOOPBACK and other[1] in LOOPBACK)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def _known(project: int) -> Iterator[None]:
    """Raises UnknownProject where Label Studio says so."""
    try:
        yield
    except StudioRefused as error:
        if error.status == 404:
            raise UnknownProject(project) from None
        raise
