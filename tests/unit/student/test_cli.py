"""`cliper train-student` on drawn scenes: from options to a student that segments."""

from pathlib import Path

import pytest

import cliper_model
from backend.__main__ import main
from cliper_model.demo.scene_folder import write_scene_folder
from cliper_model.student.checkpoint import Checkpoint


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
