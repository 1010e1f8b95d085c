"""Predictions are taken back where they are ours and nobody builds on them."""

import pytest

from backend.errors import BadRequest, StudioAway
from backend.jobs.base import Stopped
from backend.prelabel import undo as module
from backend.prelabel.progress import Progress
from backend.prelabel.undo import is_ours, undo
from backend.studio.project import StudioProject

from ....doubles.moments import Moments
from ....doubles.studio_server import Call, Fault, StudioServer
from .conftest import OLDER, THEIRS, VERSION


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 3)
    monkeypatch.setattr(module, "CHUNK", 2)


@pytest.fixture
def tasks(server: StudioServer, project: StudioProject) -> list[int]:
    """Ten of them."""
    server.add(project.id, *[{}] * 5)
    return server.ids(project.id)


def counts(progress: Progress) -> tuple[int, int, int]:
    return progress["total"], progress["removed"], progress["kept"]


@pytest.mark.parametrize(
    ("version", "ours"),
    [
        ("demo-cliper-1a2b3c4d", True),
        ("best-clip-surgery-00000000", True),
        ("fast-maskclip+-1a2b3c4d", True),
        ("standard-proxyclip-adjust-1a2b3c4d", True),
        ("demo-cliper-1a2b3c4d-checked", False),
        ("demo-cliper-1A2B3C4D", False),
        ("demo-cliper-1a2b3c4", False),
        ("demo-yolo-1a2b3c4d", False),
        ("mine-cliper-1a2b3c4d", False),
        ("x-demo-cliper-1a2b3c4d", False),
        ("demo-cliper-1a2b3c4d\n", False),
        ("undefined", False),
        ("", False),
    ],
)
def test_versions_of_ours_are_known_by_their_form(version: str, ours: bool):
    assert is_ours(version) is ours


def test_others_versions_are_refused(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    server.predict(tasks[0], THEIRS)
    server.predict(tasks[0], VERSION)

    with pytest.raises(BadRequest, match=rf"others' predictions.*in this project: {VERSION}$"):
        undo(project, THEIRS, progress)

    assert len(server.predictions) == 2


def test_a_version_nobody_has_is_nothing_to_do(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    undo(project, VERSION, progress)

    assert counts(progress) == (0, 0, 0)
    assert not server.asked("DELETE|POST")


def test_only_ours_leaves_the_export_as_it_was(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    before = server.export(project.id)
    for task in tasks:
        server.predict(task, VERSION)

    undo(project, VERSION, progress)

    assert server.export(project.id) == before
    assert counts(progress) == (10, 10, 0)
    assert not server.asked("DELETE"), "by batches"


def test_ours_beside_others_leaves_the_export_as_it_was(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    for task in tasks[3:]:
        server.predict(task, THEIRS)
        server.predict(task, OLDER)
    before = server.export(project.id)
    for task in tasks[:8]:
        server.predict(task, VERSION)

    undo(project, VERSION, progress)

    assert server.export(project.id) == before
    assert counts(progress) == (8, 8, 0)


def test_annotations_from_elsewhere_keep_nothing(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    server.annotate(tasks[0])
    server.annotate(tasks[1], skip=True)
    server.annotate(tasks[2], server.predict(tasks[2], THEIRS))
    before = server.export(project.id)
    for task in tasks:
        server.predict(task, VERSION)

    undo(project, VERSION, progress)

    assert server.export(project.id) == before
    assert counts(progress) == (10, 10, 0)


def test_what_somebody_builds_on_stays(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    numbers = [server.predict(task, VERSION) for task in tasks]
    server.annotate(tasks[0], numbers[0])
    server.annotate(tasks[1], numbers[1], skip=True)
    server.draft(tasks[2])
    theirs = server.predict(tasks[3], THEIRS)

    undo(project, VERSION, progress)

    assert sorted(server.predictions) == [*numbers[:3], theirs]
    assert counts(progress) == (10, 7, 3)


def test_of_two_on_a_task_only_the_one_built_on_stays(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    kept, _ = (server.predict(tasks[0], VERSION) for _ in range(2))
    server.annotate(tasks[0], kept)

    undo(project, VERSION, progress)

    assert list(server.predictions) == [kept]
    assert counts(progress) == (2, 1, 1)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_dry_run_counts_and_does_nothing(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress, mixed: bool
):
    numbers = [server.predict(task, VERSION) for task in tasks]
    server.draft(tasks[0])
    server.annotate(tasks[1], numbers[1])
    if mixed:
        server.predict(tasks[2], THEIRS)
    before = dict(server.predictions)

    undo(project, VERSION, progress, dry_run=True)
    told = counts(progress)

    assert server.predictions == before
    assert not server.asked("DELETE|POST")
    undo(project, VERSION, progress)
    assert counts(progress) == told == (10, 8, 2)


def test_only_where_another_version_is_too(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    old = [server.predict(task, OLDER) for task in tasks]
    new = [server.predict(task, VERSION) for task in tasks[:4]]

    undo(project, OLDER, progress, only_with=VERSION)

    assert sorted(server.predictions) == sorted(old[4:] + new)
    assert counts(progress) == (10, 4, 6)


@pytest.mark.parametrize("lookalike", [f"x-{VERSION}", f"{VERSION}-checked", VERSION.upper()])
def test_predictions_whose_version_looks_alike_are_not_ours(
    server: StudioServer,
    project: StudioProject,
    tasks: list[int],
    progress: Progress,
    lookalike: str,
):
    """Label Studio's filter looks for a part of the text."""
    theirs = [server.predict(task, lookalike) for task in tasks[:5]]
    for task in tasks[4:]:
        server.predict(task, VERSION)

    undo(project, VERSION, progress)

    assert sorted(server.predictions) == theirs
    assert counts(progress) == (6, 6, 0)


def test_other_projects_are_not_touched(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    (stranger,) = server.ids(server.project(tasks=1))
    number = server.predict(stranger, VERSION)
    server.predict(tasks[0], VERSION)

    undo(project, VERSION, progress)

    assert list(server.predictions) == [number]


@pytest.mark.parametrize("mixed", [False, True])
def test_stopping_anywhere_and_starting_again_ends_the_same(
    server: StudioServer, project: StudioProject, tasks: list[int], mixed: bool
):
    """It is stopped at its first pause, then at its second, and so on."""
    others = {server.predict(task, THEIRS) for task in tasks[:5]} if mixed else set()
    kept = server.predict(tasks[5], VERSION)
    server.annotate(tasks[5], kept)
    drafted = server.predict(tasks[6], VERSION)
    server.draft(tasks[6])
    for task in [*tasks[:5], *tasks[7:]]:
        server.predict(task, VERSION)

    for patience in range(30):
        left = [patience]

        def pause(left: list[int] = left) -> None:
            if left[0] == 0:
                raise Stopped
            left[0] -= 1

        try:
            undo(project, VERSION, Progress(), pause=pause)
        except Stopped:
            continue
        break

    assert set(server.predictions) == {kept, drafted} | others


def test_who_begins_while_it_goes_on_keeps_what_he_sees(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    """One by one, because something of the version has to stay."""
    numbers = [server.predict(task, VERSION) for task in tasks]
    for task in tasks:
        server.predict(task, THEIRS)
    server.annotate(tasks[0], numbers[0])

    def begin(call) -> None:
        if call.method == "DELETE" and not server.drafts:
            server.draft(tasks[-1])
            server.annotate(tasks[-2], numbers[-2])
            server.remove(tasks[-3])

    server.before = begin
    undo(project, VERSION, progress)

    assert server.versions(tasks[-1]) == [VERSION, THEIRS]
    assert server.versions(tasks[-2]) == [VERSION, THEIRS]
    assert server.versions(tasks[1]) == [THEIRS]


def test_tasks_touched_between_listing_and_deleting_lose_nothing_of_others(
    server: StudioServer,
    project: StudioProject,
    tasks: list[int],
    progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("backend.prelabel.undo.MANY", len(tasks))
    numbers = [server.predict(task, VERSION) for task in tasks]
    server.annotate(tasks[0], numbers[0])  # asked about by itself, while the others wait

    def begin(call) -> None:
        if call.path == "/api/predictions" and not server.drafts:
            server.draft(tasks[-1])
            server.annotate(tasks[-2], numbers[-2])
            server.predict(tasks[-3], THEIRS)

    server.before = begin
    undo(project, VERSION, progress)

    left = [server.versions(task) for task in tasks]
    assert left == [[VERSION], *[[]] * (len(tasks) - 4), [THEIRS], [VERSION], [VERSION]]
    assert (progress["removed"], progress["kept"]) == (len(tasks) - 3, 3)


def test_restarts_are_survived(
    server: StudioServer, project: StudioProject, tasks: list[int], progress: Progress
):
    before = server.export(project.id)
    for task in tasks:
        server.predict(task, VERSION)
    turn = iter(range(10**6))

    def trouble(call: Call) -> Fault | None:
        return Fault(drop=True, done=True) if next(turn) % 2 else None

    server.before = trouble
    undo(project, VERSION, progress)

    assert server.export(project.id) == before
    assert counts(progress) == (10, 10, 0)


def test_a_label_studio_that_stays_away_ends_it(
    server: StudioServer, project: StudioProject, moments: Moments, progress: Progress
):
    server.down()

    with pytest.raises(StudioAway):
        undo(project, VERSION, progress)
    server.up()
