"""A Label Studio and a service in good order, to be harmed one at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend.demo.label_studio_api import LabelStudioApi
from backend.doctor.case import Case, Question
from backend.settings import Settings

from ....doubles.json_server import JsonServer, json_server, service_routes, studio_routes
from ....doubles.label_studio import LEGACY_TOKEN

MakeCase = Callable[..., Case]


@pytest.fixture
def studio() -> Iterator[JsonServer]:
    with json_server(studio_routes()) as server:
        yield server


@pytest.fixture
def service() -> Iterator[JsonServer]:
    with json_server(service_routes()) as server:
        yield server


@pytest.fixture
def environ(studio: JsonServer) -> dict[str, str]:
    return {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": LEGACY_TOKEN,
        "PROFILE": "demo",
    }


@pytest.fixture
def make_case(
    studio: JsonServer, service: JsonServer, environ: dict[str, str]
) -> Iterator[MakeCase]:
    """A case as after the early checks: `make_case(connections=[...], question={...}, ...)`."""
    made: list[Case] = []

    def make(*, question: dict[str, Any] | None = None, **facts: Any) -> Case:
        asked = {"project": 3, "backend": service.url, **(question or {})}
        case = Case(
            question=Question(environ=environ, **asked),
            **{
                "settings": Settings.from_environ(environ),
                "release": "1.23.2",
                "api": LabelStudioApi(studio.url, LEGACY_TOKEN),
                "project": studio.routes["GET /api/projects/3"][1],  # type: ignore[index]
                "connections": [],
                "health": service.routes["GET /health"][1],  # type: ignore[index]
                **facts,
            },
        )
        made.append(case)
        return case

    yield make
    for case in made:
        case.close()
