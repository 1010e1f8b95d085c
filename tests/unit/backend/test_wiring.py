"""Settings -> the real objects."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import cliper_model
from backend.errors import ImageError
from backend.settings import Settings
from backend.wiring import build, devices, pictures, real_model
from cliper_model.backbones import diffusion, winograd
from cliper_model.errors import (
    CliperError,
    NoSuchDevice,
    UnknownMethod,
    UnknownProfile,
    UnknownSource,
    UnneededSource,
)
from cliper_model.stages import cards
from cliper_model.stages.recordings import Recordings


def test_an_unknown_profile_is_refused_before_anything_starts():
    with pytest.raises(UnknownProfile):
        build(Settings(profile="huge"))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (Settings(method="sam"), UnknownMethod),
        (Settings(method="proxyclip", features="dino"), UnknownSource),
        (Settings(profile="demo", method="cliptrase", features="clip"), UnneededSource),
    ],
)
def test_a_wrong_method_or_source_is_refused_before_anything_starts(
    settings: Settings, error: type[CliperError]
):
    with pytest.raises(error):
        build(settings)


def test_the_method_reaches_identity_model_and_health():
    source = real_model(Settings(profile="demo", method="proxyclip", device="cpu"))

    known = source.identify("demo")
    segmenter = source.load("demo", lambda share: None)
    told = source.describe(segmenter)

    assert known.method == "proxyclip"
    assert segmenter.identity == known == source.foresee("demo")
    assert (told["method"], told["features"]) == ("proxyclip", "clip")
    assert real_model(Settings(method="maskclip")).identify("demo") != known


def test_a_card_without_our_kernels_is_told_in_health(monkeypatch: pytest.MonkeyPatch):
    source = real_model(Settings(profile="demo", device="cpu"))
    segmenter = source.load("demo", lambda share: None)
    assert source.describe(segmenter)["fallbacks"] == []
    monkeypatch.setattr(cards, "found", lambda device: cards.Found(missing=f"none on {device}"))

    assert source.describe(segmenter)["fallbacks"] == ["none on cpu"]


def test_a_card_that_records_nothing_any_more_is_told_in_health():
    source = real_model(Settings(profile="demo", device="cpu"))
    segmenter = source.load("demo", lambda share: None)
    assert source.describe(segmenter)["fallbacks"] == []

    segmenter.recordings._leave("no room for graphs")

    slower = "scores are started kernel by kernel, which is slower (no room for graphs)"
    assert source.describe(segmenter)["fallbacks"] == [slower]


@pytest.mark.parametrize("wanted", [True, False])
def test_graphs_are_recorded_unless_the_setting_says_no(wanted: bool):
    source = real_model(Settings(profile="demo", device="cpu", cuda_graphs=wanted))

    assert source.load("demo", lambda share: None).recordings.wanted == wanted


class OnACard:
    """What a model on a card tells: one with refinement by a diffusion model."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.clip = self.diffusion = SimpleNamespace(
            device=torch.device("cuda:0"), number_format="float16", convolutions="direct"
        )
        self.identity = cliper_model.identity("demo")
        self.recordings = Recordings(wanted=wanted)


def test_health_says_whether_a_card_starts_scores_at_once(monkeypatch: pytest.MonkeyPatch):
    found = cards.Found(kernels=object())
    monkeypatch.setattr(cards, "found", lambda device: found)
    describe = real_model(Settings(profile="standard")).describe
    graphs, none_wanted = OnACard(), OnACard(wanted=False)

    def told(one: object) -> object:
        return describe(one)["cuda_graphs"]  # type: ignore[arg-type]

    assert (told(graphs), told(none_wanted)) == (True, False)
    graphs.recordings._leave("no room for graphs")
    assert told(graphs) is False
    found = cards.Found(missing="none of our kernels")
    assert told(OnACard()) is False
    on_cpu = real_model(Settings(profile="demo", device="cpu"))
    assert told(on_cpu.load("demo", lambda share: None)) is None


@pytest.mark.parametrize("wanted", [True, False])
def test_half_of_the_multiplications_unless_the_setting_says_no(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(winograd, "pays", lambda: True)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(winograd, "LEAST_POSITIONS", 1)
    monkeypatch.setattr(diffusion, "can_be_packed", lambda device, dtype: True)
    settings = Settings(profile="demo", device="cpu", dtype="float32", winograd=wanted)
    source = real_model(settings)

    segmenter = source.load("demo", lambda share: None)

    vae = segmenter.diffusion.vae  # type: ignore[attr-defined]
    halved = [one for one in vae.modules() if isinstance(one, winograd.WinogradConv2d)]
    assert bool(halved) == wanted
    told = source.describe(segmenter)
    assert told["convolutions"] == ("winograd" if wanted else "direct")


def test_published_figures_are_made_with_all_multiplications(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(winograd, "pays", lambda: True)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(winograd, "LEAST_POSITIONS", 1)
    monkeypatch.setattr(diffusion, "can_be_packed", lambda device, dtype: True)

    model = cliper_model.load("demo", device="cpu", dtype="float32", published=True)

    assert model.diffusion.convolutions == "direct"


def test_a_model_without_an_autoencoder_has_none_to_tell_of():
    source = real_model(Settings(profile="demo", method="maskclip", device="cpu"))

    told = source.describe(source.load("demo", lambda share: None))

    assert (told["convolutions"], told["cuda_graphs"]) == (None, None)


@pytest.mark.parametrize(
    ("cuda", "device", "profile"),
    [(True, None, "standard"), (False, None, "fast"), (True, "cpu", "fast")],
)
def test_without_a_choice_the_hardware_suggests_the_profile(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, device: str | None, profile: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)

    assert real_model(Settings(device=device)).profile() == profile


def test_a_chosen_profile_is_kept():
    assert real_model(Settings(profile="best")).profile() == "best"


def test_a_graphics_card_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(NoSuchDevice, match=r"^no device 'cuda:1' is found here; choose"):
        real_model(Settings(device="cuda:1")).load("demo", lambda share: None)


def test_without_a_choice_every_card_that_is_visible_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)

    assert devices(Settings()) == ("cuda:0", "cuda:1", "cuda:2")
    assert devices(Settings(device="cuda:1")) == ("cuda:1",)
    assert devices(Settings(device="cuda:2,cuda:0")) == ("cuda:2", "cuda:0")
    assert devices(Settings(device="cpu")) == ("cpu",)


def test_without_a_card_there_is_one_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    assert devices(Settings()) == ("cpu",)


def test_what_runs_on_one_device_alone_takes_the_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(NoSuchDevice, match=r"^no device 'cuda:1' is found here; choose"):
        real_model(Settings(device="cuda:1,cuda:0")).load("demo", lambda share: None)


def test_devices_load_the_same_weights_one_after_the_other():
    services = build(Settings(device="cpu:0,cpu:1", storage="memory:"))
    first, second = (worker.models for worker in services.predictor.crew.workers)
    try:
        assert first.own is not second.own
        assert first.own._turn is second.own._turn
    finally:
        services.close()


def test_private_hosts_reach_the_way_out():
    def refusal(settings: Settings) -> str:
        with pytest.raises(ImageError) as caught:
            pictures(settings).fetch("http://127.0.0.1:1/a.png", timeout=30)
        return str(caught.value)

    assert "PRIVATE_HOSTS" in refusal(Settings(private_hosts=(("127.0.0.1", 2),)))
    assert "connection refused" in refusal(Settings(private_hosts=(("127.0.0.1", 1),)))


def test_limits_reach_the_fetcher():
    fetcher = pictures(
        Settings(max_image_mb=2.5, max_image_megapixels=0.5, label_studio_url="http://ls:8080")
    )

    assert fetcher.max_pixels == 500_000
    assert fetcher.reach.max_bytes == 2_500_000
    assert fetcher.reach.label_studio is not None
    assert fetcher.reach.label_studio.url == "http://ls:8080"
    assert pictures(Settings()).reach.label_studio is None


def test_services_of_two_label_studios_on_one_store_do_their_own_jobs_only(tmp_path: Path):
    """Both have a project 1; what was meant for one of them would be done to the other."""
    here, there = (
        build(
            Settings(
                storage=f"sqlite:{tmp_path}/store.sqlite",
                label_studio_url=url,
                label_studio_api_key="token",
            )
        )
        for url in ("http://here:8080", "http://there:8080")
    )
    assert here.jobs is not None
    assert there.jobs is not None

    job, _ = here.jobs.place({"kind": "prelabel", "project": 1})
    wanted = {"token": "t", "kinds": ["prelabel"], "only": job.id}

    assert there.jobs.jobs.all() == []
    assert there.jobs.jobs.claim("me", **wanted) is None  # type: ignore[attr-defined]
    assert here.jobs.jobs.claim("me", **wanted) is not None  # type: ignore[attr-defined]
    for one in (here, there):
        one.close()
