"""A real haproxy with the configuration we ship, and a small server of names for it."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import requests

from backend.demo.processes import LOOPBACK, free_port

from .waiting import PATIENCE, until

PROGRAM: Final = "haproxy"
CONFIGURATION: Final = Path(__file__).parents[2] / "docker" / "haproxy" / "haproxy.cfg"
NAME: Final = "replicas.test"  # of all replicas
HEADER: Final = 12  # bytes of a message, see RFC 1035, 4.1.1
ADDRESS, INTERNET = 1, 1  # type A, class IN


def program() -> str:
    """Where haproxy is; on Debian not on everybody's path."""
    found = shutil.which(PROGRAM) or shutil.which(PROGRAM, path="/usr/sbin:/usr/local/sbin")
    assert found, f"{PROGRAM} is missing; 'make haproxy' sees to it"
    return found


class Names:
    """Answers, by RFC 1035, that `NAME` has these addresses; others, and other types, have none.

    `addresses` may be changed at any time.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def _run(self) -> None:
        while True:
            asked, caller = self._socket.recvfrom(4096)
            if not asked:  # see `__exit__`
                return
            with contextlib.suppress(OSError):
                self._socket.sendto(self._answer(asked), caller)

    def _answer(self, asked: bytes) -> bytes:
        end = asked.index(0, HEADER) + 5  # name, type, class
        question = asked[HEADER:end]
        wanted = question == _question(NAME)
        found = [socket.inet_aton(one) for one in self.addresses] if wanted else []
        head = asked[:2] + b"\x81\x80\x00\x01" + len(found).to_bytes(2, "big") + bytes(4)
        # each: the name of the question, type, class, one second, four bytes
        rows = [b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04" + one for one in found]
        return head + question + b"".join(rows)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def _question(name: str) -> bytes:
    parts = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return parts + b"\0" + ADDRESS.to_bytes(2, "big") + INTERNET.to_bytes(2, "big")


class Balancer:
    """In front of whoever listens on `port` of one of the addresses; a context manager."""

    def __init__(self, folder: Path, addresses: Sequence[str], port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.names, self.log = Names(addresses), folder / "haproxy.log"
        self._replicas, self._port = f"{NAME}:{port}", free_port()
        self.url = f"http://{LOOPBACK}:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def ready(self) -> int:
        """How many replicas it hands requests to."""
        answer = requests.get(f"{self.url}/balancer", timeout=PATIENCE)
        answer.raise_for_status()
        return int(answer.json()["ready"])

    def wait_for(self, replicas: int) -> None:
        """Until it knows that so many are ready."""
        until(lambda: self.ready() == replicas, f"{replicas} are ready; see {self.log}")

    def _is_there(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")
        try:
            return self.ready() >= 0
        except requests.ConnectionError:
            return False

    def __enter__(self) -> Self:
        self.names.__enter__()
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [program(), "-db", "-f", CONFIGURATION],
                    env={
                        "PATH": os.environ["PATH"],
                        "BALANCER_REPLICAS": self._replicas,
                        "BALANCER_DNS": self.names.address,
                        "BALANCER_BIND": f"{LOOPBACK}:{self._port}",
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            until(self._is_there, f"haproxy answers; see {self.log}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(PATIENCE)
        self.names.__exit__(kind, error, trace)
