"""`cliper next`: what is printed, what becomes of the tab, and with which status it ends."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backend.__main__ import main
from backend.learning import next_up as use_case
from backend.learning.next_up import NextUp

from ...doubles.colours import colour_source
from ...doubles.pictures import brush_config
from ...doubles.studio_server import LEGACY_TOKEN, StudioServer, studio_server

Arguments = list[str]


@pytest.fixture
def server() -> Iterator[StudioServer]:
    with studio_server() as running:
        yield running


@pytest.fixture
def tasks(server: StudioServer) -> list[int]:
    number = server.project(label_config=brush_config(["red", "blue"]))
    return [number, *server.add(number, *({"image": str(n)} for n in range(3)))]


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch, server: StudioServer, tasks: list[int]) -> Arguments:
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROFILE", "demo")
    monkeypatch.setenv("STORAGE", "memory:")
    monkeypatch.setattr("backend.wiring.real_model", lambda settings, **_: colour_source())
    number = str(tasks[0])
    return ["next", "--project", number, "--url", server.url, "--token", LEGACY_TOKEN]


def find(monkeypatch: pytest.MonkeyPatch, *found: int, **more: Any) -> list[dict[str, Any]]:
    """The tasks that are found; what is asked for is in the list."""
    asked: list[dict[str, Any]] = []

    def next_up(*_: object, told: Any, **options: Any) -> NextUp:
        asked.append(options)
        told(1, 1)
        fields = {"free": 3, "looked": 3, "failed": {}, "version": "demo-cliper-00000000", **more}
        return NextUp(tasks=found, reasons=(("red", "blue"),) * len(found), **fields)

    monkeypatch.setattr(use_case, "next_up", next_up)
    return asked


def test_the_tasks_and_where_to_correct_them_are_told(
    arguments, monkeypatch, capsys, server: StudioServer, tasks: list[int]
) -> None:
    asked = find(monkeypatch, tasks[2], tasks[1], failed={tasks[3]: "nobody is there"})

    assert main([*arguments, "-n", "2", "--among", "7"]) == 0

    assert asked == [{"count": 2, "among": 7}]
    (tab,) = server.views
    assert capsys.readouterr().out.splitlines() == [
        "looked at 3 of 3 tasks nobody has worked on",
        f"task {tasks[3]} could not be looked at: nobody is there",
        f"  task {tasks[2]}  red, blue",
        f"  task {tasks[1]}  red, blue",
        f"correct them in {server.url}/projects/{tasks[0]}/data?tab={tab}",
    ]
    assert server.views[tab]["data"]["title"] == "Next 2 to correct (CLIPer)"


def test_as_json_the_tab_has_a_number_and_an_address(
    arguments, monkeypatch, capsys, server: StudioServer, tasks: list[int]
) -> None:
    find(monkeypatch, tasks[1])

    assert main([*arguments, "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    (tab,) = server.views
    assert told["tasks"] == [{"task": tasks[1], "labels": ["red", "blue"]}]
    assert (told["tab"], told["address"]) == (
        tab,
        f"{server.url}/projects/{tasks[0]}/data?tab={tab}",
    )


def test_who_only_wants_it_printed_gets_no_tab(
    arguments, monkeypatch, capsys, server: StudioServer, tasks: list[int]
) -> None:
    find(monkeypatch, tasks[1])

    assert main([*arguments, "--print"]) == 0

    assert not server.views
    assert "correct them in" not in capsys.readouterr().out


def test_nothing_left_ends_with_1_and_leaves_the_tab_as_it_was(
    arguments, monkeypatch, capsys, server: StudioServer, tasks: list[int]
) -> None:
    find(monkeypatch, tasks[1])
    main(arguments)
    before = json.dumps(list(server.views.values()))
    find(monkeypatch, free=0, looked=0)

    assert main(arguments) == 1

    assert json.dumps(list(server.views.values())) == before
    assert "nothing is left to correct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["-n", "0"], "-n must be from 1 to 500, got 0"),
        (["-n", "501"], "-n must be from 1 to 500, got 501"),
        (["-n", "9", "--among", "8"], "--among must be at least as many as -n, 9, got 8"),
    ],
)
def test_wrong_usage_is_one_sentence_and_2(
    arguments, wrong: list[str], sentence: str, capsys
) -> None:
    assert main([*arguments, *wrong]) == 2

    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_a_project_that_is_not_there_costs_no_look_at_a_picture(
    arguments, monkeypatch, capsys
) -> None:
    asked = find(monkeypatch)
    arguments[2] = "99999"

    assert main(arguments) == 2

    assert not asked
    assert "404" in capsys.readouterr().err
