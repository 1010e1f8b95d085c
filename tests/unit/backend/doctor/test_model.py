"""What is said about weights and device."""

from pathlib import Path

import pytest

from backend.doctor.findings import FAIL, OK, WARN
from backend.doctor.model import profile_of
from backend.doctor.model import weights as check
from cliper_model import profiles

from .conftest import MakeCase


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> Path:
    """An empty MODEL_DIR, and no cache of a hub beside it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    environ["MODEL_DIR"] = str(tmp_path / "weights")
    return tmp_path / "weights"


def put(folder: Path, share: float) -> None:
    """Sparse files with that share of their size on record."""
    for component in profiles.get("fast").components:
        for file in component.variants[0].files:
            path = folder / component.name / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                stream.truncate(int(share * file.bytes))


def test_the_shipped_weights_are_always_here(make_case: MakeCase, environ: dict[str, str]):
    environ["DEVICE"] = "cpu"

    (finding,) = check(make_case())

    assert finding.state == OK
    assert finding.finding == "profile demo is here; it would run on cpu in float32"


def test_missing_weights_come_with_the_command(
    make_case: MakeCase, environ: dict[str, str], folder: Path
):
    environ["PROFILE"] = "fast"

    (finding,) = check(make_case())

    assert finding.state == FAIL
    assert str(folder) in finding.finding
    assert "cliper weights fetch fast" in finding.mend


def test_files_much_shorter_than_on_record_are_named(
    make_case: MakeCase, environ: dict[str, str], folder: Path
):
    environ |= {"PROFILE": "fast", "DEVICE": "cpu"}
    put(folder, 0.5)
    (short,) = check(make_case())
    put(folder, 1.0)
    (whole,) = check(make_case())

    assert short.state == FAIL
    assert short.details["short"]
    assert "cliper weights fetch fast" in short.mend
    assert whole.state == OK


def test_weights_that_a_running_service_has_need_not_be_here(
    make_case: MakeCase, environ: dict[str, str], folder: Path
):
    del environ["PROFILE"]
    health = {"profile": "fast", "model": {"state": "ready"}}

    (finding,) = check(make_case(health=health))

    assert finding.state == OK
    assert "not on this machine" in finding.finding


def test_a_device_this_machine_lacks_fails(make_case: MakeCase, environ: dict[str, str]):
    environ["DEVICE"] = "cuda:77"

    (finding,) = check(make_case())

    assert finding.state == FAIL
    assert "cuda:77" in finding.finding


def test_half_precision_on_a_cpu_is_a_warning(make_case: MakeCase, environ: dict[str, str]):
    environ |= {"DEVICE": "cpu", "DTYPE": "float16"}

    (finding,) = check(make_case())

    assert finding.state == WARN


def test_the_profile_is_the_one_set_here_else_the_service_s(
    make_case: MakeCase, environ: dict[str, str]
):
    service = {"profile": "best"}
    set_here = make_case(health=service)
    del environ["PROFILE"]
    set_there = make_case(health=service)

    assert profile_of(set_here).name == "demo"
    assert profile_of(set_there).name == "best"
    assert profile_of(set_there, named="fast").name == "fast"


def test_an_encoder_that_nothing_has_a_use_for_fails(make_case: MakeCase, environ: dict[str, str]):
    environ["VAE"] = "taesd"
    del environ["PROFILE"]
    fast, best = (make_case(health={"profile": name}) for name in ("fast", "best"))

    (finding,) = check(fast)

    assert finding.state == FAIL
    assert "'fast' runs no Stable Diffusion" in finding.finding
    assert profile_of(best).choice == "best --vae taesd"
    assert profile_of(best, named="fast").choice == "fast"
