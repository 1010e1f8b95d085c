import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from cliper_model import allocator
from cliper_model.backbones import diffusion_weights
from cliper_model.backbones.diffusion import DiffusionBackbone
from cliper_model.errors import WeightsMismatch, WeightsMissing

from . import synthesise

FILE = "diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise.write_stable_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy whose files may be changed (large ones by replacement only)."""
    for path in original.rglob("*"):
        target = tmp_path / "sd" / path.relative_to(original)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.name != "empty_prompt.safetensors":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path / "sd"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def backbone(parts: diffusion_weights.DiffusionWeights) -> DiffusionBackbone:
    return DiffusionBackbone(
        parts.vae,
        parts.unet,
        empty_prompt=parts.empty_prompt,
        side=parts.side,
        timestep=101,
        noise_share=parts.noise_share(101),
    )


def test_the_truncated_model_gives_what_the_whole_one_gives(folder: Path, tmp_path: Path):
    parts = diffusion_weights.load_diffusion(folder)
    unet = UNet2DConditionModel.from_config(synthesise.SMALL_UNET)
    unet.load_state_dict({k: v.float() for k, v in load_file(folder / "unet" / FILE).items()})
    modern = tmp_path / "modern-vae"
    AutoencoderKL.from_config(synthesise.SMALL_VAE).save_pretrained(modern)
    stored = {k: v.float() for k, v in load_file(folder / "vae" / FILE).items()}
    save_file(stored, str(modern / "diffusion_pytorch_model.safetensors"), {"format": "pt"})
    vae = AutoencoderKL.from_pretrained(modern)
    whole = DiffusionBackbone(
        vae,
        unet,
        empty_prompt=parts.empty_prompt,
        side=128,
        timestep=101,
        noise_share=(0.9449763, 0.3271388),
    )
    seeded = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8, generator=seeded).numpy()

    ours, theirs = backbone(parts).links(image), whole.links(image)

    for tensor, expected in zip(ours, theirs, strict=True):
        assert tensor.shape == (4, 256, 8)
        # kernels lie in memory otherwise, and sums are taken in another order
        torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=3e-5)


def test_nothing_behind_the_last_needed_projection_is_kept(folder: Path):
    parts = diffusion_weights.load_diffusion(folder)

    unet, vae = set(parts.unet.state_dict()), set(parts.vae.state_dict())
    tapped = "up_blocks.3.attentions.1.transformer_blocks.0"
    gone = (
        "conv_out",
        "conv_norm_out",
        "up_blocks.3.resnets.2",
        "up_blocks.3.attentions.2",
        "up_blocks.3.attentions.1.proj_out",
        f"{tapped}.attn1.to_v",
        f"{tapped}.attn1.to_out",
        f"{tapped}.attn2",
        f"{tapped}.ff",
    )
    assert f"{tapped}.attn1.to_k.weight" in unet
    assert [name for name in unet if name.startswith(gone)] == []
    assert {name.split(".")[0] for name in vae} == {"encoder", "quant_conv"}
    tensors = [*parts.unet.parameters(), *parts.vae.parameters(), parts.empty_prompt]
    assert not any(tensor.is_meta or tensor.requires_grad for tensor in tensors)


def test_the_empty_prompt_equals_the_text_encoders_last_state(folder: Path):
    config = {k: v for k, v in synthesise.SMALL_TEXT.items() if k != "architectures"}
    encoder = CLIPTextModel(CLIPTextConfig(**config)).eval()
    stored = load_file(folder / "text_encoder" / "model.fp16.safetensors")
    names = set(encoder.state_dict())
    encoder.load_state_dict(
        {k if k in names else k.removeprefix("text_model."): v.float() for k, v in stored.items()}
    )
    with torch.no_grad():
        ids = torch.tensor([diffusion_weights.PROMPT_TOKENS])
        expected = encoder(input_ids=ids).last_hidden_state

    parts = diffusion_weights.load_diffusion(folder)

    torch.testing.assert_close(parts.empty_prompt, expected, rtol=1e-5, atol=1e-5)


def test_the_empty_prompt_is_stored_and_the_text_encoder_not_needed_again(folder: Path):
    first = diffusion_weights.load_diffusion(folder).empty_prompt

    (folder / "text_encoder" / "model.fp16.safetensors").unlink()
    second = diffusion_weights.load_diffusion(folder).empty_prompt

    assert torch.equal(first, second)


def test_a_folder_that_cannot_be_written_to_still_loads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(diffusion_weights, "save_file", refuse)
    with caplog.at_level(logging.INFO):
        parts = diffusion_weights.load_diffusion(folder)

    assert parts.empty_prompt.shape == (1, 77, 32)
    assert "computed again at the next start" in caplog.text


def test_the_noise_shares_are_the_published_ones():
    signal, noise = diffusion_weights.noise_share(synthesise.SCHEDULER, 101)

    assert signal == pytest.approx(0.944976, abs=1e-6)
    assert noise == pytest.approx(0.327139, abs=1e-6)
    assert signal**2 == pytest.approx(0.892980, abs=1e-6)


def test_the_true_configuration_has_no_differences():
    configs = {
        "scheduler": synthesise.SCHEDULER,
        "unet": synthesise.UNET,
        "vae": synthesise.VAE,
        "text_encoder": synthesise.TEXT,
    }

    assert diffusion_weights._compare(configs, diffusion_weights.EXPECTED) == []
    assert diffusion_weights._compare(configs, diffusion_weights.EXPECTED_TEXT) == []
    assert diffusion_weights._compare_schedule(synthesise.SCHEDULER) == []


def test_every_difference_is_a_sentence_and_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    edit(
        folder / "scheduler" / "scheduler_config.json",
        _class_name="DDIMScheduler",
        prediction_type="v_prediction",
    )
    edit(folder / "vae" / "config.json", scaling_factor=0.13025)
    edit(folder / "tokenizer" / "special_tokens_map.json", pad_token="<|endoftext|>")

    differences = diffusion_weights.load_diffusion(folder).differences

    for sentence in (
        "the scheduler has prediction_type 'v_prediction' where CLIPer expects 'epsilon'",
        "the vae has scaling_factor 0.13025 where CLIPer expects 0.18215",
        "entry 45 of the scheduler's 50 steps is t = 81; CLIPer uses t = 101 all the same",
        "the tokenizer's pad_token '<|endoftext|>' has id 49407 where CLIPer expects 0",
    ):
        assert sentence in differences
        assert sentence in caplog.text


def test_the_first_source_that_exists_is_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--second--mirror" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)

    parts = diffusion_weights.load_diffusion(["first/mirror", "second/mirror", tmp_path / "none"])

    assert parts.side == 128


def test_no_source_at_all_lists_every_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    with pytest.raises(WeightsMissing) as refusal:
        diffusion_weights.load_diffusion(["first/mirror", tmp_path / "none", tmp_path])

    for reason in ("HF_HUB_OFFLINE forbids downloads", "is no folder", "lacks a folder unet"):
        assert reason in str(refusal.value)


def test_pickled_weights_are_not_read(folder: Path):
    (folder / "unet" / FILE).rename(folder / "unet" / "diffusion_pytorch_model.bin")

    with pytest.raises(WeightsMissing, match="pickled files are not read"):
        diffusion_weights.load_diffusion(folder)


def test_a_file_that_does_not_fit_its_configuration_is_refused(folder: Path):
    edit(folder / "unet" / "config.json", layers_per_block=3)

    with pytest.raises(WeightsMismatch, match=r"does not fit its config\.json: it lacks"):
        diffusion_weights.load_diffusion(folder)


def test_tensors_of_another_shape_are_refused(folder: Path):
    edit(folder / "unet" / "config.json", cross_attention_dim=24)

    with pytest.raises(WeightsMismatch, match=r"its config\.json means"):
        diffusion_weights.load_diffusion(folder)


def test_a_u_net_without_two_attentions_at_the_end_is_refused(folder: Path):
    edit(
        folder / "unet" / "config.json",
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    )

    with pytest.raises(WeightsMismatch, match="fewer than two attentions"):
        diffusion_weights.load_diffusion(folder)


def test_a_cut_file_is_a_mismatch_not_a_crash(folder: Path):
    path = folder / "vae" / FILE
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(WeightsMismatch, match="not a whole safetensors file"):
        diffusion_weights.load_diffusion(folder)


def test_neither_prompt_nor_text_encoder_says_what_is_missing(folder: Path):
    (folder / "text_encoder" / "model.fp16.safetensors").unlink()

    with pytest.raises(WeightsMissing, match=r"model\.safetensors not found"):
        diffusion_weights.load_diffusion(folder)


def test_a_stored_prompt_of_another_width_is_refused(folder: Path):
    save_file({"empty_prompt": torch.zeros(1, 77, 8)}, str(folder / "empty_prompt.safetensors"))

    with pytest.raises(WeightsMismatch, match=r"the U-Net needs \[1, tokens, 32\]"):
        diffusion_weights.load_diffusion(folder)


def test_what_settling_gives_up_is_read_last_so_that_it_lies_side_by_side(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    order: list[str] = []
    plain = diffusion_weights._read

    def noting(path: Path) -> diffusion_weights.Reader:
        read = plain(path)

        def one(name: str) -> torch.Tensor:
            if path.parent.name == "unet":
                order.append(name)
            return read(name)

        return one

    monkeypatch.setattr(diffusion_weights, "_read", noting)

    parts = diffusion_weights.load_diffusion(folder)
    before = set(parts.unet.state_dict())
    backbone(parts).settle()

    given_up = before - set(parts.unet.state_dict())
    assert given_up
    assert set(order[-len(given_up) :]) == given_up


@pytest.mark.parametrize(("large", "times"), [(1, 3), (2**40, 0)])
def test_freed_memory_is_given_back_around_large_arrays_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, large: int, times: int
):
    given: list[None] = []
    monkeypatch.setattr(allocator, "give_back_freed_memory", lambda: given.append(None))
    monkeypatch.setattr(allocator, "LARGE", large)

    network = backbone(diffusion_weights.load_diffusion(folder))
    network.links(np.zeros((40, 60, 3), np.uint8))

    assert len(given) == times
