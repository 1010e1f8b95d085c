"""`cliper preview`: what is printed and written, and with which status it ends."""

import base64
import json
from pathlib import Path

import pytest

from backend.__main__ import main
from cliper_model.errors import CliperError

from ...doubles.colours import colour_source
from ...doubles.pictures import brush_config, encoded, stripes
from ...doubles.studio_project import Kept, ReadOnlyProject

PICTURE = encoded(stripes("red", "green", height=12, width=8))


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROFILE", "demo")
    monkeypatch.setattr("backend.wiring.real_model", lambda settings, **_: colour_source())
    out = str(tmp_path / "out")
    return [
        "preview",
        "--project",
        "7",
        "--url",
        "http://studio.test",
        "--token",
        "t",
        "--out",
        out,
    ]


def studio(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """A Label Studio with one project."""
    tasks = [Kept(number, {"image": one}) for number, one in enumerate(addresses, 1)]
    project = ReadOnlyProject(brush_config(["red", "blue"]), tasks, title="Harbour")
    monkeypatch.setattr("backend.studio.project.StudioProject", lambda studio, number: project)


def data_url(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def test_page_sheet_and_figures_are_written(arguments, monkeypatch, capsys, tmp_path: Path):
    studio(monkeypatch, *[data_url(PICTURE)] * 3)

    assert main(arguments) == 0

    told = capsys.readouterr()
    assert "project 7 'Harbour': 3 of 3 tasks to pre-label with paintbox-colours-" in told.out
    assert "go on with: cliper prelabel --project 7" in told.out
    assert "warning: in no picture of the sample: blue" in told.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "page.html",
        "sheet.png",
        "preview.json",
    }
    found = json.loads((tmp_path / "out" / "preview.json").read_text())
    assert found["tasks"] == {"matching": 3, "to_do": 3}
    assert [one["label"] for one in found["labels"]] == ["red", "blue"]


def test_some_failures_end_with_0_and_nothing_but_failures_with_1(arguments, monkeypatch, capsys):
    studio(monkeypatch, data_url(PICTURE), data_url(b"no picture"))
    assert main(arguments) == 0

    studio(monkeypatch, data_url(b"no picture"))
    assert main(arguments) == 1

    assert "failed: " in capsys.readouterr().out


def test_nothing_to_look_at_is_no_failure(arguments, monkeypatch, capsys):
    studio(monkeypatch)

    assert main(arguments) == 0

    assert "no task matches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["-n", "0"], "-n must be from 1 to 200, got 0"),
        (["-n", "201"], "-n must be from 1 to 200, got 201"),
        (["--filter", "whatever"], "cannot read the filter 'whatever'"),
        (["--view", "0"], "view must be a whole number from 1 on"),
        (["--url", "studio"], "LABEL_STUDIO_URL must look like"),
    ],
)
def test_wrong_usage_is_one_sentence_and_2(arguments, wrong: list[str], sentence: str, capsys):
    assert main([*arguments, *wrong]) == 2

    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("left_out", ["--url", "--token"])
def test_who_is_to_be_asked_has_to_be_said(arguments, left_out: str, capsys):
    place = arguments.index(left_out)

    assert main([*arguments[:place], *arguments[place + 2 :]]) == 2

    assert f"or give {left_out}" in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_is_a_sentence(arguments, monkeypatch, capsys):
    def broken(progress: object) -> None:
        raise CliperError("the weights are torn")

    source = colour_source(before_load=broken)
    monkeypatch.setattr("backend.wiring.real_model", lambda settings, **_: source)
    studio(monkeypatch, data_url(PICTURE))

    assert main(arguments) == 2

    assert "Model could not be loaded: the weights are torn" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_a_sentence(arguments, monkeypatch, capsys, tmp_path):
    studio(monkeypatch, data_url(PICTURE))
    (tmp_path / "file").touch()

    assert main([*arguments, "--out", str(tmp_path / "file" / "inside")]) == 2

    assert "cannot be made" in capsys.readouterr().err
