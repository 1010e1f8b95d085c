"""One real Label Studio per session, services of ours, and a real Chromium."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import Installation, LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment

CHECKOUT = Path(__file__).parents[2]
TEMPLATES = CHECKOUT / ".cache" / "label-studio"

StartService = Callable[..., str]


@pytest.fixture(scope="session", autouse=True)
def servers_end_when_we_are_told_to() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does: fixtures are torn down and no server stays behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def installation() -> Installation:
    return Installation.find(CHECKOUT / ".venv-label-studio" / "bin" / "label-studio")


@pytest.fixture(scope="session")
def label_studio(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """Validates predictions strictly, so that a badly formed region cannot hide."""
    folder = tmp_path_factory.mktemp("label-studio")
    (local_files := folder / "files").mkdir()
    with LabelStudioServer(
        installation, folder / "data", templates=TEMPLATES, strict=True, local_files=local_files
    ) as server:
        yield server


@pytest.fixture(scope="session")
def lenient_label_studio(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """As an administrator gets it: predictions are stored unchecked."""
    data = tmp_path_factory.mktemp("lenient-label-studio") / "data"
    with LabelStudioServer(installation, data, templates=TEMPLATES) as server:
        yield server


@pytest.fixture
def api(label_studio: LabelStudioServer) -> Iterator[LabelStudioApi]:
    client = LabelStudioApi(label_studio.url, label_studio.account.token)
    yield client
    client.close()


@pytest.fixture(scope="session")
def personal_token(label_studio: LabelStudioServer) -> str:
    """The one personal access token that the administrator may have."""
    client = LabelStudioApi(label_studio.url, label_studio.account.token)
    token = client.personal_token()
    client.close()
    return token


@pytest.fixture(scope="session")
def start_colour_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartService]:
    """Start the real service around a model that knows the names of colours.

    Call it with a Label Studio and with settings by their environment names; equal calls
    share one service. Returns its address.
    """
    running: dict[tuple[object, ...], tuple[Server, str]] = {}
    logs = tmp_path_factory.mktemp("services")

    def start(label_studio: LabelStudioServer, **settings: str) -> str:
        key = (label_studio.url, *sorted(settings.items()))
        if key not in running:
            port = free_port()
            environment = {
                **plain_environment(),
                "OMP_NUM_THREADS": "1",
                "HOST": LOOPBACK,
                "PORT": str(port),
                "LABEL_STUDIO_URL": label_studio.url,
                "LABEL_STUDIO_API_KEY": label_studio.account.token,
                "STORAGE": "memory:",
                **settings,
            }
            server = Server(
                "the colour service",
                [sys.executable, "-m", "tests.e2e.colour_service"],
                environment=environment,
                health=f"http://{LOOPBACK}:{port}/health",
                log=logs / f"service-{len(running)}.log",
                folder=CHECKOUT,
            )
            running[key] = (server.start(), f"http://localhost:{port}")
        return running[key][1]

    yield start
    for server, _ in running.values():
        server.ask_to_stop()
    for server, _ in running.values():
        server.stop()


@pytest.fixture
def service(label_studio: LabelStudioServer, start_colour_service: StartService) -> str:
    """The address of a service with default settings."""
    return start_colour_service(label_studio)
