"""The suite runs on the contract double, or with `--sdk PATH` on a checkout of the real SDK."""

import importlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from flask.testing import FlaskClient

from backend import app as own_server
from backend import wiring
from backend.services import Services
from backend.settings import Settings

from . import colours

DOUBLE = Path(__file__).parent / "contract_double"
SDK = "label_studio_ml"
ADAPTER = "backend.adapter.model"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sdk",
        metavar="PATH",
        type=Path,
        default=DOUBLE,
        help="checkout of the 2.x backend SDK (default: the contract double)",
    )


@dataclass(frozen=True)
class Sdk:
    """The modules under test, imported from one place."""

    path: Path
    adapter: ModuleType
    api: ModuleType
    model: ModuleType
    response: ModuleType


@pytest.fixture(scope="session")
def sdk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdk]:
    path: Path = request.config.getoption("--sdk", default=DOUBLE).resolve()
    if not (path / SDK).is_dir():
        raise pytest.UsageError(f"--sdk {path} has no folder {SDK}")
    assert SDK not in sys.modules, "only the adapter imports the SDK, and nobody imported it yet"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's own, at import
        patch.setenv("MODEL_DIR", str(tmp_path_factory.mktemp("sdk")))
        patch.syspath_prepend(path)
        modules = [
            importlib.import_module(name)
            for name in (ADAPTER, f"{SDK}.api", f"{SDK}.model", f"{SDK}.response")
        ]
    yield Sdk(path, *modules)
    close = getattr(modules[2].CACHE, "close", None)
    if close is not None:
        close()
    for name in [name for name in sys.modules if name.split(".")[0] == SDK or name == ADAPTER]:
        del sys.modules[name]


def loaded_services() -> Services:
    services = wiring.build(Settings(), source=colours.source())
    services.start()
    services.model.join()
    return services


@pytest.fixture
def services() -> Iterator[Services]:
    built = loaded_services()
    yield built
    built.close()


@pytest.fixture
def client(sdk: Sdk, services: Services, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """The SDK's server with the adapter in it."""
    monkeypatch.setattr(sdk.api, "BASIC_AUTH", None)  # the SDK keeps it for the whole process
    client: FlaskClient = sdk.adapter.create_app(services).test_client()
    return client


@pytest.fixture
def own() -> Iterator[FlaskClient]:
    """Our own server, on services of its own."""
    services = loaded_services()
    yield own_server.create_app(services).test_client()
    services.close()
