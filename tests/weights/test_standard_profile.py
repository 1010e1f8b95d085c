"""The `standard` profile from its files to masks, with small weights under the true names."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cliper_model
from backend.__main__ import main
from backend.api.errors import reason_phrase
from cliper_model import loading, profiles
from cliper_model.backbones import diffusion_weights
from cliper_model.errors import WeightsMismatch

from . import synthesise
from .conftest import CLIP


def photo(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_segment_runs_the_whole_chain_offline_from_the_files(folder: Path, tmp_path: Path):
    image = photo(tmp_path / "photo.png")

    status = main(
        ["segment", str(image), "--labels", "sky, house|home", "--out", str(tmp_path / "out"),
         "--profile", "standard", "--background", ""]
    )  # fmt: skip

    assert status == 0
    report = json.loads((tmp_path / "out" / "photo.json").read_text())
    assert report["preset"] == "whole-scene"
    assert sorted(report["model"]["weights"]) == [
        "ViT-B-16-quickgelu/open_clip_model.safetensors",
        "stable-diffusion-2-1-base/text_encoder",
        "stable-diffusion-2-1-base/unet/diffusion_pytorch_model.fp16.safetensors",
        "stable-diffusion-2-1-base/vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert np.asarray(Image.open(tmp_path / "out" / "photo.labels.png")).shape == (60, 90)


def test_the_identity_is_the_same_before_and_after_the_first_load(folder: Path):
    before = cliper_model.identity("standard", folder)

    cliper_model.load("standard", device="cpu", weights_dir=folder)
    (folder / "stable-diffusion-2-1-base" / "text_encoder" / "model.fp16.safetensors").unlink()

    assert cliper_model.identity("standard", folder).weights == before.weights


@pytest.mark.parametrize(
    ("has", "wanted", "because"),
    [
        ({}, "torch.float32", "no units for half precision known here"),
        ({"avx512_bf16": True}, "torch.bfloat16", "the processor has avx512_bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, "torch.bfloat16", "the processor has amx_bf16"),
    ],
)
def test_half_precision_weights_are_computed_with_in_what_the_processor_has_units_for(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    has: dict[str, bool],
    wanted: str,
    because: str,
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)

    model = cliper_model.load("standard", device="cpu", weights_dir=folder)
    exact = cliper_model.load("standard", device="cpu", dtype="float32", weights_dir=folder)

    assert str(model.clip.dtype) == str(model.diffusion.dtype) == wanted
    assert loading.best_precision("cpu", profiles.get("standard")).because == because
    assert str(exact.clip.dtype) == str(exact.diffusion.dtype) == "torch.float32"


@pytest.mark.skipif(
    not all(map(loading._units, (loading.INT8_UNITS, loading.BFLOAT16_UNITS))),
    reason="needs a processor with units for bytes and for bfloat16",
)
def test_in_bytes_masks_are_those_of_bfloat16_but_for_a_few_pixels(folder: Path, tmp_path: Path):
    image = np.asarray(Image.open(photo(tmp_path / "photo.png")))
    found = {}

    for dtype in ("bfloat16", "int8"):
        model = cliper_model.load("standard", device="cpu", dtype=dtype, weights_dir=folder)
        words = model.read(("sky", "house"))
        found[dtype] = model.score(model.observe(image), words).maps

    assert model.clip.number_format == "int8"
    assert model.clip.dtype == model.diffusion.dtype == torch.bfloat16
    difference = np.abs(found["int8"] - found["bfloat16"]).max()
    assert 0 < difference < 0.1 * np.abs(found["bfloat16"]).max()


@pytest.mark.parametrize(
    "profile",
    [
        profiles.get("demo"),
        profiles.get("fast", method="maskclip"),
        profiles.get("fast", method="cliper", features="dino-vitb8"),
        None,
    ],
)
def test_what_was_not_measured_keeps_full_precision_on_any_cpu(
    monkeypatch: pytest.MonkeyPatch, profile: profiles.Profile | None
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    fast = profiles.get("fast")

    assert loading.best_precision("cpu", profile).dtype == torch.float32
    assert loading.best_precision("cpu", fast).dtype == torch.bfloat16
    assert loading.best_precision("cpu", fast, published=True).dtype == torch.float32
    assert loading.best_precision("cuda:0", profile).dtype == torch.float16
    assert loading.best_precision("mps", fast).dtype == torch.float32


def test_a_torch_that_does_not_tell_what_the_processor_has_means_full_precision(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delattr(torch.cpu, "get_capabilities")

    assert loading.best_precision("cpu", profiles.get("fast")).dtype == torch.float32


def test_an_unpublished_clip_that_does_not_tell_its_activation_is_refused(folder: Path):
    path = folder / "ViT-B-16-quickgelu" / "open_clip_model.safetensors"
    synthesise.write_clip(path, CLIP, metadata={"format": "pt"})

    with pytest.raises(WeightsMismatch) as refusal:
        cliper_model.load("standard", device="cpu", weights_dir=folder)

    assert "say activation=quickgelu in its metadata" in reason_phrase(str(refusal.value))
    assert f"{path} is not the published ViT-B-16-quickgelu" in str(refusal.value)


def test_differences_of_the_checkpoint_reach_the_backbone(folder: Path):
    model = cliper_model.load("standard", device="cpu", weights_dir=folder)

    assert any("the unet has sample_size 16" in told for told in model.diffusion.differences)


def test_the_weights_kept_in_memory_are_only_the_needed_ones(folder: Path):
    parts = diffusion_weights.load_diffusion(folder / "stable-diffusion-2-1-base")
    whole = diffusion_weights.UNet2DConditionModel.from_config(synthesise.SMALL_UNET)

    kept = sum(tensor.numel() for tensor in parts.unet.parameters())
    assert kept < sum(tensor.numel() for tensor in whole.parameters())
