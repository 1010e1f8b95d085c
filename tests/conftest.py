"""Options and small nouns every suite shares."""

import os
import shutil
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from .doubles.redis_server import RedisServer

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a hub
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # without a card kernels are interpreted


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        action="store",
        default=None,
        metavar="DIR",
        help="directory of golden tensors with an index.json (default: tests/parity/golden)",
    )


@pytest.fixture
def picture() -> Callable[..., NDArray[np.uint8]]:
    """A seeded picture of smooth colours: `picture(height, width, seed=0)`."""

    def paint(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3))
        rows = np.linspace(0, 3.99, height).astype(int)
        columns = np.linspace(0, 4.99, width).astype(int)
        return coarse[rows][:, columns].astype(np.uint8)

    return paint


@pytest.fixture(scope="session")
def _shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(_shared_redis: RedisServer) -> RedisServer:
    """A real Redis, empty; one for the whole run. Whoever stops it starts it again."""
    _shared_redis.empty()
    return _shared_redis
