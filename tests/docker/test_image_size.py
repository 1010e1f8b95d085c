"""How large the images are: the committed figures, and the program that adds them up."""

import importlib.util
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ["cpu", "cuda"]
GIGABYTE = 1_000_000_000


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_size", ROOT / "scripts" / "image_size.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


image_size = loaded()


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(image_size.RESULT.read_text())
    return found


def test_the_images_are_within_their_limits(figures: dict[str, Any]) -> None:
    assert figures["cpu"]["total"] <= 2.5 * GIGABYTE
    assert figures["cuda"]["total"] <= 9 * GIGABYTE
    assert figures["unit"] == "bytes"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", figures["date"])


@pytest.mark.parametrize("name", IMAGES)
def test_the_figures_add_up(figures: dict[str, Any], name: str) -> None:
    one = figures[name]
    assert one["total"] == sum(one["parts"].values())
    assert one["parts"]["packages"] == sum(p["bytes"] for p in one["packages"].values())
    assert one["within"] is (one["total"] <= one["limit"])
    assert all(p["bytes"] > 0 for p in one["packages"].values())


@pytest.mark.parametrize("name", IMAGES)
def test_what_was_measured_is_what_is_pinned(figures: dict[str, Any], name: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {
        image_size.canonicalize_name(package): version
        for package, _, version in (line.partition("==") for line in lines)
    }
    for package, one in figures[name]["packages"].items():
        if (name, package) != ("cpu", "torch"):  # a build of its own, with versions of its own
            assert one["version"] == pinned[package], package


def test_every_package_of_the_images_was_measured(figures: dict[str, Any]) -> None:
    here = image_size.installed(next(p for p in sys.path if p.endswith("site-packages")))
    found = set(image_size.needed(image_size.OURS, ["all"], here)) - {image_size.OURS}
    is_cuda = "triton" in found
    assert found == set(figures["cuda" if is_cuda else "cpu"]["packages"])


def test_the_cpu_image_holds_nothing_for_a_gpu(figures: dict[str, Any]) -> None:
    for_a_gpu = figures["cuda"]["packages"].keys() - figures["cpu"]["packages"].keys()
    assert {re.split(r"[-_]", name)[0] for name in for_a_gpu} == {"nvidia", "cuda", "triton"}
    assert figures["cpu"]["packages"].keys() < figures["cuda"]["packages"].keys()


def test_our_own_part_is_as_large_as_today(figures: dict[str, Any]) -> None:
    whole, python = image_size.folder_sizes(ROOT / name for name in image_size.PACKAGES)
    assert 0 < python < whole
    for name in IMAGES:
        assert figures[name]["parts"]["our own, with the demo weights"] == pytest.approx(
            whole, rel=0.5
        )


def test_the_page_says_what_was_measured(figures: dict[str, Any]) -> None:
    assert image_size.sentence(figures) in image_size.PAGE.read_text("utf-8")


def package(folder: Path, name: str, files: Mapping[str, str], *requires: str) -> None:
    """An installed distribution, as pip leaves it."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    lines = [f"Requires-Dist: {one}" for one in requires]
    extras = sorted(set(re.findall(r"extra == '(\w+)'", " ".join(requires))))
    lines += [f"Provides-Extra: {one}" for one in extras]
    (about / "METADATA").write_text("\n".join([f"Name: {name}", "Version: 1.0", *lines, ""]))
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    (about / "RECORD").write_text("".join(f"{path},,\n" for path in files))


@pytest.fixture
def known(tmp_path: Path) -> Mapping[str, Any]:
    """house needs wall, and with the extra `warm` oven[big]; boat is for another system."""
    package(
        tmp_path,
        "house",
        {"house/a.py": "12345", "house/b.so": "1234567", "house/c.pyc": "no"},
        *("wall>=1", "oven[big]; extra == 'warm'", "boat; sys_platform == 'water'"),
    )
    package(tmp_path, "Wall", {"wall.py": "123"}, "house")
    package(tmp_path, "oven", {}, "pipe; extra == 'big'")
    for name in ("pipe", "boat"):
        package(tmp_path, name, {})
    found: Mapping[str, Any] = image_size.installed(tmp_path)
    return found


def test_what_is_needed_is_found_through_all_steps_and_for_this_system_only(
    known: Mapping[str, Any],
) -> None:
    assert set(image_size.needed("house", [], known)) == {"house", "wall"}
    assert set(image_size.needed("house", ["warm"], known)) == {"house", "wall", "oven", "pipe"}


def test_what_is_not_installed_is_named(known: Mapping[str, Any]) -> None:
    without = {name: one for name, one in known.items() if name != "pipe"}
    with pytest.raises(LookupError, match="pipe is needed"):
        image_size.needed("house", ["warm"], without)


def test_a_wheel_counts_with_all_its_files_but_compiled_ones(known: Mapping[str, Any]) -> None:
    assert image_size.unpacked(known["house"]) == (12, 5)
    assert image_size.unpacked(known["oven"]) == (0, 0)


def test_an_image_above_its_limit_is_said_to_be(known: Mapping[str, Any]) -> None:
    small = image_size.image(known, (100, 40), 1e9, {"tini": 1e6})
    assert small["within"] is True
    python = 5 + 3 + 40
    assert small["total"] == 150_000_000 + 1_000_000 + 15 + 100 + 1.25 * python
    assert next(iter(small["packages"])) == "house"
    assert image_size.image(known, (100, 40), 1e8, {"tini": 1e6})["within"] is False


def test_only_the_figures_of_the_page_are_written_anew(figures: dict[str, Any]) -> None:
    page = image_size.PAGE.read_text("utf-8")
    old = re.sub(r"takes [\d.]+ GB of at most 2.5", "takes 9.9 GB of at most 2.5", page)
    assert old != page
    assert image_size.written(old, figures) == page
