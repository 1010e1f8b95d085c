"""A folder of small weights under the names of the true ones."""

from pathlib import Path

import open_clip
import pytest

from . import synthesise

CLIP = synthesise.SMALL_CLIP | {
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 128, "patch_size": 16}
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    original = open_clip.get_model_config
    monkeypatch.setattr(
        open_clip,
        "get_model_config",
        lambda name: CLIP if name == "ViT-B-16-quickgelu" else original(name),
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("DEVICE", "cpu")
    root = tmp_path / "weights"
    synthesise.write_clip(root / "ViT-B-16-quickgelu" / "open_clip_model.safetensors", CLIP)
    synthesise.write_stable_diffusion(root / "stable-diffusion-2-1-base")
    return root
