"""TAESD in place of Stable Diffusion's own encoder, from its files to masks and versions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file, save_file

import cliper_model
from backend.__main__ import main
from backend.errors import BadSetting
from backend.model_pool import ModelChoice
from backend.settings import VAES, Settings
from backend.wiring import build, check_choice, real_model
from benchmarks import agreement
from cliper_model import loading, profiles
from cliper_model.backbones import diffusion_weights, taesd, weights
from cliper_model.backbones.diffusion import DiffusionBackbone
from cliper_model.demo.scene_folder import write_scene_folder
from cliper_model.errors import UnknownVae, UnneededVae, WeightsMismatch, WeightsMissing

from . import synthesise
from .conftest import write_standard
from .flops import counting

FILE = "diffusion_pytorch_model.safetensors"
OWN = "stable-diffusion-2-1-base/vae/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return synthesise.write_taesd(tmp_path / "taesd")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with the `standard` profile and TAESD, all small."""
    path = write_standard(tmp_path / "weights", monkeypatch)
    synthesise.write_taesd(path / "taesd")
    return path


def pixels(count: int, side: int = 64) -> torch.Tensor:
    drawn = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return 2 * drawn - 1


def picture(seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def parts_of(profile: profiles.Profile) -> dict[str, list[str]]:
    return {
        component.name: [file.path for file in component.variants[0].files]
        for component in profile.components
    }


# -- the network ----------------------------------------------------------------------


def test_it_encodes_as_diffusers_does_to_the_bit(folder: Path):
    theirs = AutoencoderTiny.from_pretrained(folder).to(memory_format=torch.channels_last)

    ours = taesd.load_taesd(folder)

    with torch.no_grad():
        latent, expected = taesd.latent(ours, pixels(1)), theirs.encode(pixels(1)).latents
    assert latent.shape == (1, 4, 8, 8)
    assert torch.equal(latent, expected)


def test_kernels_in_another_order_of_memory_move_sums_only(folder: Path):
    plain = AutoencoderTiny.from_pretrained(folder)

    with torch.no_grad():
        latent = taesd.latent(taesd.load_taesd(folder), pixels(1))
        expected = plain.encode(pixels(1)).latents

    torch.testing.assert_close(latent, expected, rtol=1e-5, atol=1e-6)


def test_several_pictures_are_each_alone(folder: Path):
    vae, three = taesd.load_taesd(folder), pixels(3)

    with torch.no_grad():
        together = taesd.latent(vae, three)
        alone = torch.cat([taesd.latent(vae, one[None]) for one in three])

    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_only_the_encoder_is_kept_in_the_number_format_asked_for(folder: Path, dtype: torch.dtype):
    vae = taesd.load_taesd(folder, dtype=dtype)

    state = vae.state_dict()
    assert {name.split(".")[0] for name in state} == {"encoder"}
    assert {tensor.dtype for tensor in state.values()} == {dtype}
    assert not any(tensor.is_meta or tensor.requires_grad for tensor in vae.parameters())


def test_a_scaling_factor_counts(folder: Path):
    edit(folder, scaling_factor=0.5)
    vae = taesd.load_taesd(folder)

    with torch.no_grad():
        assert torch.equal(taesd.latent(vae, pixels(1)), vae.encoder(pixels(1)) * 0.5)


def convolution(places: int, before: int, after: int) -> int:
    return 2 * places * 9 * before * after


def test_one_picture_at_true_size_takes_a_ninth_of_the_operations(tmp_path: Path):
    vae = taesd.load_taesd(synthesise.write_taesd(tmp_path, small=False))
    whole = diffusion_weights.AutoencoderKL.from_config(synthesise.VAE)
    blocks, side, width = (1, 3, 3, 3), 512, 64
    expected = convolution(side**2, 3, width)
    for level, count in enumerate(blocks):
        places = (side >> level) ** 2
        halving = convolution(places, width, width) if level else 0
        expected += halving + 3 * count * convolution(places, width, width)
    expected += convolution((side >> 3) ** 2, width, 4)

    with torch.no_grad(), torch.device("meta"), counting() as count:
        vae.to("meta").encoder(torch.empty(1, 3, side, side))
    with torch.no_grad(), torch.device("meta"), counting() as own:
        whole.to("meta").encoder(torch.empty(1, 3, side, side))

    assert count.flops == expected
    assert round(count.flops / 1e9) == 122
    assert round(own.flops / 1e9) == 1117
    assert round(own.flops / count.flops) == 9


# -- files that do not fit ------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"_class_name": "AutoencoderKL"}, "describes 'AutoencoderKL' where TAESD is"),
        ({"latent_channels": 16}, "encodes into 16 channels and 4 levels"),
        (
            {"encoder_block_out_channels": [8, 8, 8], "num_encoder_blocks": [1, 3, 3]},
            "4 channels and 3 levels",
        ),
        ({"num_encoder_blocks": [1, 3, 3, 4]}, "is not a TAESD as its config.json says: it lacks"),
        ({"encoder_block_out_channels": [16, 16, 16, 16]}, "has the shape"),
    ],
)
def test_another_layout_is_refused(folder: Path, changes: dict[str, Any], sentence: str):
    edit(folder, **changes)

    with pytest.raises(WeightsMismatch, match=sentence):
        taesd.load_taesd(folder)


def test_tensors_of_nobody_are_refused_and_the_decoder_is_not_asked_for(folder: Path):
    stored = load_file(folder / FILE)
    encoder = {name: tensor for name, tensor in stored.items() if name.startswith("encoder.")}

    save_file(encoder, str(folder / FILE))
    taesd.load_taesd(folder)
    save_file({**stored, "quant_conv.weight": torch.zeros(1)}, str(folder / FILE))

    with pytest.raises(WeightsMismatch, match=r"has unexpected 1 tensors \(quant_conv\.weight\)"):
        taesd.load_taesd(folder)


def test_a_cut_file_and_a_missing_one_are_said(folder: Path):
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:500])
    with pytest.raises(WeightsMismatch, match="not a whole safetensors file"):
        taesd.load_taesd(folder)

    (folder / FILE).unlink()
    with pytest.raises(WeightsMissing, match=FILE):
        taesd.load_taesd(folder)

    (folder / "config.json").unlink()
    with pytest.raises(WeightsMissing, match=r"config\.json not found"):
        taesd.load_taesd(folder)


# -- the choice -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "choice",
    [
        {"name": "standard"},
        {"name": "best"},
        {"name": "fast", "method": "proxyclip", "features": "diffusion-s"},
    ],
)
def test_whatever_runs_stable_diffusion_may_have_it(choice: dict[str, str]):
    plain, small = profiles.get(**choice), profiles.get(**choice, vae="taesd")

    before, after = parts_of(plain), parts_of(small)
    assert after.pop("taesd") == ["config.json", FILE]
    own = set(before["stable-diffusion-2-1-base"]) - set(after["stable-diffusion-2-1-base"])
    assert own == {"vae/diffusion_pytorch_model.fp16.safetensors"}
    assert small.choice == f"{plain.choice} --vae taesd"
    assert small.licence.endswith("MIT (TAESD (small VAE of Stable Diffusion's latent space))")
    assert small.published_miou is None


def test_its_file_is_pinned():
    (variant,) = profiles.component("taesd").variants
    _, tensors = variant.files

    assert tensors.sha256 is not None
    assert tensors.bytes == 9_793_292
    assert [len(source.revision) for source in variant.sources] == [40]


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"name": "demo"}, "the demo weights have a VAE and a latent space of their own"),
        (
            {"name": "demo", "method": "proxyclip", "features": "diffusion-s"},
            "the demo weights have a VAE",
        ),
        ({"name": "fast"}, "'fast' runs no Stable Diffusion, CLIPer with PROFILE=standard or"),
        ({"name": "standard", "method": "maskclip"}, "'standard --method maskclip' runs no"),
        ({"name": "standard", "features": "dino-vitb8"}, "'standard --features dino-vitb8' runs"),
    ],
)
def test_where_it_makes_no_sense_one_sentence_says_so(choice: dict[str, str], sentence: str):
    with pytest.raises(UnneededVae, match=f"leave the VAE 'taesd' out: {sentence}"):
        profiles.get(**choice, vae="taesd")


def test_published_figures_and_unknown_encoders_are_refused(root: Path):
    with pytest.raises(UnneededVae, match="what is published was computed with Stable Diffusion"):
        cliper_model.load("standard", vae="taesd", published=True, weights_dir=root)
    with pytest.raises(UnknownVae, match="unknown VAE 'taef1'; leave it out, or choose one of: ta"):
        profiles.get("standard", vae="taef1")


def test_the_settings_know_every_vae():
    assert tuple(profiles.VAES) == VAES
    assert Settings.from_environ({"VAE": "taesd"}).vae == "taesd"
    assert Settings.from_environ({}).vae is None
    with pytest.raises(BadSetting, match="VAE must be one of taesd, got 'full'"):
        Settings.from_environ({"VAE": "full"})


# -- the whole chain ------------------------------------------------------------------


def test_the_model_looks_through_it_and_the_own_vae_is_not_needed(root: Path):
    (root / OWN).unlink()

    model: Any = cliper_model.load("standard", vae="taesd", device="cpu", weights_dir=root)

    diffusion: DiffusionBackbone = model.diffusion
    encoder = taesd.load_taesd(root / "taesd", dtype=diffusion.dtype)
    with torch.no_grad():
        expected = taesd.latent(encoder, pixels(2, diffusion.side).to(diffusion.dtype))
        assert torch.equal(diffusion.encode(pixels(2, diffusion.side)), expected)
    assert model.segment(picture(), ["sky", "house"]).label_map.shape == (60, 90)
    with pytest.raises(WeightsMissing, match="cliper weights fetch standard'"):
        cliper_model.load("standard", device="cpu", weights_dir=root)


def test_links_of_several_pictures_are_each_alone(root: Path):
    model: Any = cliper_model.load(
        "standard", vae="taesd", device="cpu", dtype="float32", weights_dir=root
    )
    images = [picture(seed) for seed in range(3)]

    together = model.diffusion.links_of_many(images)

    for image, found in zip(images, together, strict=True):
        queries, keys = model.diffusion.links(image)
        torch.testing.assert_close(found.queries, queries, rtol=1e-4, atol=3e-5)
        torch.testing.assert_close(found.keys, keys, rtol=1e-4, atol=3e-5)


def test_a_feature_source_of_stable_diffusion_looks_through_it_too(root: Path):
    choice: dict[str, Any] = {"method": "proxyclip", "features": "diffusion-s", "device": "cpu"}

    small: Any = cliper_model.load("standard", vae="taesd", weights_dir=root, **choice)
    plain: Any = cliper_model.load("standard", weights_dir=root, **choice)

    square = (pixels(1) + 1) / 2
    assert small.features.side == plain.features.side
    found, other = small.features.features(square), plain.features.features(square)
    assert found.shape == other.shape
    assert not torch.equal(found, other)


def test_missing_files_are_one_sentence_with_the_command(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    (root / "taesd" / FILE).unlink()

    with pytest.raises(WeightsMissing) as refusal:
        cliper_model.load("standard", vae="taesd", device="cpu", weights_dir=root)
    assert "unset HF_HUB_OFFLINE and run 'cliper weights fetch standard --vae taesd' (9 MiB)" in (
        str(refusal.value)
    )
    assert "TAESD (small VAE" in str(refusal.value)
    assert "Stable Diffusion 2.1-base" not in str(refusal.value)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(WeightsMissing, match="run 'cliper weights fetch standard --vae taesd'"):
        loading.identity("standard", root, vae="taesd")


def test_it_is_found_in_the_hubs_cache(root: Path, tmp_path: Path):
    (source,) = profiles.component("taesd").variants[0].sources
    snapshot = tmp_path / "hub" / "models--madebyollin--taesd" / "snapshots" / source.revision
    snapshot.parent.mkdir(parents=True)
    (root / "taesd").rename(snapshot)

    places = weights.locate(profiles.get("standard", vae="taesd"), root)

    assert places["vae"] == snapshot
    assert cliper_model.load("standard", vae="taesd", device="cpu", weights_dir=root).identity


def test_a_file_that_is_not_the_published_one_is_told(root: Path, monkeypatch: pytest.MonkeyPatch):
    told = "the file of taesd is not the published one"

    model: Any = cliper_model.load("standard", vae="taesd", device="cpu", weights_dir=root)
    assert told in model.diffusion.differences

    monkeypatch.setattr(weights, "is_published", lambda *_: True)
    model = cliper_model.load("standard", vae="taesd", device="cpu", weights_dir=root)
    assert told not in model.diffusion.differences


def test_segment_runs_the_whole_chain_with_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODEL_DIR", str(root))
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    command = ["segment", str(tmp_path / "photo.png"), "--labels", "sky, house", "--out",
               str(tmp_path / "out"), "--profile", "standard", "--device", "cpu"]  # fmt: skip

    assert main([*command, "--vae", "taesd"]) == 0

    report = json.loads((tmp_path / "out" / "photo.json").read_text())
    assert f"taesd/{FILE}" in report["model"]["weights"]
    assert OWN not in report["model"]["weights"]


def test_published_tables_are_not_measured_through_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    command = ["evaluate", "--dataset", "voc21", "--root", str(tmp_path), "--published"]

    assert main([*command, "--profile", "standard", "--vae", "taesd"]) == 2

    assert "cliper: leave the VAE 'taesd' out: what is published" in capsys.readouterr().err


def test_its_files_are_verified_where_they_are(root: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["weights", "verify", "--dir", str(root)]) == 1  # none is the published one
    told = capsys.readouterr()
    assert f"damaged  taesd/{FILE}" in told.out
    assert "run 'cliper weights fetch standard --vae taesd'" in told.err

    (root / "taesd" / FILE).unlink()
    main(["weights", "verify", "--dir", str(root)])
    assert "taesd" not in capsys.readouterr().out
    main(["weights", "verify", "standard", "--vae", "taesd", "--dir", str(root)])
    told = capsys.readouterr()
    assert f"missing  taesd/{FILE}" in told.out
    assert OWN not in told.out


# -- versions -------------------------------------------------------------------------


def test_masks_of_another_encoder_are_another_version(root: Path):
    plain, small = (loading.identity("standard", root, vae=vae) for vae in (None, "taesd"))

    assert plain != small
    assert set(plain.weights) - set(small.weights) == {OWN}
    assert set(small.weights) - set(plain.weights) == {f"taesd/{FILE}"}
    assert (plain.settings.get("vae"), small.settings["vae"]) == (None, "taesd")
    assert loading.identity_after_fetch("standard", root, vae="taesd") == small
    synthesise.write_taesd(root / "taesd", seed=1)
    assert loading.identity("standard", root, vae="taesd") != small


def test_looks_are_kept_apart_and_rows_of_words_are_not(root: Path):
    plain, small = (
        cliper_model.load("standard", vae=vae, device="cpu", weights_dir=root)
        for vae in (None, "taesd")
    )
    labels = ["sky", "house"]

    assert loading.identity("standard", root, vae="taesd") == small.identity != plain.identity
    one, other = (model.observe(picture()) for model in (plain, small))
    assert not torch.equal(one.queries, other.queries)  # type: ignore[attr-defined]
    assert torch.equal(plain.read(labels).rows, small.read(labels).rows)


# -- the service ----------------------------------------------------------------------


def settings(root: Path, **more: Any) -> Settings:
    return Settings(device="cpu", model_dir=root, vae="taesd", **more)


def test_health_says_which_encoder_is_used(root: Path):
    own = real_model(Settings(device="cpu", model_dir=root))
    small = real_model(settings(root))

    told = [source.describe(source.load("standard", lambda share: None)) for source in (own, small)]
    fast = own.describe(own.load("fast", lambda share: None))

    assert [one["vae"] for one in told] == ["own", "taesd"]
    assert fast["vae"] is None
    assert "the file of taesd is not the published one" in told[1]["fallbacks"]
    assert small.identify("standard") == small.foresee("standard") != own.identify("standard")


def test_a_service_with_no_use_for_it_is_refused_at_the_start(root: Path):
    with pytest.raises(UnneededVae):
        build(settings(root, profile="demo"))
    with pytest.raises(UnneededVae):
        build(settings(root, profile="standard", method="maskclip"))
    check_choice(settings(root))  # which profile the hardware suggests is not known yet
    with pytest.raises(UnneededVae, match="'fast' runs no Stable Diffusion"):
        real_model(settings(root)).identify("fast")


def test_models_that_label_configs_name_use_it_where_they_can(root: Path):
    other = real_model(settings(root), own=False)

    assert other.identify("fast").settings.get("vae") is None
    assert other.identify("standard").settings["vae"] == "taesd"


def test_a_label_config_may_still_name_a_model_without_stable_diffusion(root: Path):
    services = build(settings(root, profile="standard"))
    try:
        host = services.models.host(ModelChoice(method="maskclip"))
        host.join()

        assert host.status.state == "ready"
        assert host.status.details["vae"] is None
    finally:
        services.close()


# -- its agreement --------------------------------------------------------------------


def test_the_measurement_tells_both_encoders_and_strange_weights_apart(root: Path):
    told = agreement.measure(
        agreement.drawn(2), profile="standard", weights_dir=root, device="cpu", dtype="float32"
    )

    assert (told["pictures"], told["dtype"]) == (2, "float32")
    assert told["published_weights"] is False
    assert 0 <= told["equal_pixels_of_the_worst_picture"] <= told["equal_pixels"] <= 1
    assert told["latents_apart"] > 0.1  # two random networks have little in common
    assert set(told["miou"]) == set(told["encoder_seconds"]) == {"own", "taesd"}
    assert told["miou_difference"] == pytest.approx(
        told["miou"]["taesd"] - told["miou"]["own"], abs=0.002
    )


def test_pictures_of_ones_own_come_with_their_masks(tmp_path: Path):
    write_scene_folder(2, 0, tmp_path)

    mine = agreement.own(tmp_path, 5)

    image, truth = mine.read(1)
    assert mine.count == 2
    assert image.shape[:2] == truth.shape
    assert truth.max() <= len(mine.classes)


def test_an_encoder_agrees_with_itself(root: Path, monkeypatch: pytest.MonkeyPatch):
    load = loading.load
    monkeypatch.setattr(
        loading, "load", lambda profile, **told: load(profile, **told | {"vae": None})
    )

    told = agreement.measure(
        agreement.drawn(2), profile="standard", weights_dir=root, device="cpu", dtype="float32"
    )

    assert told["equal_pixels"] == 1
    assert told["latents_apart"] == 0
    assert told["miou_difference"] == 0
