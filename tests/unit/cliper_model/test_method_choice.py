"""Which method, on which networks: profiles, loading and identities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cliper_model
from backend.model_host import ModelHost
from backend.settings import Settings
from backend.wiring import check_choice, real_model
from cliper_model import loading, profiles, registry
from cliper_model.backbones import weights
from cliper_model.backbones.clip_features import ClipValues
from cliper_model.backbones.diffusion_features import DiffusionFeatures
from cliper_model.errors import (
    UnknownMethod,
    UnknownSource,
    UnneededSource,
    UnneededStudent,
    WeightsMissing,
)
from cliper_model.segmenter import Label
from cliper_model.student.checkpoint import Checkpoint
from cliper_model.student.network import build_student
from cliper_model.student.words import StudentWords


def parts_of(profile: profiles.Profile) -> list[str]:
    return [component.name for component in profile.components]


def test_a_method_brings_only_the_networks_it_needs():
    assert parts_of(profiles.get("standard", method="maskclip")) == ["ViT-B-16-quickgelu"]
    assert parts_of(profiles.get("fast", method="proxyclip")) == [
        "ViT-B-16-quickgelu",
        "dino-vitb8",
    ]
    assert parts_of(profiles.get("fast", method="proxyclip", features="diffusion-s")) == [
        "ViT-B-16-quickgelu",
        "stable-diffusion-2-1-base",
    ]
    assert parts_of(profiles.get("demo", method="proxyclip")) == []
    assert parts_of(profiles.get("demo", method="proxyclip", features="dino-vits16")) == [
        "dino-vits16"
    ]


def test_a_feature_source_takes_the_place_of_diffusion_in_cliper():
    plain, other = profiles.get("standard"), profiles.get("standard", features="dino-vitb8")

    assert (plain.diffusion, plain.features) == ("stable-diffusion-2-1-base", None)
    assert (other.diffusion, other.features) == (None, "dino-vitb8")
    assert registry.module_of("cliper").config_of(other).refinement == "similarity"
    assert registry.module_of("cliper").config_of(plain).refinement == "SFSA"


def test_the_profiles_own_method_is_the_profile_as_written():
    assert profiles.get("best", method="cliper") == profiles.get("best")
    assert profiles.get("best", method="proxyclip").window == 0
    assert profiles.get("best", method="proxyclip").published_miou is None


def test_licences_are_those_of_what_is_used():
    licence = profiles.get("standard", method="proxyclip").licence

    assert "MIT (OpenAI CLIP ViT-B/16)" in licence
    assert "Apache-2.0 (DINO ViT-B/8)" in licence
    assert "RAIL" not in licence


@pytest.mark.parametrize(
    ("choice", "error", "sentence"),
    [
        ({"method": "sam"}, UnknownMethod, "unknown method 'sam'; choose one of: cliper, clip"),
        ({"features": "dino"}, UnknownSource, "unknown feature source 'dino'; choose one of"),
        ({"method": "proxyclip", "features": "unet"}, UnknownSource, "'unet' always needs one"),
        ({"method": "proxyclip", "features": "clip:own.pt"}, UnknownSource, "take none"),
        ({"method": "proxyclip", "features": "diffusion-s:sd"}, UnknownSource, "take none"),
        ({"method": "maskclip", "features": "dino-vitb8"}, UnneededSource, "leave the feature"),
    ],
)
def test_a_wrong_choice_gets_one_sentence(
    choice: dict[str, str], error: type[Exception], sentence: str
):
    with pytest.raises(error, match=sentence):
        profiles.get("fast", **choice)


def test_missing_weights_are_fetched_with_the_same_choice(tmp_path: Path):
    chosen = profiles.get("fast", method="proxyclip", features="dino-vits8")

    assert chosen.choice == "fast --method proxyclip --features dino-vits8"
    assert profiles.get("fast").choice == "fast"
    with pytest.raises(WeightsMissing, match="fetch fast --method proxyclip --features dino-vits8"):
        weights.locate(chosen, tmp_path)


def test_every_method_has_its_own_identity_on_the_same_weights():
    known = {
        name: loading.identity("demo", method=name)
        for name in registry.METHODS
        if "student" not in profiles.method_card(name).needs
    }

    assert {identity.method for identity in known.values()} == set(known)
    assert known["proxyclip"].settings["features"] == "clip"
    other = loading.identity("demo", method="proxyclip", features="diffusion-p")
    assert other.settings["features"] == "diffusion-p"
    assert loading.identity_after_fetch("demo", method="clip-surgery") == known["clip-surgery"]


def test_a_file_of_ones_own_is_part_of_the_identity(tmp_path: Path):
    file = tmp_path / "unet.safetensors"
    file.write_bytes(b"one")
    before = loading.identity("demo", method="proxyclip", features=f"unet:{file}")
    file.write_bytes(b"two")
    after = loading.identity("demo", method="proxyclip", features=f"unet:{file}")

    assert before.weights["features/unet"] != after.weights["features/unet"]
    assert str(tmp_path) not in str(after.settings)
    with pytest.raises(WeightsMissing, match="give the path of a file that exists"):
        loading.identity("demo", method="proxyclip", features=f"unet:{tmp_path / 'no.pt'}")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained student of two words."""
    rows = torch.eye(2, 32)
    path: Path = tmp_path_factory.mktemp("student") / "student.safetensors"
    Checkpoint(
        words=StudentWords(("tree", "house"), (("tree",), ("house",)), rows),
        settings={"network": "small", "steps": 0, "crops": {"short_side": 64, "long_side": 256}},
        teacher="",
        pictures="",
        step=0,
        weights=build_student("small", rows, background=False).state_dict(),
    ).save(path)
    return path


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("method", sorted(registry.METHODS))
def test_the_identity_is_known_before_the_weights_are_in_memory(
    method: str, published: bool, student: Path
):
    own = {"student": student} if "student" in profiles.method_card(method).needs else {}

    known = loading.identity("demo", method=method, **own)
    loaded = cliper_model.load("demo", method=method, device="cpu", published=published, **own)

    assert (loaded.identity == known) == (not published)
    assert loading.identity_after_fetch("demo", method=method, **own) == known


def test_a_student_needs_no_clip_and_no_other_method_takes_one(student: Path):
    alone = cliper_model.load("fast", method="maskclip+", student=student, device="cpu")

    assert parts_of(profiles.get("fast", method="maskclip+")) == []
    assert list(alone.identity.weights) == ["student"]
    with pytest.raises(UnneededStudent, match="leave the student out, or choose METHOD=maskclip"):
        loading.identity("demo", method="clip", student=student)


def test_the_service_brings_up_a_student(student: Path):
    settings = Settings(profile="demo", method="maskclip+", student=student, device="cpu")
    host = ModelHost(real_model(settings))

    host.start()
    host.join()

    assert host.status.state == "ready"
    host.check_words([Label("dragonfly")])  # not the demo's words: the student's are asked for
    with pytest.raises(UnneededStudent):
        check_choice(Settings(profile="demo", student=student))


def test_maskclip_plus_asks_for_its_student(tmp_path: Path):
    with pytest.raises(WeightsMissing, match="train one with cliper train-student"):
        cliper_model.load("demo", method="maskclip+", device="cpu")
    with pytest.raises(WeightsMissing, match="give the path of a file that exists"):
        cliper_model.load("demo", method="maskclip+", student=tmp_path / "no", device="cpu")


def test_the_demo_profile_loads_every_method_without_a_download(picture: Any):
    image = picture(96, 128)
    for name in registry.METHODS:
        if "student" in profiles.method_card(name).needs:
            continue
        segmenter = cliper_model.load("demo", method=name, device="cpu")

        assert segmenter.identity.method == name
        assert segmenter.identity.settings["published"] is False
        assert segmenter.segment(image, ["tree", "house"]).label_map.shape == (96, 128)


def test_sources_of_the_demo_are_what_they_are_called():
    own: Any = cliper_model.load("demo", method="proxyclip", device="cpu")
    other: Any = cliper_model.load("demo", method="proxyclip", features="diffusion-s", device="cpu")

    assert isinstance(own.features, ClipValues)
    assert isinstance(other.features, DiffusionFeatures)
    assert own.features.name == "clip"
    assert other.features.name == "diffusion-s"


def test_published_reaches_every_method():
    for name in registry.METHODS:
        if "student" in profiles.method_card(name).needs:
            continue
        segmenter: Any = cliper_model.load("demo", method=name, device="cpu", published=True)

        assert segmenter.published
        assert segmenter.identity.settings["published"] is True


def test_a_blank_picture_survives_the_shipped_weights():
    blank = np.full((96, 128, 3), 128, np.uint8)
    for name in ("proxyclip", "cliptrase", "clip-surgery"):
        result = cliper_model.load("demo", method=name, device="cpu").segment(blank, ["tree"])

        assert np.isfinite(result.confidence).all()
