"""Servers as child processes: start, wait until they answer, stop and leave nothing behind."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import requests

from .errors import ServerDidNotStart

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A TCP port of the loopback interface nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class Server:
    """A child process in a session of its own, with its output in a file.

    A session of its own means that Ctrl-C in the terminal reaches the parent alone, which
    then ends its servers in order. `stop` ends the whole group, so that workers of a server
    go with it. Usable as a context manager.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        health: str,
        log: Path,
        folder: Path | None = None,
        patience: float = 300.0,
    ) -> None:
        """`health` is an address that answers once the server is up; `patience` in seconds."""
        self.name, self.health, self.log = name, health, log
        self._command = [str(part) for part in command]
        self._environment = dict(environment)
        self._folder, self._patience = folder, patience
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start and return once `health` answers; raises ServerDidNotStart."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._output = self.log.open("ab")
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._wait_until_healthy(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def ask_to_stop(self) -> None:
        """Only send the signal, so that several servers can end at the same time."""
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """End the process and everything it started; asks first, then insists. Repeatable."""
        process, self._process = self._process, None
        if process is not None:
            _signal_group(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                _signal_group(process.pid, signal.SIGKILL)
                process.wait()
            _signal_group(process.pid, signal.SIGKILL)  # workers that outlived their server
        if self._output is not None:
            self._output.close()
            self._output = None

    def last_lines(self, count: int = 15) -> str:
        """The end of what the server printed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])

    def __enter__(self) -> Self:
        return self if self.pid else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerDidNotStart(
                    self.name, f"ended with status {process.returncode}", self.last_lines()
                )
            with contextlib.suppress(requests.RequestException):
                if requests.get(self.health, timeout=5).status_code < 500:
                    return
            time.sleep(0.2)
        raise ServerDidNotStart(
            self.name, f"did not answer within {self._patience:.0f} s", self.last_lines()
        )


def plain_environment(*also: str) -> dict[str, str]:
    """What any program needs of our environment, plus `also`; nothing that configures a server."""
    wanted = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", *also)
    return {name: os.environ[name] for name in wanted if name in os.environ}


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
