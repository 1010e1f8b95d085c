"""Sentences that may be cut still say what to do; devices that are not there are refused."""

from pathlib import Path

import pytest

import cliper_model
from backend.api.errors import reason_phrase
from backend.errors import ModelFailed
from cliper_model import loading, profiles
from cliper_model.backbones import weights
from cliper_model.errors import (
    DiskFull,
    NoSuchDevice,
    UntrainedWords,
    WeightsCorrupt,
    WeightsError,
    WeightsMissing,
)

LONG = "/a/very/long/folder" * 20


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (UntrainedWords(["unicorn"] * 30, ["sky"] * 99), "PROFILE=fast"),
        (WeightsMissing("CLIP", [LONG] * 3, "fetch it", details=LONG), "fetch it"),
        (WeightsCorrupt(LONG, "0" * 64, "1" * 64, remedy="fetch it again"), "fetch it again"),
        (DiskFull(Path(LONG), 10**9, 10), "make room or set MODEL_DIR"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_sentence_cut_for_a_status_line_still_says_what_to_do(error: Exception, remedy: str):
    phrase = reason_phrase(str(ModelFailed(str(error))))

    assert phrase.endswith("...")
    assert remedy in phrase


@pytest.mark.parametrize("profile", ["fast", "standard", "best"])
@pytest.mark.parametrize("offline", ["0", "1"])
def test_missing_weights_name_their_command_within_a_status_line(
    profile: str, offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    with pytest.raises(WeightsMissing) as refusal:
        weights.locate(profile, tmp_path)

    phrase = reason_phrase(str(ModelFailed(str(refusal.value))))
    assert f"run 'cliper weights fetch {profile}'" in phrase
    assert ("HF_HUB_OFFLINE" in phrase) == (offline == "1")
    assert f"for the profile '{profile}' not found" in phrase


def test_a_full_disk_is_an_error_of_the_weights():
    assert issubclass(DiskFull, WeightsError)


@pytest.mark.parametrize("device", ["foo", "cuda", "cuda:7", "mps", "meta", ""])
def test_a_device_that_is_not_here_is_one_sentence(device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "devices", lambda: ("cpu",))

    with pytest.raises(NoSuchDevice) as refusal:
        cliper_model.load("demo", device=device)

    assert str(refusal.value) == f"no device {device!r} is found here; choose one of: cpu"


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "cpu:3"])
def test_a_processor_is_one_device_however_it_is_counted(device: str):
    assert loading.known_device(device) == "cpu"


def test_the_profiles_weights_are_named_before_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    foreseen = {
        name: weights.checksums_after_fetch(name, tmp_path) for name in ("fast", "standard")
    }

    clip, diffusion = profiles.get("standard").components
    pins = {file.path: file.sha256 for file in diffusion.variants[0].files if file.sha256}
    text = pins.pop("text_encoder/model.fp16.safetensors")
    assert foreseen["fast"] == {
        "ViT-B-16-quickgelu/open_clip_model.safetensors": clip.variants[0].files[0].sha256
    }
    assert foreseen["standard"] == {
        **foreseen["fast"],
        **{f"stable-diffusion-2-1-base/{path}": digest for path, digest in pins.items()},
        "stable-diffusion-2-1-base/text_encoder": text,
    }


def test_nothing_is_foreseen_where_downloads_are_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    assert weights.checksums_after_fetch("fast", tmp_path) is None
