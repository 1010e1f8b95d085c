"""How the numbers of a data file reach a method, on toy networks."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from cliper_model import presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion, tiny_features
from cliper_model.evaluation import benchmarks, settings, views
from cliper_model.evaluation.errors import NoSuchNumbers, NotApplicable
from cliper_model.evaluation.settings import Choice
from cliper_model.methods.clip import PlainClip
from cliper_model.methods.clip_surgery import ClipSurgery, ClipSurgeryConfig
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.methods.cliptrase import Cliptrase, CliptraseConfig
from cliper_model.methods.maskclip import Maskclip, MaskclipConfig
from cliper_model.methods.maskclip_plus import MaskclipPlus
from cliper_model.methods.proxyclip import ProxyClip, ProxyClipConfig
from cliper_model.methods.proxyclip_adjust import AdjustConfig, AdjustedProxyClip
from cliper_model.methods.windowed import WindowedConfig
from cliper_model.registry import METHODS as METHODS_OF_THE_REGISTRY
from cliper_model.segmenter import Identity, Label, Segmenter
from cliper_model.stages.decide import decide
from cliper_model.student.network import build_student
from cliper_model.student.words import StudentWords

B16 = "ViT-B-16-quickgelu"


def parts(method: str) -> dict[str, Any]:
    return {
        "presets": lambda name: presets.get(name, "tiny", method),
        "identity": Identity(method=method, revision=1, profile="tiny"),
    }


def cliper(**changes: Any) -> Cliper:
    return Cliper(tiny_clip(), tiny_diffusion(), CliperConfig(**changes), **parts("cliper"))


def student() -> MaskclipPlus:
    """Untrained, for the classes of VOC."""
    names = benchmarks.get("voc20").classes or ()
    torch.manual_seed(0)
    words = StudentWords(
        names=names, synonyms=tuple((name,) for name in names), rows=torch.eye(24)[: len(names)]
    )
    network = build_student("small", words.rows)
    return MaskclipPlus(network, words, short_side=32, **parts("maskclip+"))


def chosen(model: Segmenter, name: str, **choice: Any) -> settings.Chosen:
    found = benchmarks.get(name)
    assert found.classes is not None
    return settings.for_benchmark(model, found, found.classes, clip=B16, choice=Choice(**choice))


def config_of(found: settings.Chosen) -> Mapping[str, Any]:
    config: Mapping[str, Any] = found.settings["method"]["config"]
    return config


def test_cliper_gets_sizes_windows_and_thresholds_of_the_data_set():
    model = cliper()

    plain, with_windows = chosen(model, "cityscapes"), chosen(model, "cityscapes", windows=True)

    assert config_of(plain)["short_side"] == 560
    assert config_of(plain)["crop"] == 0
    assert config_of(with_windows)["crop"] == 224
    assert plain.view_of is views.HALVES
    assert plain.settings["decision"]["presence_threshold"] == 0.0
    assert plain.settings["decision"]["background_threshold"] == 0.0001
    assert config_of(chosen(model, "voc21", refinement=False))["refinement"] == "none"
    assert model.config == CliperConfig()


def test_windows_follow_the_profile_and_may_change_thresholds():
    found = benchmarks.get("context60")
    assert found.classes is not None
    large = "ViT-L-14-quickgelu"

    def threshold(model: Cliper) -> float:
        done = settings.for_benchmark(model, found, found.classes, clip=large, choice=Choice())
        return done.settings["decision"]["background_threshold"]

    assert threshold(cliper()) == 0.3
    assert threshold(cliper(crop=336)) == 0.2


def test_the_label_map_is_that_of_the_method_with_the_published_numbers(picture: Any):
    image = picture(60, 80)
    model = cliper(short_side=64)
    words = benchmarks.get("voc21").words_of("cliper", ())

    found = chosen(model, "voc21")
    own = found.segment(image)

    preset = replace(
        presets.get("objects", B16),
        background_cosine=2.0,
        presence_knots=((0.0, 0.0), (1.0, 1.0)),
    )
    built = Cliper(
        tiny_clip(),
        tiny_diffusion(),
        CliperConfig(short_side=336),
        presets=lambda _: preset,
        identity=model.identity,
    )
    vocabulary = built.read([Label(word) for word in words.classes], background=words.background)
    scores = built.score(built.observe(image), vocabulary)
    decision = replace(preset.decision, presence_threshold=0.7, background_threshold=0.6)
    expected = decide(scores, decision)
    assert np.array_equal(own.label_map, expected.label_map)
    assert own.claimed == tuple(np.flatnonzero(scores.strength > 0.7) + 1)


def test_plain_clip_has_thresholds_of_its_own():
    model = PlainClip(tiny_clip(), WindowedConfig(), **parts("clip"))

    voc21, stuff = chosen(model, "voc21"), chosen(model, "coco-stuff")

    assert voc21.settings["decision"]["background_threshold"] == 0.1
    assert voc21.settings["decision"]["background"] == "threshold"
    assert stuff.settings["decision"]["background"] == "none"
    assert config_of(voc21)["stride"] == 112
    assert config_of(chosen(model, "ade20k"))["short_side"] == 448
    assert config_of(chosen(model, "cityscapes"))["crop"] == 224


def test_maskclip_gives_every_pixel_its_best_class():
    model = Maskclip(tiny_clip(), MaskclipConfig(), **parts("maskclip"))

    found = chosen(model, "context59")

    assert config_of(found)["short_side"] == config_of(found)["long_side"] == 520
    assert found.settings["decision"]["background"] == "none"
    assert found.settings["words"]["background"] == ()


@pytest.mark.parametrize(("side", "eps", "fewest"), [(224, 0.7, 3), (336, 1.1, 7)])
def test_cliptrase_is_measured_on_centre_crops(side: int, eps: float, fewest: int, picture: Any):
    model = Cliptrase(tiny_clip(), CliptraseConfig(), **parts("cliptrase"))

    found = chosen(model, "voc20", side=side)
    truth = np.ones((250, 400), np.int64)
    image, labels = found.view_of["centre"](picture(250, 400), truth)

    config = config_of(found)
    assert (config["short_side"], config["eps"], config["min_samples"]) == (side, eps, fewest)
    assert config["class_token_product"] is True
    assert image.shape[:2] == labels.shape == (side, side)
    assert chosen(model, "voc21", side=side).ignored_is_background
    assert not found.ignored_is_background


def test_a_model_without_published_numbers_is_refused_with_what_to_do():
    found = benchmarks.get("voc21")
    with pytest.raises(NoSuchNumbers, match="not for 'demo'; choose another profile, or --dataset"):
        settings.for_benchmark(cliper(), found, ("x",), clip="demo", choice=Choice())


def test_a_label_that_means_the_rest_gets_the_pixels_nobody_claims():
    labels = [Label("house"), Label("Background"), Label("sky")]

    assert settings.label_numbers(labels).tolist() == [2, 1, 3]
    assert settings.label_numbers(labels[::2]).tolist() == [0, 1, 2]


def test_own_data_is_measured_with_the_profiles_own_numbers(picture: Any):
    image = picture(50, 70)
    model = cliper(short_side=64)

    found = settings.for_own_data(model, ["house|home", "sky"]).segment(image)

    expected = model.segment(image, [Label("house", ("house", "home")), Label("sky")])
    assert np.array_equal(found.label_map, expected.label_map)


def test_windows_and_refinement_change_what_own_data_gets_and_what_is_recorded(picture: Any):
    image = picture(50, 70)
    model = cliper(short_side=64)
    names = ["house", "sky"]

    coarse = settings.for_own_data(model, names, choice=Choice(refinement=False))
    windows = settings.for_own_data(model, names, choice=Choice(windows=True))

    for found, own in (
        (coarse, cliper(short_side=64, refinement="none")),
        (windows, cliper(short_side=64, crop=64)),
    ):
        assert config_of(found) == asdict(own.config)
        expected = own.segment(image, names)
        assert np.array_equal(found.segment(image).label_map, expected.label_map)
    of_profile = settings.for_own_data(cliper(crop=48), names, choice=Choice(windows=True))
    assert config_of(of_profile)["crop"] == 48
    without = settings.for_own_data(cliper(crop=48), names, choice=Choice(windows=False))
    assert config_of(without)["crop"] == 0


def test_refinement_that_a_model_lacks_is_refused():
    model = cliper(refinement="none")

    with pytest.raises(NotApplicable, match="tiny has no network that refines; leave"):
        settings.for_own_data(model, ["sky"], choice=Choice(refinement=True))
    with pytest.raises(NotApplicable, match="tiny has no network that refines; leave"):
        chosen(model, "voc21", refinement=True)
    assert config_of(chosen(model, "voc21", refinement=False))["refinement"] == "none"


def test_the_published_form_is_refused_on_own_data():
    known = replace(cliper().identity, settings={"published": True})
    model = Cliper(
        tiny_clip(),
        tiny_diffusion(),
        CliperConfig(published=True),
        **{**parts("cliper"), "identity": known},
    )

    with pytest.raises(NotApplicable, match="--published restores protocols that belong to bench"):
        settings.for_own_data(model, ["sky"])


def test_a_setting_that_a_method_lacks_is_never_dropped():
    model = PlainClip(tiny_clip(), WindowedConfig(), **parts("clip"))

    with pytest.raises(NoSuchNumbers, match="'clip' has no setting eps; measure it with"):
        settings.with_changes(model, {"short_side": 336, "eps": 0.7})
    assert settings.config_of(settings.with_changes(model, {"crop": 224}))["crop"] == 224


def test_the_record_holds_the_numbers_that_were_used_and_no_others():
    model = cliper()

    plain, wide = chosen(model, "voc21"), chosen(model, "voc21", windows=True)
    learned = chosen(student(), "voc20")

    assert plain.settings["numbers"] == {
        "source": "published: CLIPer §11",
        "templates": "15",
        "logit_scale": 100,
        "attention_floor": 0.1,
        "select_layer": -1,
    }
    assert plain.settings["numbers"] == wide.settings["numbers"]
    assert (config_of(plain)["crop"], config_of(wide)["crop"]) == (0, 336)
    assert config_of(learned) == {"short_side": 32, "long_side": 2048}
    assert "512" not in str(learned.settings["numbers"])


def test_the_record_says_on_which_kind_of_device_and_how_precisely_it_was_measured():
    half = tiny_clip()
    half.vision.to(torch.bfloat16)
    rough = PlainClip(half, WindowedConfig(), **parts("clip"))
    exact = PlainClip(tiny_clip(), WindowedConfig(), **parts("clip"))

    accounts = [settings.account_of(model) for model in (rough, exact, student())]

    assert [one["device"] for one in accounts] == ["cpu"] * 3
    assert [one["dtype"] for one in accounts] == ["bfloat16", "float32", "float32"]


METHODS: Mapping[str, Any] = {
    "cliper": cliper,
    "clip": lambda: PlainClip(tiny_clip(), WindowedConfig(), **parts("clip")),
    "maskclip": lambda: Maskclip(tiny_clip(), MaskclipConfig(), **parts("maskclip")),
    "cliptrase": lambda: Cliptrase(tiny_clip(), CliptraseConfig(), **parts("cliptrase")),
    "clip-surgery": lambda: ClipSurgery(tiny_clip(), ClipSurgeryConfig(), **parts("clip-surgery")),
    "proxyclip": lambda: ProxyClip(
        tiny_clip(), tiny_features(), ProxyClipConfig(), **parts("proxyclip")
    ),
    "proxyclip-adjust": lambda: AdjustedProxyClip(
        tiny_clip(), tiny_features(), AdjustConfig(), **parts("proxyclip-adjust")
    ),
}


def test_every_method_that_needs_no_training_is_here():
    assert {*METHODS, "maskclip+"} == set(METHODS_OF_THE_REGISTRY)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_with_the_numbers_of_a_benchmark(method: str, picture: Any):
    truth = np.ones((40, 50), np.int64)

    for name in ("voc21", "voc20"):
        found = chosen(METHODS[method](), name, side=224 if method == "cliptrase" else None)
        (view,) = found.view_of.values()
        image, cut = view(picture(40, 50), truth)
        said = found.segment(image).label_map

        assert said.shape == cut.shape
        assert 0 <= said.min() <= said.max() <= 20
        if name == "voc20" and method != "cliper":
            assert said.min() > 0


@pytest.mark.parametrize("name", [one for one in benchmarks.names() if one != "folder"])
@pytest.mark.parametrize("method", METHODS_OF_THE_REGISTRY)
def test_every_number_of_a_data_file_has_a_place_in_the_methods_config(method: str, name: str):
    found = benchmarks.get(name)
    for variant in ("224", "336") if method == "cliptrase" else (B16, "ViT-L-14-quickgelu"):
        numbers = found.numbers_of(method, variant)
        for windows in (True, False):
            more = numbers.get("windows", {}) if windows else {}
            changes = settings.config_changes(
                {**numbers, **more}, method=method, windows=windows, refinement=False
            )
            if method != "maskclip+":  # keeps the size it was trained for
                model = METHODS[method]()
                assert settings.config_of(settings.with_changes(model, changes)).items() >= (
                    changes.items()
                )
            else:
                assert not changes
