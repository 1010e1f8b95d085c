import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.__main__ import main
from cliper_model import profiles
from cliper_model.backbones import weights
from cliper_model.profiles import Component, File, Source, Variant

CONTENT = b"tensors"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `fast` profile of one small file, complete in the weights folder."""
    file = File(path="a.safetensors", bytes=7, sha256=hashlib.sha256(CONTENT).hexdigest())
    component = Component(
        name="clip-x",
        part="clip",
        title="a CLIP",
        licence="MIT",
        variants=(Variant(files=(file,), sources=(Source(hub="owner/name"),)),),
    )
    original = profiles.get
    small = replace(original("fast"), components=(component,))

    def get(name: str, **_: object) -> Any:
        return small if name == "fast" else original(name)

    monkeypatch.setattr(profiles, "get", get)
    path = tmp_path / "clip-x" / "a.safetensors"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def test_the_list_names_every_profile_with_its_price(capsys: pytest.CaptureFixture[str]):
    assert main(["weights", "list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    for line, name in zip(lines[1:], profiles.names(), strict=False):
        assert line.startswith(name)
    assert "571 MiB" in lines[2]
    assert "66.4 %" in lines[3]
    assert "published by the method's authors" in lines[-1]


def test_the_list_says_what_is_here(here: Path, capsys: pytest.CaptureFixture[str]):
    main(["weights", "list"])

    rows = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:5]}
    assert (rows["fast"], rows["standard"]) == ("yes", "no")


def test_path_prints_the_folder_or_a_profiles_own_file(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["weights", "path"]) == 0
    assert main(["weights", "path", "fast"]) == 0
    assert main(["weights", "path", "--dir", "/elsewhere"]) == 0

    assert capsys.readouterr().out.splitlines() == [str(tmp_path), str(here), "/elsewhere"]


def test_path_of_missing_weights_is_one_sentence_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    assert main(["weights", "path", "best"]) == 2

    said = capsys.readouterr().err
    assert said.startswith(
        "cliper: unset HF_HUB_OFFLINE and run 'cliper weights fetch best' (4093 MiB): OpenAI CLIP"
    )
    assert "text_encoder/model.fp16.safetensors" in said
    assert "MODEL_DIR" in said


def test_verify_prints_a_verdict_per_file(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["weights", "verify"]) == 0

    digest = hashlib.sha256(CONTENT).hexdigest()
    assert f"ok       clip-x/a.safetensors  {digest}" in capsys.readouterr().out


def test_verify_fails_for_a_damaged_file_and_says_what_to_do(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    here.write_bytes(b"other")

    assert main(["weights", "verify", "fast"]) == 1

    told = capsys.readouterr()
    assert told.out.startswith("damaged  clip-x/a.safetensors")
    assert f"delete {here} and run 'cliper weights fetch fast'" in told.err


def test_fetch_reports_where_the_files_are(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    steps: list[float] = []

    def fetch(profile: profiles.Profile, folder: Path, report: weights.Report) -> dict[str, Path]:
        for done in (0, 3, 7):
            report(weights.Progress(file="clip-x/a.safetensors", source="x", done=done, total=7))
            steps.append(done)
        return {"clip": here}

    monkeypatch.setattr(weights, "fetch", fetch)

    assert main(["weights", "fetch", "fast"]) == 0

    told = capsys.readouterr()
    assert steps == [0, 3, 7]
    assert told.out == f"clip: {here}\n"
    assert "a CLIP: MIT" in told.err


def test_the_networks_of_another_method_are_verified_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["fast", "--method", "proxyclip", "--features", "dino-vits16"]

    assert main(["weights", "verify", *chosen, "--dir", str(tmp_path)]) == 1

    told = capsys.readouterr()
    assert "dino-vits16/model.safetensors" in told.out
    assert "run 'cliper weights fetch fast --method proxyclip --features dino-vits16'" in told.err
