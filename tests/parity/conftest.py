"""Golden cases are discovered from the directory's own index; none is known by name."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .unpack import opened

HERE = Path(__file__).parent


def golden_directory(config: pytest.Config) -> Path:
    return Path(config.getoption("--golden") or HERE / "golden").resolve()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not {"golden_case", "golden_image"} & set(metafunc.fixturenames):
        return
    folder = golden_directory(metafunc.config)
    index_file = folder / "index.json"
    if not index_file.is_file():
        raise pytest.UsageError(f"{folder} has no index.json: give a golden directory")
    index = json.loads(index_file.read_text())
    if not index.get("cases"):
        raise pytest.UsageError(f"{index_file} lists no cases: nothing would be tested")
    if "golden_case" in metafunc.fixturenames:
        metafunc.parametrize("golden_case", index["cases"])
    else:
        metafunc.parametrize("golden_image", sorted(index.get("diffusion_outputs", {})))


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with plain files; a packed one (the shipped subset) is unpacked first."""
    return opened(golden_directory(request.config), tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """The goldens were computed on one thread; the order of float32 sums moves links that sit
    exactly at a threshold, and each flip moves single pixels."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
