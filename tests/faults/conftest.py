"""Real services that can be killed, and a Label Studio for them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..doubles.lives import Nursery, Site
from ..doubles.studio_server import StudioServer, studio_server

MakeSite = Callable[..., Site]


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One for all tests here: importing takes longer than they do."""
    with Nursery(tmp_path_factory.mktemp("lives")) as made:
        yield made


@pytest.fixture
def server() -> Iterator[StudioServer]:
    with studio_server() as running:
        yield running


@pytest.fixture
def make_site(nursery: Nursery, server: StudioServer, tmp_path: Path) -> Iterator[MakeSite]:
    """`make_site()`, or `make_site(store=ADDRESS)`; the services of a test end with it."""
    made: list[Site] = []

    def make(store: str | None = None, **sizes: int) -> Site:
        address = store or f"sqlite:{tmp_path / 'store.sqlite'}"
        made.append(Site(nursery, server, address, tmp_path, **sizes))
        return made[-1]

    yield make
    server.before = lambda call: None
    nursery.end_all()
    for site in made:
        site.storage.close()
