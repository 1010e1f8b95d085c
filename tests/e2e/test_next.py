"""`cliper next` in a real Label Studio: a tab with the tasks to correct, and nobody else's."""

import json
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.demo import projects
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.learning.next_up import title


def test_the_tab_holds_the_chosen_tasks_and_is_filled_anew(
    api: LabelStudioApi,
    label_studio: LabelStudioServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn = projects.everything(6, 17)
    number = api.create_project("next", drawn.label_config)
    tasks = api.upload(number, {one.name: one.to_png() for one in drawn.pictures})
    for name, value in {
        "PROFILE": "demo",
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.account.token,
        "STORAGE": f"sqlite:{tmp_path / 'store.sqlite'}",
    }.items():
        monkeypatch.setenv(name, value)

    def asked(count: int) -> tuple[list[int], int]:
        assert main(["next", "--project", str(number), "-n", str(count), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        return [one["task"] for one in told["tasks"]], told["tab"]

    def shown(tab: int) -> set[int]:
        listed = api.call("GET", "/api/tasks", params={"view": tab, "project": number})
        return {int(one["id"]) for one in listed["tasks"]}

    first, tab = asked(3)
    assert len(first) == 3
    assert set(first) <= set(tasks.values())
    assert shown(tab) == set(first)

    api.call("POST", f"/api/tasks/{first[0]}/annotations/", json={"result": []})
    second, again = asked(2)
    assert again == tab
    assert first[0] not in second
    assert shown(tab) == set(second)
    tabs = api.call("GET", "/api/dm/views/", params={"project": number})
    assert [one["data"]["title"] for one in tabs] == [title(2)]
