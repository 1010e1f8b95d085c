"""Which tasks a run takes on, and how it counts those it leaves alone."""

import pytest

from backend.prelabel import selection
from backend.prelabel.progress import Progress
from backend.prelabel.selection import measure, select
from backend.prelabel.wanted import Wanted
from backend.studio import project as studio_project
from backend.studio.project import StudioProject, lacks_version

from ....doubles.studio_server import StudioServer
from .conftest import THEIRS, VERSION

LEFT_ALONE = ("already", "annotated", "drafted", "gone")


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tasks to a page."""
    monkeypatch.setattr(selection, "PAGE", 3)
    monkeypatch.setattr(studio_project, "ID_PAGE", 4)
    page = StudioProject.page

    def small(self, filters=(), **options):
        return page(self, filters, **{"size": 3, **options})

    monkeypatch.setattr(StudioProject, "page", small)


@pytest.fixture
def project(server: StudioServer, studio) -> StudioProject:
    """Ten tasks: 1 has ours, 2 somebody else's prediction, 3 is annotated, 4 skipped, 5 drafted."""
    found = StudioProject(studio, server.project(tasks=10))
    tasks = server.ids(found.id)
    server.predict(tasks[1], VERSION)
    server.predict(tasks[2], THEIRS)
    server.annotate(tasks[3])
    server.annotate(tasks[4], skip=True)
    server.draft(tasks[5])
    return found


def places(server: StudioServer, project: StudioProject, numbers: list[int]) -> list[int]:
    return [server.ids(project.id).index(number) for number in numbers]


def chosen(server: StudioServer, project: StudioProject, progress: Progress, **wish) -> list[int]:
    wanted = Wanted(project=project.id, **wish)
    measure(project, wanted, VERSION, progress)
    found = [one.id for page in select(project, wanted, VERSION, progress) for one in page]
    return places(server, project, found)


def aside(progress: Progress) -> list[int]:
    return [progress[name] for name in LEFT_ALONE]


def tab(server: StudioServer, project: StudioProject, *filters, order: str = "-tasks:id") -> int:
    number = server.next()
    data = {"ordering": [order], "filters": {"conjunction": "and", "items": list(filters)}}
    server.views[number] = {"id": number, "project": project.id, "data": data}
    return number


def test_human_work_and_what_is_done_is_left_alone(
    server: StudioServer, project: StudioProject, progress: Progress
):
    assert chosen(server, project, progress) == [0, 2, 6, 7, 8, 9]
    assert aside(progress) == [1, 2, 1, 0]
    assert (progress["total"], progress.left) == (10, 6)


def test_redoing_takes_what_is_done_too(
    server: StudioServer, project: StudioProject, progress: Progress
):
    assert chosen(server, project, progress, redo=True) == [0, 1, 2, 6, 7, 8, 9]
    assert aside(progress) == [0, 2, 1, 0]


def test_human_work_is_taken_where_that_is_asked_for(
    server: StudioServer, project: StudioProject, progress: Progress
):
    assert chosen(server, project, progress, include_annotated=True) == [0, *range(2, 10)]
    assert aside(progress) == [1, 0, 0, 0]


def test_filters_narrow_it(server: StudioServer, project: StudioProject, progress: Progress):
    assert chosen(server, project, progress, filters=("data.n>=5", "data.n!=8")) == [6, 7, 9]
    assert (progress["total"], progress.left) == (4, 3)


@pytest.mark.parametrize("limit", range(1, 9))
@pytest.mark.parametrize("by", ["number", "tab", "name"])
def test_a_limit_counts_what_is_taken_and_not_what_is_left_alone(
    server: StudioServer, project: StudioProject, progress: Progress, limit: int, by: str
):
    wish: dict[str, object] = {
        "number": {},
        "tab": {"view": tab(server, project, order="tasks:id")},
        "name": {"tasks": tuple(server.ids(project.id))},
    }[by]
    expected = [0, 2, 6, 7, 8, 9][:limit]

    assert chosen(server, project, progress, limit=limit, **wish) == expected
    assert progress.left == len(expected)


def test_a_project_without_tasks_is_done(server: StudioServer, studio, progress: Progress):
    empty = StudioProject(studio, server.project())

    assert chosen(server, empty, progress) == []
    assert chosen(server, empty, progress, view=tab(server, empty)) == []
    assert progress.left == 0


def test_a_tab_is_taken_in_its_order(
    server: StudioServer, project: StudioProject, progress: Progress
):
    assert chosen(server, project, progress, view=tab(server, project)) == [9, 8, 7, 6, 2, 0]
    assert aside(progress) == [1, 2, 1, 0]
    assert (progress["total"], progress.left) == (10, 6)


def test_tasks_are_taken_by_name_in_the_order_given(
    server: StudioServer, project: StudioProject, progress: Progress
):
    tasks = server.ids(project.id)
    (stranger,) = server.ids(server.project(tasks=1))
    given = (tasks[7], stranger, tasks[0], tasks[4], tasks[1], tasks[5])

    assert chosen(server, project, progress, tasks=given) == [7, 0]
    assert aside(progress) == [1, 1, 1, 1]
    assert (progress["total"], progress.left) == (6, 2)


def test_filters_narrow_a_tab_and_what_they_leave_out_is_not_gone(
    server: StudioServer, project: StudioProject, progress: Progress
):
    wish = {"view": tab(server, project), "filters": ("data.n>=5",)}

    assert chosen(server, project, progress, **wish) == [9, 8, 7, 6]
    assert aside(progress) == [0, 0, 1, 0]
    assert (progress["total"], progress.left) == (5, 4)


@pytest.mark.parametrize("by_tab", [False, True])
def test_what_is_written_meanwhile_does_not_shift_the_pages(
    server: StudioServer, project: StudioProject, progress: Progress, by_tab: bool
):
    """Also for a tab that shows only tasks without our predictions."""
    view = tab(server, project, lacks_version(VERSION), order="tasks:id") if by_tab else None
    wanted = Wanted(project=project.id, view=view)
    measure(project, wanted, VERSION, progress)

    found = []
    for page in select(project, wanted, VERSION, progress):
        for one in page:
            found.append(one.id)
            server.predict(one.id, VERSION)

    assert places(server, project, found) == [0, 2, 6, 7, 8, 9]


@pytest.mark.parametrize("by_tab", [False, True])
def test_tasks_that_go_meanwhile_are_no_trouble(
    server: StudioServer, project: StudioProject, progress: Progress, by_tab: bool
):
    tasks = server.ids(project.id)
    wanted = Wanted(
        project=project.id, view=tab(server, project, order="tasks:id") if by_tab else None
    )
    measure(project, wanted, VERSION, progress)

    found = []
    for number, page in enumerate(select(project, wanted, VERSION, progress)):
        found += [one.id for one in page]
        if number == 0:
            server.remove(tasks[7])
            server.remove(tasks[8])

    assert found == [tasks[n] for n in (0, 2, 6, 9)]
    assert progress["gone"] == (2 if by_tab else 0)


def test_work_that_begins_meanwhile_is_left_alone(
    server: StudioServer, project: StudioProject, progress: Progress
):
    tasks = server.ids(project.id)
    wanted = Wanted(project=project.id)
    found = []
    for number, page in enumerate(select(project, wanted, VERSION, progress)):
        found += [one.id for one in page]
        if number == 0:
            server.draft(tasks[7])
            server.annotate(tasks[8])

    assert places(server, project, found) == [0, 2, 6, 9]


def test_pages_are_asked_for_one_at_a_time(
    server: StudioServer, project: StudioProject, progress: Progress
):
    pages = select(project, Wanted(project=project.id), VERSION, progress)
    server.calls.clear()

    next(pages)

    assert len(server.calls) == 2, "a page, and who of it is drafted"
