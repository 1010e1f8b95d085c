"""A project a page at a time, whatever goes and comes meanwhile."""

import json

import pytest

from backend.errors import StudioRefused
from backend.studio import project as module
from backend.studio.client import Studio
from backend.studio.project import (
    StudioProject,
    among,
    has_draft,
    has_version,
    lacks_version,
    unannotated,
)

from ....doubles.studio_server import CONFIG, StudioServer


def body(*tasks: int, version: str = "v", name: str = "seg") -> bytes:
    return json.dumps(
        [
            {"task": task, "result": [{"from_name": name}], "model_version": version}
            for task in tasks
        ]
    ).encode()


def test_the_facts_of_a_project(server: StudioServer, studio: Studio):
    number = server.project(tasks=2, model_version="v", evaluates=True)

    facts = StudioProject(studio, number).facts()

    assert facts.key == f"{number}.1769855431"
    assert (facts.label_config, facts.tasks) == (CONFIG, 2)
    assert (facts.model_version, facts.listing_predicts) == ("v", True)


def test_a_project_that_is_not_there_is_said(studio: Studio):
    with pytest.raises(StudioRefused, match="404: No Project matches"):
        StudioProject(studio, 99).facts()


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("largest", [None, 1, 3])
def test_numbers_of_tasks_come_all_however_small_the_pages_are(
    server: StudioServer,
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    largest: int | None,
):
    monkeypatch.setattr(module, "ID_PAGE", 3)
    server.largest_page = largest
    project = StudioProject(studio, server.project(tasks=count))
    tab = {"project": project.id, "data": {"ordering": ["-tasks:id"]}}
    server.views[5] = {"id": 5, **tab}

    expected = server.ids(project.id)

    assert list(project.ids()) == expected
    assert list(project.ids_of_view(5)) == expected[::-1]
    assert list(project.tasks(expected[::-1])) == expected[::-1]


def test_numbers_of_tasks_do_not_shift_while_tasks_go(
    server: StudioServer, project: StudioProject, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ID_PAGE", 2)
    there = server.ids(project.id)

    found = []
    for number in project.ids():
        found.append(number)
        server.remove(number)

    assert found == there


def test_a_tab_whose_last_tasks_went_while_it_was_read_is_read_to_its_end(
    server: StudioServer, project: StudioProject, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ID_PAGE", 3)
    server.views[5] = {"id": 5, "project": project.id, "data": {}}
    *kept, last, very_last = server.ids(project.id)

    def remove(call) -> None:
        if call.query.get("page") == "2":
            server.remove(last)
            server.remove(very_last)

    server.before = remove

    assert list(project.ids_of_view(5)) == kept


def test_pages_have_data_and_counts(server: StudioServer, project: StudioProject):
    first, second, *_ = server.ids(project.id)
    server.annotate(first)
    server.annotate(first, skip=True)
    server.predict(first, "v")

    page = project.page(size=2)

    assert [one.id for one in page.tasks] == [first, second]
    assert page.total == 5
    assert (page.tasks[0].annotations, page.tasks[0].predictions) == (2, 1)
    assert page.tasks[1].task.data == {"image": "1", "n": 1}
    assert project.page(size=2, with_data=False).tasks[1].task.data == {}


def test_only_what_is_asked_for_is_sent(server: StudioServer, project: StudioProject):
    project.page(size=1, with_data=False)

    (call,) = server.calls
    assert "data" not in call.query["include"].split(",")
    assert call.query["resolve_uri"] == "false"


def test_a_task_of_another_project_is_not_among_ours(server: StudioServer, project: StudioProject):
    (stranger,) = server.ids(server.project(tasks=1))

    assert project.tasks([stranger]) == {}
    assert project.count([among([stranger])]) == 0


def test_everybody_s_drafts_count(server: StudioServer, project: StudioProject):
    first, second, *_ = server.ids(project.id)
    server.draft(first)
    server.annotate(second, skip=True)

    assert project.drafted() == {first}
    assert list(project.ids([has_draft()])) == [first]
    assert second not in list(project.ids(unannotated()))


@pytest.mark.parametrize("strict", [True, False])
def test_writing_says_how_many_were_stored(
    server: StudioServer, project: StudioProject, strict: bool
):
    server.strict = strict
    first, second, *_ = server.ids(project.id)

    assert project.write(body(first)) == 1
    mixed = b"%b,%b" % (body(first)[:-1], body(second, name="nobody")[1:])
    if strict:
        with pytest.raises(StudioRefused, match="Prediction 1: Region 0: Control tag 'nobody'"):
            project.write(mixed)
    else:
        assert project.write(mixed) == 1
    assert project.versions() == {"v": 1 if strict else 2}


def test_no_tasks_to_clear_is_nobody_not_everybody(server: StudioServer, project: StudioProject):
    server.predict(server.ids(project.id)[0], "somebody's")

    project.delete_all_of([])

    assert project.versions() == {"somebody's": 1}


def test_what_a_task_had_is_nothing_once_it_is_gone(server: StudioServer, project: StudioProject):
    (gone, *_) = server.ids(project.id)
    server.remove(gone)

    assert project.predictions(gone) == []
    assert project.annotations(gone) == []


def test_a_version_within_another_s_name_looks_alike(server: StudioServer, project: StudioProject):
    first, second, third, *_ = server.ids(project.id)
    server.predict(first, "demo-cliper-12345678")
    server.predict(second, "Demo-CLIPer-12345678-checked")
    server.predict(third, "another")

    assert project.lookalikes("demo-cliper-12345678") == ["Demo-CLIPer-12345678-checked"]
    assert project.lookalikes("another") == []


def test_predictions_are_deleted_by_version_by_task_and_by_number(
    server: StudioServer, project: StudioProject
):
    first, second, third, *_ = server.ids(project.id)
    for task in (first, second, third):
        server.predict(task, "a")
        server.predict(task, "b")
    before = server.export(project.id)

    project.delete_version("a")
    project.delete_all_of([first])
    assert list(project.ids([has_version("b")])) == [second, third]
    assert first in list(project.ids([lacks_version("b")]))
    assert b'"updated_by": 1' not in server.export(project.id)
    assert before != server.export(project.id)

    (one,) = project.predictions(second)
    project.delete_prediction(one["id"])
    assert server.tasks[second]["updated_by"] == 1, "Label Studio takes it for a change"
