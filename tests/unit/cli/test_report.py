"""`cliper report`: what is printed and written, and with which status it ends."""

import json
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.learning.records import Records, Version
from backend.storage.base import Scope
from backend.storage.open import open_storage

from ...doubles.corrections import PICTURE, annotated, columns, corrected, painted, told, write
from ...doubles.pictures import encoded
from ...doubles.studio_server import LEGACY_TOKEN, studio_server

TEN = columns(0, 10)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No environment of anybody's."""
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STORAGE", f"sqlite:{tmp_path / 'store.sqlite'}")


def test_an_export_becomes_a_page_and_figures(tmp_path: Path, capsys):
    tasks = [corrected(1, TEN, TEN), corrected(2, TEN, columns(0, 8)), corrected(3, TEN, TEN)]
    path, out = write(tmp_path / "export.json", tasks), tmp_path / "out"

    assert main(["report", "--export", str(path), "--out", str(out), "--worst", "1"]) == 0

    printed = capsys.readouterr().out
    assert "Of 3 corrected pictures, 67 % were taken as they were, 33 % touched up" in printed
    assert "v1: quality 0.93 over 3 pictures" in printed
    told_json = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert told_json["saving"]["untouched"] == 2
    assert told_json["edge_aware"]["pictures"] == 1
    assert "task 2" in (out / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "store.sqlite").exists()


def test_pictures_of_an_export_can_lie_in_a_folder(tmp_path: Path):
    (tmp_path / "scene.png").write_bytes(encoded(PICTURE))
    task = corrected(1, TEN, columns(0, 8))
    task.task.data["image"] = "/data/upload/1/scene.png"  # type: ignore[index]
    path, out = write(tmp_path / "export.json", [task]), tmp_path / "out"
    arguments = ["report", "--export", str(path), "--images", str(tmp_path), "--out", str(out)]

    assert main(arguments) == 0

    told_json = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert told_json["edge_aware"] == {"pictures": 1, "without_picture": {}}


def test_a_project_is_read_through_the_api_with_what_was_learnt(tmp_path: Path, capsys):
    with studio_server() as server:
        number = server.project(tasks=2)
        task = server.ids(number)[0]
        made = server.predict(task, "v1", result=painted("red", TEN))
        done = server.annotate(task, made)
        server.annotations[done].update(annotated(painted("red", TEN), parent=made, id=done))
        storage = open_storage(f"sqlite:{tmp_path / 'store.sqlite'}", max_blob_bytes=1 << 20)
        Records(storage, Scope.of(server.url, str(number))).remember(
            Version(
                digest="abc",
                used=False,
                made_from="x",
                chosen=(task,),
                when=0.0,
                verdicts={"seg": {"better": False, "reason": "one task is too few", "tasks": 1}},
            )
        )
        storage.close()
        out = tmp_path / "out"
        arguments = ["report", "--project", str(number), "--url", server.url]

        assert main([*arguments, "--token", LEGACY_TOKEN, "--out", str(out)]) == 0

    assert "Of 1 corrected picture, 100 % were taken as they were" in capsys.readouterr().out
    assert "one task is too few" in (out / "report.html").read_text(encoding="utf-8")
    told_json = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert told_json["tasks"]["open"] == 1


def test_an_export_without_anything_to_compare_ends_with_one(tmp_path: Path, capsys):
    path = write(tmp_path / "export.json", [told(1, [annotated([])], [5])])

    assert main(["report", "--export", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "Nobody has corrected a prediction yet." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--worst", "51"], "--worst must be from 0 to 50, got 51"),
        (["--sample", "-1"], "--sample must be from 0 to 500, got -1"),
        (["--seconds-per-mask", "-2"], "--seconds-per-mask must be from 0 to 86400, got -2"),
        (["--seconds-per-look", "nan"], "--seconds-per-look must be from 0 to 86400, got nan"),
        (["--images", "nowhere"], "the folder nowhere does not exist"),
    ],
)
def test_options_that_cannot_be_meant_are_one_sentence(options, sentence, tmp_path: Path, capsys):
    path = write(tmp_path / "export.json", [corrected(1, TEN, TEN)])

    assert main(["report", "--export", str(path), "--out", str(tmp_path / "o"), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_project_needs_a_label_studio(capsys):
    assert main(["report", "--project", "3"]) == 2
    assert "LABEL_STUDIO_URL is not set" in capsys.readouterr().err


def test_pictures_of_a_project_are_not_looked_for_in_a_folder(tmp_path: Path, capsys):
    arguments = ["report", "--project", "3", "--images", str(tmp_path)]

    assert main(arguments) == 2
    assert "--images goes with --export" in capsys.readouterr().err
