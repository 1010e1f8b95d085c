"""Tasks to correct next, found in a project and made a tab of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from backend.errors import BadRequest, Unreachable
from backend.labelstudio.tasks import Task
from backend.learning import next_up as use_case
from backend.storage.base import Scope
from backend.storage.memory import MemoryStorage
from backend.studio.client import Studio
from backend.studio.project import StudioProject

from ....doubles.pictures import brush_config
from ....doubles.studio_server import LEGACY_TOKEN, StudioServer, studio_server

DOUBTS = {  # by address; of the labels red and green
    "calm": (0.0, 0.0),
    "red": (0.2, 0.0),
    "redder": (0.25, 0.0),
    "green": (0.0, 0.1),
}


class Plan:
    version = "demo-cliper-00000000"

    def picture_addresses(self, task: Task) -> list[str]:
        return [task.data["image"]]


class Desk:
    plan = Plan()


class Glances:
    """A predictor whose doubts are told by the picture's address."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def desk(self, config: str, extra_params: object = None, *, project: Any = None) -> Any:
        assert project is not None  # what was learnt has a say
        return Desk()

    def stream(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("nothing is predicted")

    def doubts(self, task: Task, desk: Any) -> dict[tuple[str, str], float]:
        self.asked.append(int(task.id or 0))
        address = task.data["image"]
        if address == "broken":
            raise Unreachable("http://x/broken", "nobody is there")
        if address == "untaught":
            return {}
        red, green = DOUBTS[address]
        return {("seg", "red"): red, ("seg", "green"): green}


@pytest.fixture
def server() -> Iterator[StudioServer]:
    with studio_server() as running:
        yield running


def project_of(server: StudioServer, *addresses: str) -> tuple[StudioProject, list[int]]:
    number = server.project(label_config=brush_config(["red", "green"]))
    tasks = server.add(number, *({"image": address} for address in addresses))
    studio = Studio(server.url, LEGACY_TOKEN, pause=lambda _: None)
    return StudioProject(studio, number), tasks


def found_in(project: StudioProject, glances: Glances, **options: Any) -> use_case.NextUp:
    storage = options.pop("storage", None) or MemoryStorage(max_blob_bytes=10**6)
    values = {"count": 10, **options}
    return use_case.next_up(project, glances, storage, Scope("http://x:80", "1"), **values)


def test_doubtful_tasks_of_every_label_come_first(server: StudioServer) -> None:
    project, tasks = project_of(server, "calm", "red", "redder", "green")

    found = found_in(project, Glances(), count=2)

    assert found.tasks == (tasks[2], tasks[3])
    assert found.reasons == (("red", "green"), ("green", "red"))
    assert (found.free, found.looked, found.failed) == (4, 4, {})


def test_tasks_somebody_worked_on_are_left_alone_and_count_as_seen(server: StudioServer) -> None:
    project, tasks = project_of(server, "red", "redder", "green", "calm", "red")
    server.annotate(tasks[1])
    server.annotate(tasks[4], skip=True)
    server.draft(tasks[0])

    found = found_in(project, Glances(), count=5)

    assert found.tasks == (tasks[2], tasks[3])
    assert found.free == 2


def test_a_picture_that_cannot_be_had_loses_only_itself(server: StudioServer) -> None:
    project, tasks = project_of(server, "broken", "green")

    found = found_in(project, Glances())

    assert found.tasks == (tasks[1],)
    assert "nobody is there" in found.failed[tasks[0]]


def test_a_second_question_looks_at_nothing_again(server: StudioServer) -> None:
    project, tasks = project_of(server, "red", "green")
    glances, storage = Glances(), MemoryStorage(max_blob_bytes=10**6)

    first = found_in(project, glances, storage=storage)
    again = found_in(project, glances, storage=storage)

    assert again == first
    assert sorted(glances.asked) == tasks


def test_of_many_tasks_some_are_looked_at_evenly(server: StudioServer) -> None:
    project, tasks = project_of(server, *["red"] * 7)

    found = found_in(project, Glances(), count=2, among=3)

    assert found.looked == 3
    assert set(found.tasks) <= set(tasks[::3])


def test_a_method_that_cannot_learn_is_refused(server: StudioServer) -> None:
    project, _ = project_of(server, "untaught")

    with pytest.raises(BadRequest, match="cannot learn; use cliper"):
        found_in(project, Glances())


def test_of_an_empty_project_nothing_is_next(server: StudioServer) -> None:
    project, _ = project_of(server)

    assert found_in(project, Glances()).tasks == ()


def test_the_tab_is_made_once_and_filled_anew(server: StudioServer) -> None:
    project, tasks = project_of(server, "red", "green", "calm")

    other = project.save_tab("Somebody's", tasks, is_ours=lambda title: False)
    first = project.save_tab(use_case.title(2), tasks[:2], is_ours=use_case.is_ours)
    again = project.save_tab(use_case.title(1), tasks[2:], is_ours=use_case.is_ours)

    assert first == again != other
    assert server.views[first]["data"]["title"] == "Next 1 to correct (CLIPer)"
    filters = server.views[first]["data"]["filters"]
    assert filters["conjunction"] == "or"  # a list in one filter leaves the page empty
    assert [one["value"] for one in filters["items"]] == tasks[2:]


@pytest.mark.parametrize("name", ["Mine", "Next 2 to correct (CLIPer), for Ann", ""])
def test_a_tab_that_was_renamed_is_left_alone(server: StudioServer, name: str) -> None:
    project, tasks = project_of(server, "red", "green")
    first = project.save_tab(use_case.title(2), tasks, is_ours=use_case.is_ours)
    server.views[first]["data"]["title"] = name

    assert project.save_tab(use_case.title(1), tasks[:1], is_ours=use_case.is_ours) != first
    assert len(server.views[first]["data"]["filters"]["items"]) == 2


def test_a_tab_that_the_browser_wrote_is_ours_still(server: StudioServer) -> None:
    project, tasks = project_of(server, "red", "green")
    first = project.save_tab(use_case.title(2), tasks, is_ours=use_case.is_ours)
    data = server.views[first]["data"]
    server.views[first]["data"] = {"title": data["title"], "type": "list", "gridWidth": 4}

    assert project.save_tab(use_case.title(1), tasks[:1], is_ours=use_case.is_ours) == first
    assert server.views[first]["data"]["ordering"] == ["tasks:predictions_score"]
