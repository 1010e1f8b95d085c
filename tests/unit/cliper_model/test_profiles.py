import json
import subprocess
import sys
from pathlib import Path

import pytest

from cliper_model import profiles
from cliper_model.errors import UnknownProfile, UntrainedWords, WeightsMissing
from cliper_model.segmenter import Label

WORDS = ["house", "home", "cottage", "sky", "hot", "air", "balloon", "clouds"]


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo folder that knows a few words."""
    card = {"words": WORDS, "labels": {"sky": ["sky"], "house": ["house", "home", "cottage"]}}
    (tmp_path / "demo.json").write_text(json.dumps(card))
    monkeypatch.setattr(profiles, "demo_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_can_be_read_and_names_its_price(name: str):
    profile = profiles.get(name)

    assert profile.name == name
    assert profile.method == "cliper"
    assert profile.licence
    assert profile.short_side > 0
    assert profile.window % 14 == profile.window % 16 == 0
    assert (profile.download_mib == 0) == profile.shipped
    assert len(profile.sources) >= len(profile.components)


def test_profiles_come_from_the_smallest_to_the_largest():
    sizes = [profiles.get(name).download_mib for name in profiles.names()]

    assert profiles.names() == ("demo", "fast", "standard", "best")
    assert sizes == sorted(sizes)


def test_the_published_figures_are_those_of_the_encoder_and_its_refinement():
    assert profiles.get("fast").published_miou["VOC21"] == 60.7
    assert profiles.get("standard").published_miou["VOC21"] == 66.4
    assert profiles.get("best").published_miou["VOC21"] == 72.2
    assert profiles.get("best").window == 336  # as published for VOC, and for VOC alone
    assert set(profiles.get("best").published_miou) == {"VOC21", "VOC20"}
    assert profiles.get("demo").published_miou is None


def test_every_large_file_that_is_fetched_has_a_pinned_checksum_and_revision():
    for name in profiles.names():
        for component in profiles.get(name).components:
            first = component.variants[0]
            for file in first.files:
                if file.bytes > 10 * profiles.MIB:
                    assert file.sha256 is not None
                    assert len(file.sha256) == 64
            for source in first.sources:
                assert source.url or len(source.revision) == 40


def test_the_original_home_of_stable_diffusion_is_gone_so_there_are_two_mirrors():
    sources = profiles.component("stable-diffusion-2-1-base").variants[0].sources

    assert len(sources) == 2
    assert all(not source.hub.startswith("stabilityai/") for source in sources)


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(UnknownProfile, match="choose one of: demo, fast, standard, best"):
        profiles.get("huge")


def test_listing_profiles_does_not_import_torch():
    """The module is loaded by its path, so that the package's own names are not needed."""
    program = (
        "import sys, types, importlib\n"
        "package = types.ModuleType('cliper_model')\n"
        f"package.__path__ = [{str(Path(profiles.__file__).parent)!r}]\n"
        "sys.modules['cliper_model'] = package\n"
        "profiles = importlib.import_module('cliper_model.profiles')\n"
        "print('torch' in sys.modules, len(profiles.ORDER))"
    )

    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert told.stdout.split() == ["False", "4"]


def test_words_are_compared_one_by_one_in_any_case_and_at_hyphens(demo: Path):
    profiles.check_words("demo", ["Sky", Label("home", ("House", "hot-air balloon")), "CLOUDS"])


def test_an_unknown_word_is_refused_with_the_labels_one_may_use(demo: Path):
    with pytest.raises(UntrainedWords) as refusal:
        profiles.check_words("demo", ["sky", Label("building", ("tower house", "balloons"))])

    assert refusal.value.words == ("tower", "balloons")
    assert "does not know 'tower', 'balloons'" in str(refusal.value)
    assert str(refusal.value).endswith("it knows only sky, house")


def test_labels_that_mean_the_rest_are_not_words_to_know(demo: Path):
    profiles.check_words("demo", ["sky", "Background", Label("Other", ("whatever",))])


def test_other_profiles_take_any_word(demo: Path):
    profiles.check_words("fast", ["scaffolding"])


def test_without_the_demo_files_the_check_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(profiles, "demo_folder", lambda: tmp_path / "nowhere")

    with pytest.raises(WeightsMissing, match="train-demo"):
        profiles.check_words("demo", ["sky"])


def test_a_source_is_a_hub_repository_or_an_address_but_not_both():
    hub = profiles.Source(hub="a/b", revision="1234")

    assert (
        hub.address("x/y.bin", hub_endpoint="http://hub/") == "http://hub/a/b/resolve/1234/x/y.bin"
    )
    with pytest.raises(ValueError, match="either"):
        profiles.Source(hub="a/b", url="http://c")
