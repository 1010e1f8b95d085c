"""The wheel holds everything it needs, seen from a folder that is not the checkout."""

import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cliper_model.demo.scenes import make_scene

CHECKOUT = Path(__file__).parents[2]
SOURCES = ("backend", "cliper_model", "pyproject.toml", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing built earlier can slip in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(
                CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(CHECKOUT / name, source / name)
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, source, folder=folder,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which borrows the dependencies installed here."""
    venv = tmp_path_factory.mktemp("elsewhere") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, folder=venv.parent)
    run(
        sys.executable, "-m", "pip", f"--python={venv}/bin/python", "install", "--quiet",
        "--no-deps", "--no-index", "--no-compile", wheel, folder=venv.parent,
    )  # fmt: skip
    (packages,) = venv.glob("lib/python*/site-packages")
    # A path file inside a path file is not read, so the editable install here stays invisible.
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    return venv


def run(*command: object, folder: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_holds_both_packages_and_the_demo_weights(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()

    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"backend", "cliper_model"}
    weights = [name for name in names if name.endswith(".safetensors")]
    assert weights, "no demo weights in the wheel"


def test_the_wheel_forgets_no_data_file(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())

    there = [
        str(path.relative_to(CHECKOUT))
        for package in ("backend", "cliper_model")
        for path in (CHECKOUT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sorted(set(there) - names) == []


def test_a_picture_is_segmented_from_the_command_line_away_from_the_checkout(
    elsewhere: Path, tmp_path: Path
):
    scene = make_scene(np.random.default_rng(3), 192)
    Image.fromarray(scene.image).save(tmp_path / "scene.png")
    words = ", ".join(scene.masks())

    run(
        elsewhere / "bin" / "cliper", "segment", "scene.png", "--profile", "demo",
        "--labels", words, "--out", "found", folder=tmp_path,
    )  # fmt: skip

    pictures = sorted(path.name for path in (tmp_path / "found").rglob("*.png"))
    assert any(name.startswith("scene") for name in pictures), pictures


def test_the_demo_model_is_imported_from_the_wheel_and_finds_a_mask(
    elsewhere: Path, tmp_path: Path
):
    program = (
        "import cliper_model, numpy\n"
        "from cliper_model.demo.scenes import make_scene\n"
        "scene = make_scene(numpy.random.default_rng(3), 192)\n"
        "found = cliper_model.load('demo').segment(scene.image, list(scene.masks()))\n"
        "print(cliper_model.__file__)\n"
        "print(found.label_map.shape, int(found.label_map.max() > 0))\n"
    )

    place, result = run(elsewhere / "bin" / "python", "-c", program, folder=tmp_path).splitlines()

    assert Path(place).is_relative_to(elsewhere)
    assert result == "(192, 192) 1"


def test_only_one_distribution_claims_the_name_backend(elsewhere: Path, tmp_path: Path):
    program = (
        "from importlib.metadata import packages_distributions as owners\n"
        "print(set(owners()['backend']), set(owners()['cliper_model']))"
    )

    claimed = run(elsewhere / "bin" / "python", "-c", program, folder=tmp_path).strip()

    assert claimed == "{'cliper-label-studio'} {'cliper-label-studio'}"
