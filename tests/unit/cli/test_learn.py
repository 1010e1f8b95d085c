"""`cliper learn`: what it shows, and what it takes back; the work itself is tested elsewhere."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.__main__ import main
from backend.learning.records import Active, Changed, LeftOut, Records, Version
from backend.lessons import Learned, Lesson
from backend.storage.base import Scope
from backend.storage.open import open_storage

from ...doubles.classroom import evidence
from ...doubles.studio_server import LEGACY_TOKEN, StudioServer
from ..backend.studio.conftest import server  # noqa: F401

VERDICT = {"seg": {"better": True, "reason": "switched on: it is better", "tasks": 5}}


def learned(number: int) -> Learned:
    return Learned(lessons={"seg": Lesson(model="m", thresholds={"cat": number / 10})})


FIRST, SECOND = learned(1).digest, learned(2).digest


@pytest.fixture
def store(
    server: StudioServer,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Project 7 has two versions, the second in use, a task with evidence and one without."""
    address = f"sqlite:{tmp_path}/store.sqlite"
    for name, value in {
        "STORAGE": address,
        "LABEL_STUDIO_URL": server.url,
        "LABEL_STUDIO_API_KEY": LEGACY_TOKEN,
        "PROFILE": "demo",
        "TZ": "UTC",
    }.items():
        monkeypatch.setenv(name, value)
    with closing(open_storage(address, max_blob_bytes=0)) as storage:
        records = Records(storage, Scope.of(server.url, "7"))
        records.settle(evidence(3, 11, 5), records.look(3))
        out = LeftOut(task=4, reason="the picture is gone", annotations=(12,))
        records.settle(out, records.look(4))
        for number in (1, 2):
            records.keep(learned(number))
            made = Version(
                digest=learned(number).digest,
                used=True,
                made_from=f"{number}",
                chosen=(1, 2, 3),
                when=1000.0 * number,
                verdicts=VERDICT,
            )
            records.remember(made)
            active = Active(digest=made.digest, tasks=3, made_from=made.made_from)
            assert records.activate(active, expected=records.active()[1])
            records.name_states()
    return address


def told(capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    assert main(["learn", "--project", "7", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_status_says_what_is_in_use_and_why(store: str, capsys: pytest.CaptureFixture[str]):
    assert main(["learn", "--project", "7", "--status"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"in use: version {SECOND}, learnt from 3 tasks",
        "       1  corrected tasks are known",
        "       1  tasks teach nothing:",
        "          task 4: the picture is gone",
        f"1970-01-01 00:33  {SECOND}  active, from 3 tasks",
        "                  seg: switched on: it is better",
        f"1970-01-01 00:16  {FIRST}  retired, from 3 tasks",
        "                  seg: switched on: it is better",
    ]


def test_the_status_as_json_has_everything(store: str, capsys: pytest.CaptureFixture[str]):
    found = told(capsys, "--status")

    assert [one["state"] for one in found.pop("versions")] == ["active", "retired"]
    assert found == {
        "project": 7,
        "version": SECOND,
        "learnt_from": 3,
        "pinned": None,
        "asked": None,
        "unsettled": False,
        "tasks": [{"task": 3, "annotation": 11, "kept": "whole"}],
        "left_out": [{"task": 4, "reason": "the picture is gone"}],
    }


@pytest.mark.parametrize(
    ("option", "version"),
    [
        ([FIRST], FIRST),
        ([FIRST[:5]], FIRST),
        ([SECOND], SECOND),
        ([], FIRST),
        (["nothing"], None),
    ],
)
def test_a_version_is_taken_back_by_one_command(
    store: str, capsys: pytest.CaptureFixture[str], option: list[str], version: str | None
):
    found = told(capsys, "--rollback", *option)
    states = {one["digest"]: one["state"] for one in found["versions"]}

    assert (found["version"], found["pinned"]) == (version, version or "")
    assert [name for name, state in states.items() if state == "active"] == (
        [version] if version else []
    )


def test_a_version_that_nobody_knows_is_refused(store: str, capsys: pytest.CaptureFixture[str]):
    assert main(["learn", "--project", "7", "--rollback", "feed"]) == 2

    assert f"none of this project's, which are: {SECOND}, {FIRST}" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--now", "--status"], ["--rollback", "--resume"]])
def test_two_wishes_at_once_are_refused(store: str, options: list[str]):
    with pytest.raises(SystemExit):
        main(["learn", "--project", "7", *options])


def test_an_empty_project_has_nothing_in_use(store: str, capsys: pytest.CaptureFixture[str]):
    assert main(["learn", "--project", "8", "--status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "in use: nothing learnt",
        "       0  corrected tasks are known",
    ]


def test_it_learns_here_and_now_what_label_studio_says(
    server: StudioServer,  # noqa: F811
    store: str,
    capsys: pytest.CaptureFixture[str],
):
    """A picture that cannot be had leaves its task out; the rest goes on."""
    project = server.project(tasks=2)
    first, second = server.ids(project)
    server.annotate(first)
    server.annotate(second, skip=True)
    with closing(open_storage(store, max_blob_bytes=0)) as storage:
        records = Records(storage, Scope.of(server.url, str(project)))
        records.note(Changed(tasks=frozenset({second})))

    assert main(["learn", "--project", str(project), "--reread", "--json"]) == 0
    answer = capsys.readouterr()
    found = json.loads(answer.out)

    assert found["unsettled"] is False
    assert found["version"] is None
    assert [one["task"] for one in found["left_out"]] == [first]
    assert "looking at annotations" in answer.err


def test_a_project_that_is_not_there_is_said(store: str, capsys: pytest.CaptureFixture[str]):
    assert main(["learn", "--project", "999"]) == 2
    assert "project 999 is not there" in capsys.readouterr().err


def test_a_rollback_is_taken_back(
    server: StudioServer,  # noqa: F811
    store: str,
    capsys: pytest.CaptureFixture[str],
):
    project = server.project(tasks=0)
    with closing(open_storage(store, max_blob_bytes=0)) as storage:
        records = Records(storage, Scope.of(server.url, str(project)))
        records.wish(lambda wishes: replace(wishes, pinned=""))

    assert main(["learn", "--project", str(project), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pinned"] is None
