"""Weight files that would run a program when read, and files that change behind our back."""

import json
import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cliper_model.backbones import weights
from cliper_model.backbones.checkpoints import open_tensors
from cliper_model.backbones.clip_weights import read_checkpoint
from cliper_model.errors import WeightsMismatch
from cliper_model.student.network import load_backbone


class Evil:
    """When unpickled by whoever believes in it, makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.file}",)


def pickled(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def saved(path: Path, content: object) -> None:
    torch.save(content, path)


def saved_as_of_old(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def put_into_an_archive(path: Path, content: object) -> None:
    """As if it were TorchScript, which has a reader of its own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/code/__torch__.py", "")
        archive.writestr("a/data.pkl", pickle.dumps(content))
        archive.writestr("a/version", "3\n")


READERS = {
    "network": open_tensors,
    "clip": read_checkpoint,
    "student": lambda path: load_backbone(torch.nn.Linear(1, 1), path),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("write", [pickled, saved, saved_as_of_old, put_into_an_archive])
@pytest.mark.parametrize("inside", [False, True])
def test_a_checkpoint_that_would_run_a_program_is_refused_in_a_sentence(
    tmp_path: Path, read, write, inside: bool
):
    made, file = tmp_path / "made", tmp_path / "weights.pt"
    write(file, {"state_dict": {"weight": Evil(made)}} if inside else Evil(made))

    with pytest.raises(WeightsMismatch) as caught:
        read(file)

    assert not made.exists()
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_file_does_run_its_program_where_it_is_believed(tmp_path: Path):
    """Else the test above would prove nothing."""
    made, file = tmp_path / "made", tmp_path / "weights.pt"
    pickled(file, Evil(made))

    pickle.loads(file.read_bytes())

    assert made.exists()


def test_a_file_that_changed_since_it_was_first_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    file = tmp_path / "ViT-B-16-quickgelu" / "open_clip_model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"as it came")
    caplog.set_level(logging.WARNING)
    first = weights.checksums("fast", tmp_path)
    os.utime(file, ns=(1, 1))  # touched, and the same
    assert weights.checksums("fast", tmp_path) == first
    assert caplog.messages == []

    file.write_bytes(b"as somebody changed it")
    second = weights.checksums("fast", tmp_path)

    assert second != first
    (said,) = caplog.messages
    assert f"{file} changed since it was first read" in said
    assert "cliper weights verify" in said
    kept = json.loads((tmp_path / weights.SIDECAR).read_text())
    assert [entry["sha256"] for entry in kept.values()] == list(second.values())
