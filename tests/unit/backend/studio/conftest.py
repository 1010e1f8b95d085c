"""A Label Studio in memory, and a client that waits without waiting."""

from collections.abc import Callable, Iterator

import pytest

from backend.studio.client import Patience, Studio
from backend.studio.project import StudioProject

from ....doubles.moments import Moments
from ....doubles.studio_server import LEGACY_TOKEN, StudioServer, studio_server

MakeStudio = Callable[..., Studio]


@pytest.fixture
def server() -> Iterator[StudioServer]:
    with studio_server() as running:
        yield running


@pytest.fixture
def moments() -> Moments:
    return Moments()


@pytest.fixture
def make_studio(server: StudioServer, moments: Moments) -> Iterator[MakeStudio]:
    made: list[Studio] = []

    def make(token: str = LEGACY_TOKEN, url: str | None = None, **patience: float) -> Studio:
        made.append(
            Studio(
                url or server.url,
                token,
                timeout=5.0,
                patience=Patience(**patience),
                pause=moments.pause,
                clock=moments,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def studio(make_studio: MakeStudio) -> Studio:
    return make_studio()


@pytest.fixture
def project(server: StudioServer, studio: Studio) -> StudioProject:
    """A project of five tasks."""
    return StudioProject(studio, server.project(tasks=5))
