"""Ways out of the house, with names and addresses chosen by the test."""

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from backend.images.fetch import ImageFetcher, Reach
from backend.images.guarded import GuardedHttp, PrivateHost
from backend.images.label_studio import LabelStudioFiles

from ....doubles.label_studio import FileServer, file_server

PUBLIC = "93.184.216.34"


class Internet:
    """Names -> addresses, and addresses -> servers on this machine; counts both."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.servers: dict[str, int] = {}
        self.connected: list[tuple[str, int]] = []

    def host(self, name: str, address: str, server: FileServer) -> None:
        self.names[name] = [address]
        self.servers[address] = int(server.url.rpartition(":")[2])

    def resolve(self, host: str, port: int) -> list[str]:
        return self.names.get(host, [])

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        self.connected.append(address)
        if address[0] not in self.servers:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return socket.create_connection(("127.0.0.1", self.servers[address[0]]), timeout)

    def http(
        self,
        *,
        trusted: str | None = None,
        max_bytes: int = 10_000,
        private: Sequence[PrivateHost] = (),
    ) -> GuardedHttp:
        return GuardedHttp(
            trusted=trusted,
            max_bytes=max_bytes,
            private=private,
            resolve=self.resolve,
            connect=self.connect,
        )


@pytest.fixture
def internet() -> Internet:
    return Internet()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def another_server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


MakeFetcher = Callable[..., ImageFetcher]


@pytest.fixture
def fetcher_of() -> MakeFetcher:
    def make(
        url: str | None = None,
        *,
        api_key: str | None = None,
        document_root: Path | None = None,
        max_bytes: int = 100_000,
        http: GuardedHttp | None = None,
    ) -> ImageFetcher:
        http = http or GuardedHttp(trusted=url, max_bytes=max_bytes)
        studio = LabelStudioFiles(url, api_key, http) if url else None
        reach = Reach(
            http=http, label_studio=studio, document_root=document_root, max_bytes=max_bytes
        )
        return ImageFetcher(reach=reach, max_pixels=1_000_000)

    return make
