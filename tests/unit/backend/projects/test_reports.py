"""A report as a job: the newest page is kept where there is room, and it can be stopped."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from backend.errors import BadRequest, ImageMissing
from backend.images.decode import decode
from backend.jobs.base import Hopeless, Job, Stopped
from backend.prelabel.works import LabelStudio
from backend.projects.reports import REPORT, ReportFacts, ReportShelf, ReportWanted, ReportWorks
from backend.storage.base import Scope, Storage
from backend.storage.memory import MemoryStorage

from ....doubles.corrections import address, annotated, columns, painted
from ....doubles.studio_server import LEGACY_TOKEN, StudioServer
from ..studio.conftest import server  # noqa: F401

OURS = "demo-cliper-12345678"


class DataPictures:
    """Implements Pictures over `data:` addresses."""

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        if not address.startswith("data:"):
            raise ImageMissing("there is nothing at the address")
        return base64.b64decode(address.partition(",")[2])

    def server(self, address: str) -> str | None:
        return None

    def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
        return decode(data, max_pixels=1000, page=page)


@dataclass
class Watched:
    """Implements Handle; the work is stopped when it tells of the phase `until`."""

    job: Job
    until: str = ""
    told: list[Mapping[str, Any]] = field(default_factory=list)

    def tell(self, progress: Mapping[str, Any]) -> None:
        self.told.append(progress)
        if progress.get("phase") == self.until:
            raise Stopped("cancelled")

    def pause(self) -> None:
        return

    def wait(self, seconds: float) -> None:
        raise AssertionError("there is nothing to wait for")


@pytest.fixture
def project(server: StudioServer) -> int:  # noqa: F811
    """One corrected task."""
    number = server.project(title="Cats & dogs")
    (task,) = server.add(number, {"image": address()})
    made = server.predict(task, OURS, result=painted("red", columns(0, 8)))
    done = server.annotate(task, made)
    right = annotated(painted("red", columns(0, 10)), parent=made, id=done, task=task)
    server.annotations[done].update(right)
    return number


def works(url: str, storage: Storage, *, now: float = 0.0) -> ReportWorks:
    studio = LabelStudio(url=url, token=LEGACY_TOKEN)
    return ReportWorks(studio, DataPictures(), storage, clock=lambda: now)


def job_of(url: str, project: int, **params: Any) -> Job:
    asked = ReportWanted(project=project, **params).to_json()
    return Job(id="1", kind=REPORT, scope=Scope.of(url, str(project)), params=asked, key="")


def test_the_newest_page_takes_the_place_of_the_one_before(
    server: StudioServer,  # noqa: F811
    project: int,
):
    storage = MemoryStorage(max_blob_bytes=1_000_000)
    job = job_of(server.url, project)
    shelf = ReportShelf(storage, Scope.of(server.url, f"{project}.1795190531"))

    first = works(server.url, storage).works()[REPORT](Watched(job))
    before = shelf.page()
    second = works(server.url, storage, now=3600.0).works()[REPORT](Watched(job))

    page = shelf.page()
    assert page is not None
    assert before != page
    assert b"Cats &amp; dogs" in page
    assert (first["made"], second["made"]) == ("1970-01-01 00:00 UTC", "1970-01-01 01:00 UTC")
    assert shelf.facts() == ReportFacts(made=second["made"], bytes=len(page))
    assert storage.counts().blobs == 1
    assert (second["phase"], second["compared"]) == ("done", 1)
    assert second["headline"][0].startswith("Of 1 corrected picture")


def test_a_page_without_room_ends_the_job_and_no_older_one_is_promised(
    server: StudioServer,  # noqa: F811
    project: int,
):
    storage = MemoryStorage(max_blob_bytes=100)
    shelf = ReportShelf(storage, Scope.of(server.url, str(project)))
    shelf.keep(b"x", made="before")

    with pytest.raises(Hopeless, match="STORAGE_BLOBS_MB"):
        works(server.url, storage).works()[REPORT](Watched(job_of(server.url, project)))

    assert (shelf.facts(), shelf.page()) == (None, None)


def test_a_page_that_is_too_large_ends_the_job(
    server: StudioServer,  # noqa: F811
    project: int,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("backend.projects.reports.MOST_PAGE_BYTES", 1000)
    storage = MemoryStorage(max_blob_bytes=1_000_000)

    with pytest.raises(Hopeless, match="'cliper report' writes it to a file"):
        works(server.url, storage).works()[REPORT](Watched(job_of(server.url, project)))

    assert storage.counts().blobs == 0


@pytest.mark.parametrize("phase", ["counting", "comparing", "looking at pictures"])
def test_the_work_can_be_stopped_at_every_step(
    server: StudioServer,  # noqa: F811
    project: int,
    phase: str,
):
    storage = MemoryStorage(max_blob_bytes=1_000_000)
    handle = Watched(job_of(server.url, project), until=phase)

    with pytest.raises(Stopped):
        works(server.url, storage).works()[REPORT](handle)

    assert storage.counts().blobs == 0


def test_how_far_it_is_is_told_in_tasks(server: StudioServer, project: int):  # noqa: F811
    handle = Watched(job_of(server.url, project))

    works(server.url, MemoryStorage(max_blob_bytes=1_000_000)).works()[REPORT](handle)

    comparing = [one for one in handle.told if one["phase"] == "comparing"]
    assert [(one["done"], one["tasks"]) for one in comparing] == [(1, 1)]


def test_a_project_that_is_not_there_is_hopeless(server: StudioServer):  # noqa: F811
    storage = MemoryStorage(max_blob_bytes=1_000_000)

    with pytest.raises(Hopeless, match="404"):
        works(server.url, storage).works()[REPORT](Watched(job_of(server.url, 99)))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"project": "x"},
        {"project": 0},
        {"project": 1, "version": ""},
        {"project": 1, "version": "v" * 201},
        {"project": 1, "version": 5},
        {"project": 1, "worst": 5},
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused(body: dict[str, Any]):
    with pytest.raises(BadRequest):
        ReportWanted.from_json(body)


def test_a_wish_is_read_as_it_was_written():
    wanted = ReportWanted(project=5, version=OURS)

    assert ReportWanted.from_json(wanted.to_json()) == wanted
