import json
import re
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from cliper_model.backbones import clip_weights
from cliper_model.backbones.clip import ClipBackbone
from cliper_model.errors import WeightsMismatch, WeightsMissing

from . import synthesise

NAME = "tiny-quickgelu"


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small models that differ in their activation only, under names like the real ones."""
    known = {
        NAME: synthesise.SMALL_CLIP,
        "tiny": synthesise.SMALL_CLIP | {"quick_gelu": False},
        "deeper-quickgelu": synthesise.SMALL_CLIP
        | {"vision_cfg": synthesise.SMALL_CLIP["vision_cfg"] | {"layers": 3}},
    }
    original = open_clip.get_model_config
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: known.get(name, original(name)))
    monkeypatch.setattr(
        open_clip, "get_tokenizer", lambda name: open_clip.SimpleTokenizer(context_length=77)
    )


def features(model: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return model.encode_image(torch.randn(1, 3, 32, 32, generator=generator))


def test_a_safetensors_file_gives_the_same_features_as_open_clips_own_loading(tmp_path: Path):
    path = synthesise.write_clip(tmp_path / "clip.safetensors")
    own = open_clip.CLIP(**synthesise.SMALL_CLIP)
    own.load_state_dict(load_file(path))

    model, tokenizer = clip_weights.load_clip(path, NAME)

    torch.testing.assert_close(features(model), features(own.eval()))
    tokens = tokenizer(["a house", "the sky"])
    torch.testing.assert_close(model.encode_text(tokens), own.encode_text(tokens))


def test_an_archive_gives_the_same_features_as_the_safetensors_file(tmp_path: Path):
    archive = synthesise.write_clip_archive(tmp_path / "clip.pt")
    half = synthesise.write_clip(tmp_path / "clip.safetensors", dtype=torch.float16)

    from_archive, _ = clip_weights.load_clip(archive, NAME)
    from_file, _ = clip_weights.load_clip(half, NAME)

    assert torch.equal(features(from_archive), features(from_file))


def test_a_plain_state_dict_is_read_without_unpickling_objects(tmp_path: Path):
    state = synthesise.clip_state(synthesise.SMALL_CLIP)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pt")

    model, _ = clip_weights.load_clip(tmp_path / "a.pt", NAME)

    assert torch.equal(model.visual.proj, state["visual.proj"].float())


def test_a_pickle_of_other_objects_is_refused_and_not_run(tmp_path: Path):
    witness = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (witness,)  # type: ignore[return-value]

    torch.save({"weights": Trap()}, tmp_path / "trap.pt")

    with pytest.raises(WeightsMismatch, match="nor a plain state dict"):
        clip_weights.load_clip(tmp_path / "trap.pt", NAME)
    assert not witness.exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_loaded_model_is_frozen_whole_and_of_the_wanted_type(
    tmp_path: Path, dtype: torch.dtype
):
    path = synthesise.write_clip(tmp_path / "clip.safetensors")

    model, _ = clip_weights.load_clip(path, NAME, dtype=dtype)

    tensors = [*model.parameters(), *model.buffers()]
    assert not any(tensor.is_meta or tensor.requires_grad for tensor in tensors)
    assert {tensor.dtype for tensor in tensors} == {dtype}
    assert not model.training


def test_in_bfloat16_only_products_of_the_vision_tower_are_rough(tmp_path: Path):
    path = synthesise.write_clip(tmp_path / "clip.safetensors")

    model, _ = clip_weights.load_clip(path, NAME, dtype=torch.bfloat16)

    rough = {
        re.sub(r"resblocks\.\d+\.", "", name.removeprefix("visual."))
        for name, tensor in model.state_dict().items()
        if tensor.dtype == torch.bfloat16
    }
    products = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    parts = ("c_fc.weight", "c_fc.bias", "c_proj.weight", "c_proj.bias")
    assert rough == {
        "conv1.weight",
        "proj",
        *(f"transformer.attn.{name}" for name in products),
        *(f"transformer.mlp.{name}" for name in parts),
    }
    assert {tensor.dtype for tensor in model.state_dict().values()} == {
        torch.bfloat16,
        torch.float32,
    }
    assert model.attn_mask.dtype == torch.float32  # type: ignore[union-attr]


def test_in_bfloat16_the_matrices_of_the_text_tower_stay_in_their_file(tmp_path: Path):
    path = synthesise.write_clip(tmp_path / "clip.safetensors")

    whole, _ = clip_weights.load_clip(path, NAME)
    model, _ = clip_weights.load_clip(path, NAME, dtype=torch.bfloat16)

    kept = dict(model.state_dict())
    assert not any(tensor.is_meta for tensor in kept.values())
    assert not any(key.startswith(("transformer.", "token_embedding.")) for key in kept)
    blocks = zip(whole.transformer.resblocks, model.transformer.resblocks, strict=True)
    for block, left in blocks:
        brought = left.brought().state_dict()
        assert brought.keys() == block.state_dict().keys()
        for name, tensor in block.state_dict().items():
            assert brought[name].dtype == torch.float32
            assert torch.equal(brought[name], tensor.float())
    ids = torch.tensor([[3, 0], [1, 3]])
    assert torch.equal(model.token_embedding(ids), whole.token_embedding(ids))


def test_a_state_dict_keeps_its_text_matrices_in_half(tmp_path: Path):
    torch.save(synthesise.clip_state(synthesise.SMALL_CLIP), tmp_path / "clip.pt")

    model, _ = clip_weights.load_clip(tmp_path / "clip.pt", NAME, dtype=torch.bfloat16)

    halved = {
        re.sub(r"resblocks\.\d+\.", "", name)
        for name, tensor in model.state_dict().items()
        if tensor.dtype == torch.float16
    }
    matrices = (
        "attn.in_proj_weight",
        "attn.out_proj.weight",
        "mlp.c_fc.weight",
        "mlp.c_proj.weight",
    )
    assert halved == {"token_embedding.weight", *(f"transformer.{name}" for name in matrices)}


def test_another_file_in_its_place_changes_no_text_row(tmp_path: Path):
    path = synthesise.write_clip(tmp_path / "clip.safetensors", metadata={"quick_gelu": "true"})
    model, tokenizer = clip_weights.load_clip(path, NAME, dtype=torch.bfloat16)
    clip = ClipBackbone(model, tokenizer)
    before = clip.encode_words(["sky"], ["a {}."])

    (tmp_path / "other").write_bytes(b"something else")
    (tmp_path / "other").replace(path)

    assert torch.equal(clip.encode_words(["sky"], ["a {}."]), before)


def test_a_file_written_to_while_in_use_is_refused(tmp_path: Path):
    path = synthesise.write_clip(tmp_path / "clip.safetensors", metadata={"quick_gelu": "true"})
    model, tokenizer = clip_weights.load_clip(path, NAME, dtype=torch.bfloat16)

    path.write_bytes(path.read_bytes() + b"more")

    with pytest.raises(WeightsMismatch, match="was changed while in use: start again"):
        ClipBackbone(model, tokenizer).encode_words(["sky"], ["a {}."])


@pytest.mark.parametrize("name", ["clip.safetensors", "openai/clip.pt"])
def test_text_in_its_file_or_in_half_gives_the_rows_of_float32_to_the_bit(
    tmp_path: Path, name: str
):
    path = tmp_path / name
    if path.suffix == ".pt":
        path.parent.mkdir()
        torch.save(synthesise.clip_state(synthesise.SMALL_CLIP), path)
    else:
        synthesise.write_clip(path, metadata={"quick_gelu": "true"})
    words, sentences = ["sky", "a red car", "grass"], ["{}.", "a photo of a {}."]

    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        model, tokenizer = clip_weights.load_clip(path, NAME, dtype=dtype)
        rows.append(ClipBackbone(model, tokenizer).encode_words(words, sentences))

    assert torch.equal(*rows)


def test_a_text_matrix_that_half_cannot_hold_stays_as_it_is(tmp_path: Path):
    state = synthesise.clip_state(synthesise.SMALL_CLIP)
    name = "transformer.resblocks.0.mlp.c_fc.weight"
    state[name] = state[name].float() + 2**-20
    path = tmp_path / "clip.pt"
    torch.save({key: tensor.float() for key, tensor in state.items()}, path)

    model, _ = clip_weights.load_clip(path, NAME, dtype=torch.bfloat16)

    assert torch.equal(model.state_dict()[name], state[name])
    assert model.state_dict()["token_embedding.weight"].dtype == torch.float16


def test_an_archive_of_openai_is_refused_under_a_name_without_quickgelu(tmp_path: Path):
    archive = synthesise.write_clip_archive(tmp_path / "clip.pt")

    with pytest.raises(WeightsMismatch) as refusal:
        clip_weights.load_clip(archive, "tiny")

    assert str(refusal.value) == (
        f"{archive} was trained with QuickGELU (it is an OpenAI archive), but tiny is built with "
        "GELU: use the model name tiny-quickgelu"
    )


@pytest.mark.parametrize("told", [{"hidden_act": "gelu"}, {"quick_gelu": "false"}])
def test_a_checkpoint_whose_metadata_says_gelu_is_refused_under_a_quickgelu_name(
    tmp_path: Path, told: dict[str, str]
):
    path = synthesise.write_clip(tmp_path / "clip.safetensors", metadata=told)

    with pytest.raises(WeightsMismatch, match=r"trained with GELU .* use the model name tiny$"):
        clip_weights.load_clip(path, NAME)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("open_clip_config.json", {"model_cfg": {"embed_dim": 16}}),
        ("config.json", {"vision_config": {"hidden_act": "gelu"}}),
    ],
)
def test_a_configuration_beside_the_file_that_means_gelu_is_refused_too(
    tmp_path: Path, name: str, config: dict[str, object]
):
    path = synthesise.write_clip(tmp_path / "clip.safetensors", metadata={"format": "pt"})
    (tmp_path / name).write_text(json.dumps(config))

    with pytest.raises(WeightsMismatch, match=f"{name} beside it says"):
        clip_weights.load_clip(path, NAME)


def test_a_pretrained_tag_with_another_activation_is_refused_before_any_download():
    with pytest.raises(WeightsMismatch, match="tagged 'openai' were trained with QuickGELU"):
        clip_weights.load_clip("openai", "ViT-B-16")


def test_a_model_of_another_size_is_told_in_one_sentence(tmp_path: Path):
    path = synthesise.write_clip(tmp_path / "clip.safetensors")

    with pytest.raises(WeightsMismatch) as refusal:
        clip_weights.load_clip(path, "deeper-quickgelu")

    assert str(refusal.value) == (
        f"{path} holds a CLIP with layers 2, width 64, patch 8, image size 32, embedding 16; "
        "deeper-quickgelu needs layers 3, width 64, patch 8, image size 32, embedding 16"
    )


def test_missing_and_unexpected_tensors_are_named(tmp_path: Path):
    state = synthesise.clip_state(synthesise.SMALL_CLIP)
    state["visual.extra"] = state.pop("ln_final.weight")
    save_file(state, str(tmp_path / "clip.safetensors"))

    with pytest.raises(WeightsMismatch) as refusal:
        clip_weights.load_clip(tmp_path / "clip.safetensors", NAME)

    assert "lacks 1 tensors (ln_final.weight)" in str(refusal.value)
    assert "has unexpected 1 tensors (visual.extra)" in str(refusal.value)


def test_a_file_of_another_library_is_recognised(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file({"vision_model.embeddings.class_embedding": torch.zeros(4)}, str(path))

    with pytest.raises(WeightsMismatch, match="tensor names of the transformers library"):
        clip_weights.load_clip(path, NAME)


def test_a_cut_safetensors_file_is_a_mismatch_not_a_crash(tmp_path: Path):
    path = synthesise.write_clip(tmp_path / "clip.safetensors")
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(WeightsMismatch, match="not a whole safetensors file"):
        clip_weights.load_clip(path, NAME)


def test_an_unknown_model_name_names_the_ones_to_use(tmp_path: Path):
    with pytest.raises(WeightsMismatch, match="ViT-B-16-quickgelu or ViT-L-14-quickgelu"):
        clip_weights.load_clip(tmp_path, "ViT-Z-99")


def test_a_hub_repository_that_is_not_cached_says_so_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(WeightsMissing, match=r"^unset HF_HUB_OFFLINE, or give"):
        clip_weights.load_clip("hf-hub:timm/vit_base_patch16_clip_224.openai", NAME)


def test_a_hub_repository_in_the_cache_is_used_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--clip" / "snapshots" / "abc"
    path = synthesise.write_clip(snapshot / "open_clip_model.safetensors")

    model, _ = clip_weights.load_clip("someone/clip", NAME)

    assert torch.equal(model.visual.proj, load_file(path)["visual.proj"])


def test_the_demo_tower_gets_its_stored_token_rows_and_zeros_elsewhere(tmp_path: Path):
    state = synthesise.clip_state(synthesise.SMALL_CLIP)
    table = state.pop("token_embedding.weight").float()
    used = torch.tensor([0, 320, 49406, 49407])
    save_file(
        {
            **state,
            "token_embedding.used_ids": used,
            "token_embedding.used_rows": table[used].half(),
        },
        str(tmp_path / "clip.safetensors"),
    )
    (tmp_path / "demo.json").write_text(json.dumps({"clip": synthesise.SMALL_CLIP}))

    model, tokenizer = clip_weights.load_demo_clip(tmp_path)

    rows = model.token_embedding.weight
    assert rows.shape == (49408, 8)
    assert torch.equal(rows[used], table[used].half().float())
    assert int((rows.abs().sum(dim=1) > 0).sum()) == len(used)
    assert tokenizer(["a"]).shape == (1, 77)


def test_a_demo_folder_without_weights_says_how_to_get_them(tmp_path: Path):
    with pytest.raises(WeightsMissing, match="cliper train-demo"):
        clip_weights.load_demo_clip(tmp_path)
