"""Golden cases are discovered from the directory's own index; none is known by name."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .unpack import opened
from .where import directory


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not {"golden_case", "golden_image"} & set(metafunc.fixturenames):
        return
    folder = directory(metafunc.config, "cliper")
    index = json.loads((folder / "index.json").read_text())
    if not index.get("cases"):
        raise pytest.UsageError(f"{folder}/index.json lists no cases: nothing would be tested")
    if "golden_case" in metafunc.fixturenames:
        metafunc.parametrize("golden_case", index["cases"])
    else:
        metafunc.parametrize("golden_image", sorted(index.get("diffusion_outputs", {})))


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with plain files; a packed one (the shipped subset) is unpacked first."""
    return opened(directory(request.config, "cliper"), tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """The goldens were computed on one thread; the order of float32 sums moves links that sit
    exactly at a threshold, and each flip moves single pixels."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
