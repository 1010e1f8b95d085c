"""A real redis-server of our own: a folder, a free port of the loopback interface, a process."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from backend.demo.processes import LOOPBACK, free_port

PATIENCE = 60.0  # seconds until it must answer, on a busy machine
PROGRAM = "redis-server"


class RedisServer:
    """Usable as a context manager. What it holds outlives `stop` and `start`, and `kill` too."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options` as on the command line: "--maxmemory", "4mb"."""
        program = shutil.which(PROGRAM)
        assert program, f"{PROGRAM} is missing; 'make redis' sees to it"
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        words = dict(zip(options[::2], options[1::2], strict=True))
        user = f":{words['--requirepass']}@" if "--requirepass" in words else ""
        self.url = f"redis://{user}{LOOPBACK}:{self.port}/0"
        self.log = folder / "redis.log"
        self._command = [
            program, "--bind", LOOPBACK, "--port", str(self.port), "--dir", str(folder),
            "--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--daemonize", "no",
            *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> "redis.Redis":
        """A client for what a test does past the store."""
        return redis.Redis.from_url(self.url)

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{PROGRAM}: {self.log.read_text(errors='replace')}")
            client = self.client
            try:
                client.ping()
                return self
            except redis.RedisError:
                time.sleep(0.02)
            finally:
                client.close()

    def stop(self) -> None:
        """Ask it to end and wait until it has."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        """End it in the middle of what it does."""
        self._end(lambda process: process.kill())

    def empty(self) -> None:
        client = self.client
        client.flushall()
        client.close()

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        process, self._process = self._process, None
        if process is not None:
            how(process)
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
