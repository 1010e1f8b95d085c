"""The whole service behind Flask's test client, with a model that sees colours.

Every answer is held against the OpenAPI document.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.looking import answers as device_answers
from backend.model_host import ModelSource
from backend.services import Services
from backend.settings import Settings
from backend.wiring import build

from ..doubles.colours import ColourSegmenter, colour_source
from ..doubles.label_studio import FileServer, file_server
from .documented import DocumentedClient


@dataclass(frozen=True)
class Service:
    services: Services
    client: FlaskClient

    def predict(self, config: str, *data: dict[str, Any], context: Any = None) -> Any:
        tasks = [{"id": 1 + index, "data": one} for index, one in enumerate(data)]
        body = {"tasks": tasks, "label_config": config, "params": {"context": context}}
        return self.client.post("/predict", json=body)

    def setup(self, config: str) -> Any:
        return self.client.post("/setup", json={"schema": config, "project": "1.0"})


StartService = Callable[..., Service]


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def segmenter() -> ColourSegmenter:
    return ColourSegmenter()


@pytest.fixture
def start_service(segmenter: ColourSegmenter, files: FileServer) -> Iterator[StartService]:
    started: list[Services] = []

    def start(
        source: ModelSource | Callable[[str], ModelSource] | None = None,
        *,
        wait: bool = True,
        answers: Callable[[str | None], bool] = device_answers,
        **settings: Any,
    ) -> Service:
        chosen = Settings(**{"label_studio_url": files.url, **settings})
        services = build(chosen, source=source or colour_source(segmenter), answers=answers)
        started.append(services)
        services.start()
        if wait:
            for worker in services.predictor.crew.workers:
                worker.models.own.join()
        app = create_app(services)
        app.test_client_class = DocumentedClient
        return Service(services, app.test_client())

    yield start
    segmenter.gate.set()
    for services in started:
        services.close()


@pytest.fixture
def service(start_service: StartService) -> Service:
    return start_service()
