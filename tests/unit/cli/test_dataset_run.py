"""`cliper prelabel --input`, as users give it."""

import json
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.dataset.output import Output
from backend.dataset.places import place_of

from ...doubles.colour_runs import folder_of
from ...doubles.pictures import brush_config


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PROFILE", "demo")
    folder_of(tmp_path / "pictures", 3, broken=(1,))
    (tmp_path / "config.xml").write_text(brush_config(("house", "tree")))
    return [
        *("prelabel", "--input", str(tmp_path / "pictures"), "--output", str(tmp_path / "out")),
        *("--config", str(tmp_path / "config.xml")),
    ]


def test_a_folder_becomes_rows_and_a_table_of_what_failed(
    data_set: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*data_set, "--json"]) == 1

    told = json.loads(capsys.readouterr().out)
    rows = list(Output(place_of(str(tmp_path / "out"))).read())
    assert (told["rows"], told["failed"]) == (3, 1)
    assert told["failures"]["image broken"]["id"] == "half-1/00001.png"
    assert {row.model_version for row in rows} == {told["version"]}
    assert told["version"].startswith("demo-cliper-")


def test_the_same_command_again_has_nothing_to_do(
    data_set: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(data_set)
    capsys.readouterr()

    assert main(data_set) == 0
    assert "3  tasks had rows before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--project", "1"], "either --config FILE with a label config, or --project ID"),
        (["--limit", "3"], "--limit is for tasks of a project"),
        (["--undo", "x"], "--undo is for tasks of a project"),
        (["--concurrency", "2"], "--concurrency is for --engine ray"),
        (["--rows-per-file", "0"], "--rows-per-file must be from 1 to"),
        (["--config", "nowhere.xml"], "cannot be read as text"),
        (["--output", "pictures/out"], "--output lies inside of --input"),
    ],
)
def test_what_does_not_go_together_is_told_in_a_sentence(
    data_set: list[str],
    more: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*data_set, *more]) == 2
    assert sentence in capsys.readouterr().err


def test_other_tasks_of_the_same_input_are_another_run(
    data_set: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(data_set)

    assert main([*data_set, "--as-seen", "/data/local-files/?d="]) == 2
    assert "holds a run with another config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--output", "x"], "--output is for a data set; name it with --input"),
        (["--engine", "ray"], "--engine is for a data set; name it with --input"),
        ([], "give --project ID for a project of Label Studio, or --input for a data set"),
        (["--input", "x"], "--input needs --output"),
    ],
)
def test_half_of_a_data_set_is_told_what_is_missing(
    given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prelabel", *given]) == 2
    assert sentence in capsys.readouterr().err


def test_a_cluster_wants_its_profile_named(
    data_set: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PROFILE")

    assert main([*data_set, "--engine", "ray"]) == 2
    assert "name the profile with --profile" in capsys.readouterr().err


def test_a_folder_without_a_run_cannot_be_uploaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--project", "1", "--url", "http://127.0.0.1:9", "--token", "x"]

    assert main(["upload", str(tmp_path), *words]) == 2
    assert "there is no run in" in capsys.readouterr().err
