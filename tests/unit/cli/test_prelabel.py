"""`cliper prelabel` before and after the work: what it refuses, and whose job it takes up."""

from contextlib import closing
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.jobs.book import JobBook
from backend.jobs.owner import this_process
from backend.storage.base import Scope
from backend.storage.open import open_storage

from ...doubles.studio_server import LEGACY_TOKEN, StudioServer
from ..backend.studio.conftest import server  # noqa: F401

VERSION = "demo-cliper-12345678"


@pytest.fixture
def store(
    server: StudioServer,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    address = f"sqlite:{tmp_path}/store.sqlite"
    for name, value in {
        "STORAGE": address,
        "LABEL_STUDIO_URL": server.url,
        "LABEL_STUDIO_API_KEY": LEGACY_TOKEN,
        "PROFILE": "demo",
    }.items():
        monkeypatch.setenv(name, value)
    return address


@pytest.mark.parametrize(
    "option",
    ["--view=5", "--filter=id>3", "--limit=0", "--redo", "--include-annotated", "--replace"],
)
def test_an_undo_of_some_tasks_is_refused_before_all_are_taken_back(
    server: StudioServer,  # noqa: F811
    store: str,
    capsys: pytest.CaptureFixture[str],
    option: str,
):
    project = server.project(1)
    server.predict(server.ids(project)[0], VERSION)

    assert main(["prelabel", "--project", str(project), "--undo", VERSION, option]) == 2

    name = option.partition("=")[0]
    assert f"{name} does not go with it" in capsys.readouterr().err
    assert len(server.predictions) == 1


def test_a_command_that_was_killed_many_times_goes_on(
    server: StudioServer,  # noqa: F811
    store: str,
    capsys: pytest.CaptureFixture[str],
):
    project = server.project(1)
    server.predict(server.ids(project)[0], VERSION)
    host = this_process().partition(":")[0]
    params = {"project": project, "version": VERSION, "dry_run": False}
    with closing(open_storage(store, max_blob_bytes=0)) as storage:
        book = JobBook(storage)
        scope = Scope.of(server.url, str(project))
        job, _ = book.place("undo-here", params, scope=scope)
        for death in range(book.rules.most_deaths):
            owner = f"{host}:999999999:{death}"  # no process has this number
            assert book.claim(owner, token=str(death), kinds=[job.kind], only=job.id)

    assert main(["prelabel", "--project", str(project), "--undo", VERSION]) == 0

    assert not server.predictions
    assert f"going on with job {job.id}" in capsys.readouterr().err


def test_a_job_that_no_service_has_begun_is_not_said_to_be_at_work(
    server: StudioServer,  # noqa: F811
    store: str,
    capsys: pytest.CaptureFixture[str],
):
    project = server.project(1)
    with closing(open_storage(store, max_blob_bytes=0)) as storage:
        scope = Scope.of(server.url, str(project))
        job, _ = JobBook(storage).place("prelabel", {"project": project}, scope=scope)

    assert main(["prelabel", "--project", str(project)]) == 3

    said = capsys.readouterr().err
    assert f"job {job.id} on project {project} is queued: a service on this store" in said


def test_an_undo_says_in_the_end_what_was_removed(
    server: StudioServer,  # noqa: F811
    store: str,
    capsys: pytest.CaptureFixture[str],
):
    project = server.project(2)
    for task in server.ids(project):
        server.predict(task, VERSION)

    assert main(["prelabel", "--project", str(project), "--undo", VERSION]) == 0

    assert capsys.readouterr().err.endswith("cliper: removed: 2 of 2, 2 removed\n")
