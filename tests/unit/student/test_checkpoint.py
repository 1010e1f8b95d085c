"""A student on disk: nothing lost, nothing half written, differences named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cliper_model.student.checkpoint import Checkpoint, file_digest
from cliper_model.student.errors import (
    CheckpointDiffers,
    CheckpointMissing,
    CheckpointUnreadable,
    NothingToLearn,
)

from .paint import words


def checkpoint(**changes: Any) -> Checkpoint:
    values: dict[str, Any] = {
        "words": words(),
        "settings": {"steps": 10, "rate": 0.01, "scales": (0.5, 2.0)},
        "teacher": "teacher-1",
        "pictures": "pictures-1",
        "step": 4,
        "weights": {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(7)},
        "momentum": {"a.weight": torch.ones(2, 3)},
    }
    return Checkpoint(**{**values, **changes})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint().save(tmp_path / "student")
    loaded = Checkpoint.load(tmp_path / "student")

    assert loaded.words.names == ("dark", "bright")
    assert loaded.words.synonyms == (("dark", "black"), ("bright",))
    assert loaded.words.digest == words().digest
    assert loaded.step == 4
    assert not loaded.finished
    assert loaded.weights["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert int(loaded.weights["a.count"]) == 7
    assert loaded.momentum["a.weight"].tolist() == [[1, 1, 1], [1, 1, 1]]
    loaded.check_same_training(checkpoint(step=0))


def test_the_file_is_plain_safetensors_with_a_header(tmp_path: Path) -> None:
    checkpoint().save(tmp_path / "student")

    with safe_open(tmp_path / "student", framework="np") as file:
        header = json.loads(file.metadata()["student"])

    assert header["names"] == ["dark", "bright"]
    assert header["templates"] == ["a {}."]
    assert header["settings"]["steps"] == 10


def test_a_failed_write_leaves_the_old_student(tmp_path: Path) -> None:
    checkpoint().save(tmp_path / "student")
    unsaveable = checkpoint(settings={"steps": object()})

    with pytest.raises(TypeError):
        unsaveable.save(tmp_path / "student")

    assert Checkpoint.load(tmp_path / "student").step == 4
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("labels", {"words": words(names=("dark", "light"), synonyms=(("dark",), ("light",)))}),
        ("synonyms", {"words": words(synonyms=(("dark",), ("bright",)))}),
        ("templates", {"words": words(templates=("the {}.",))}),
        ("text rows", {"words": words(rows=torch.eye(4)[2:])}),
        ("background class", {"words": words(background=True)}),
        ("teacher", {"teacher": "teacher-2"}),
        ("pictures", {"pictures": "pictures-2"}),
        ("rate", {"settings": {"steps": 10, "rate": 0.02, "scales": (0.5, 2.0)}}),
    ],
)
def test_another_training_is_refused_and_the_difference_named(
    what: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointDiffers, match=f"resume with the same {what} or choose another"):
        checkpoint().check_same_training(checkpoint(**changes))


def test_a_missing_student_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="train one with cliper train-student"):
        Checkpoint.load(tmp_path / "none")
    with pytest.raises(CheckpointMissing):
        file_digest(tmp_path / "none")


def test_a_file_that_is_no_student_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    save_file({"x": torch.zeros(1)}, tmp_path / "other")

    with pytest.raises(CheckpointUnreadable, match="cannot be read"):
        Checkpoint.load(tmp_path / "text")
    with pytest.raises(CheckpointUnreadable, match="is no student of this version"):
        Checkpoint.load(tmp_path / "other")


def test_half_a_student_is_refused(tmp_path: Path) -> None:
    checkpoint().save(tmp_path / "student")
    whole = (tmp_path / "student").read_bytes()
    (tmp_path / "student").write_bytes(whole[:-20])

    with pytest.raises(CheckpointUnreadable):
        Checkpoint.load(tmp_path / "student")


def test_rows_that_do_not_fit_the_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "student"
    checkpoint().save(path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    save_file({**tensors, "rows": tensors["rows"] + 1}, path, header)

    with pytest.raises(CheckpointUnreadable, match="text rows that do not fit its names"):
        Checkpoint.load(path)


def test_a_finished_student_knows_it() -> None:
    assert replace(checkpoint(), step=10).finished


def test_a_word_of_two_names_is_refused() -> None:
    with pytest.raises(NothingToLearn, match="'dark' belongs to 'dark' and 'bright'"):
        words(synonyms=(("dark",), ("bright", "Dark")))


def test_too_many_names_are_refused() -> None:
    names = tuple(f"word {number}" for number in range(256))

    with pytest.raises(NothingToLearn, match="name 1 to 255 labels, got 256"):
        words(names=names, synonyms=tuple((name,) for name in names), rows=torch.zeros(256, 4))
