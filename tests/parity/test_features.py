"""Feature sources against the published code's: `pytest tests/parity --golden DIR`."""

from pathlib import Path
from typing import Any

import pytest

from .feature_bench import CROP, METHOD, TAP, FeatureGolden, cases
from .unpack import opened
from .where import directory


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "feature_case" in metafunc.fixturenames:
        found = cases(directory(metafunc.config, METHOD))
        metafunc.parametrize("feature_case", found, ids=[case["name"] for case in found])


@pytest.fixture(scope="session")
def features(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = opened(directory(request.config, METHOD), tmp_path_factory.mktemp("proxyclip"))
    return FeatureGolden(folder)


def test_every_crop_has_the_published_features(
    feature_case: dict[str, Any], features: FeatureGolden
) -> None:
    theirs = features.tensors(feature_case)
    close = features.tolerance
    wanted = {name for name in theirs if CROP.fullmatch(name) or TAP.fullmatch(name)}

    checked = set()
    for name in sorted(wanted):
        if tap := TAP.fullmatch(name):
            ours = features.tap(feature_case, theirs, tap[1])
        else:
            found = CROP.fullmatch(name)
            assert found is not None
            crops = features.crops(feature_case, theirs["image_u8"])
            step = int(found[2] or 1)
            source = features.source(feature_case["vfm"])
            ours = source.features(crops[int(found[1])])[:, ::step, ::step]
        assert ours.shape == theirs[name].shape, name
        away = (ours - theirs[name]).abs() - close * theirs[name].abs()
        assert away.max() <= close, f"{name} is off by {float(away.max())}"
        checked.add(name)

    assert checked == wanted
    assert wanted, "the case fixes no features"
    if "n_crops" in feature_case:
        assert len(features.crops(feature_case, theirs["image_u8"])) == feature_case["n_crops"]


def test_the_directory_fixes_some_features(request: pytest.FixtureRequest) -> None:
    assert cases(directory(request.config, METHOD))
