"""A folder of small weights under the names of the true ones."""

from pathlib import Path

import open_clip
import pytest

from . import synthesise

CLIP = synthesise.SMALL_CLIP | {
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 128, "patch_size": 16}
}


def write_standard(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small weights of the `standard` profile in a new folder; nothing is asked of a hub."""
    original = open_clip.get_model_config
    monkeypatch.setattr(
        open_clip,
        "get_model_config",
        lambda name: CLIP if name == "ViT-B-16-quickgelu" else original(name),
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(root.parent / "hub"))
    synthesise.write_clip(root / "ViT-B-16-quickgelu" / "open_clip_model.safetensors", CLIP)
    synthesise.write_stable_diffusion(root / "stable-diffusion-2-1-base")
    return root


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("DEVICE", "cpu")
    return write_standard(tmp_path / "weights", monkeypatch)
