"""Replicas of the service on addresses of this machine, behind the balancer we ship."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import requests

from backend.demo.processes import free_port
from backend.jobs.base import Job

from .balancer import Balancer
from .lives import Life
from .waiting import PATIENCE, until

ADDRESSES: Final = ("127.0.0.2", "127.0.0.3")  # of the loopback interface, as all of 127.0.0.0/8
AUTH: Final = ("label-studio", "a-password")
PASSWORDS: Final = {"BASIC_AUTH_USER": AUTH[0], "BASIC_AUTH_PASS": AUTH[1]}

Begins = Callable[[str, int], Life]  # address and port of a service


class Fleet:
    """One service for each of `ADDRESSES`; a context manager. Who began them ends them."""

    def __init__(self, folder: Path, begin: Begins) -> None:
        self._begin, self._port = begin, free_port()
        self._running = ExitStack()
        self.balancer = Balancer(folder, ADDRESSES, self._port)
        self.lives: list[Life] = []

    @property
    def front(self) -> Life:
        """All of them, as Label Studio sees them."""
        return Life(self.balancer.pid, self.balancer.url, self.balancer.log, AUTH)

    def kill(self, number: int) -> None:
        """SIGKILL, and nothing afterwards."""
        self.lives[number].kill()
        until(lambda: self._is_silent(number), f"{ADDRESSES[number]} is dead")

    def start(self, number: int) -> None:
        """A new service in the place of one that is dead."""
        self.lives[number] = self._begin(ADDRESSES[number], self._port)

    def wait_until_ready(self, patience: float = PATIENCE) -> None:
        """All of them, and the balancer knows."""
        for one in self.lives:
            until(partial(is_ready, one), f"{one.url} is; see {one.log}", patience=patience)
        self.balancer.wait_for(len(self.lives))

    def who_runs(self, job: Job | None) -> int | None:
        """Which of them has a job; None: no one that lives."""
        if job is None or job.owner is None:
            return None
        try:
            group = os.getpgid(int(job.owner.split(":")[1]))
        except ProcessLookupError:
            return None
        return next((at for at, one in enumerate(self.lives) if one.pid == group), None)

    def _is_silent(self, number: int) -> bool:
        try:
            socket.create_connection((ADDRESSES[number], self._port)).close()
        except OSError:
            return True
        return False

    def __enter__(self) -> Self:
        self.lives = [self._begin(address, self._port) for address in ADDRESSES]
        self._running.enter_context(self.balancer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()


def is_ready(life: Life) -> bool:
    """Whether a service would be handed requests."""
    try:
        return requests.get(f"{life.url}/ready", timeout=PATIENCE).status_code == 200
    except requests.ConnectionError:
        return False
