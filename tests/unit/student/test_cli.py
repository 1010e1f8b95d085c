"""`cliper train-student` on drawn scenes: from options to a student that segments."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import cliper_model
from backend.__main__ import main
from cliper_model.demo.scene_folder import write_scene_folder
from cliper_model.presets import Preset, get
from cliper_model.student.checkpoint import Checkpoint
from cliper_model.student.teachers import SegmenterTeacher


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scene_folder(3, 5, folder, size_hw=(48, 64))
    return folder


def call(scenes: Path, out: Path, *more: str) -> int:
    return main(
        [
            "train-student",
            *("--images", str(scenes), "--labels", "house|home, tree, sky, grass"),
            *("--teacher", "clip", "--profile", "demo", "--device", "cpu"),
            *("--network", "small", "--crop", "32", "--batch", "2", "--steps", "3"),
            *("--out", str(out)),
            *more,
        ]
    )


def test_it_trains_a_student_that_the_method_loads(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = call(scenes, tmp_path / "student", "--network", "tower", "--cache-labels")

    assert status == 0
    printed = capsys.readouterr()
    assert "3 steps, 3 pictures, loss" in printed.out
    assert "step 3 of 3, loss" in printed.err
    stored = Checkpoint.load(tmp_path / "student")
    assert stored.words.names == ("house", "tree", "sky", "grass")
    assert stored.words.templates
    method = cliper_model.load(
        "demo", method="maskclip+", student=tmp_path / "student", device="cpu"
    )
    assert method.read(["home"]).labels == ("home",)


@pytest.mark.parametrize("teacher", ["maskclip", "cliper"])
def test_the_templates_kept_are_the_ones_its_text_rows_were_made_from(
    teacher: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"maskclip": ("the {} over there.",), "cliper": ("a {}.", "one {}.")}

    def numbers(name: str, clip: str, method: str = "cliper") -> Preset:
        return replace(get(name, clip, method), templates=own.get(method, ("{}",)))

    monkeypatch.setattr("cliper_model.presets.get", numbers)
    call(scenes, tmp_path / "student", "--teacher", teacher, "--steps", "1")

    words = Checkpoint.load(tmp_path / "student").words
    assert words.templates == own[teacher]
    clip = cliper_model.load("demo", method="clip", device="cpu", dtype="float32").clip  # type: ignore[attr-defined]
    house, home, *others = clip.encode_words(["house", "home", *words.names[1:]], words.templates)
    again = torch.stack([torch.nn.functional.normalize(house + home, dim=-1), *others])
    torch.testing.assert_close(words.rows, again)


def test_a_signal_to_stop_ends_the_labelling_and_resuming_goes_on(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill = SegmenterTeacher.fill

    def fill_and_signal(teacher: SegmenterTeacher, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return fill(teacher, *args)

    with monkeypatch.context() as patched:
        patched.setattr(SegmenterTeacher, "fill", fill_and_signal)
        status = call(scenes, tmp_path / "student", "--cache-labels")

    assert status == 143
    assert "stopped after step 0 of 3; go on with --resume" in capsys.readouterr().err
    assert len(list((tmp_path / "student.labels").glob("*.png"))) == 1
    assert call(scenes, tmp_path / "student", "--cache-labels", "--resume") == 0


def test_resuming_with_other_labels_is_refused_in_one_sentence(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(scenes, tmp_path / "student")

    status = call(scenes, tmp_path / "student", "--resume", "--labels", "house, tree, sky, sea")

    assert status == 2
    assert "resume with the same labels or choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--unlabelled", "sky"], "give them with --masks"),
        (["--scales", "wide"], "--scales must be two numbers like 0.5,2"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--save-every", "0"], "--save-every must be at least 1"),
        (["--images", "nowhere"], "give a folder with pictures"),
        (["--teacher", "cliper", "--confidence", "0.5"], "cliper gives no row logits"),
        (["--confidence", "-0.5"], "--confidence must be from 0 to 1, got -0.5"),
        (["--confidence", "1.5"], "--confidence must be from 0 to 1, got 1.5"),
        (
            ["--confidence", "0.5", "--decide", "objects"],
            "give --confidence or --decide objects, not both",
        ),
        (["--no-refinement"], "leave out the refinement of cliper only"),
        (["--backbone", "none.pth"], "give the path of a local file"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    wrong: list[str],
    sentence: str,
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(scenes, tmp_path / "student", *wrong) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "student").exists()
