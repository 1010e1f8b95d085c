"""The images' own entrypoint, run without a container."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
ENTRYPOINT = ROOT / "docker" / "entrypoint.sh"
HEALTHCHECK = ROOT / "docker" / "healthcheck.py"
PATIENCE = 300.0  # seconds until the service must answer, on a busy machine


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """A container's environment: nothing but the programs and what is given."""
    return {
        "PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        **variables,
    }


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A folder with a `cliper` that only says what it was told."""
    program(tmp_path, "cliper", 'echo "told: $*"; echo "in: $MODEL_DIR"')
    return tmp_path


def test_without_arguments_the_entrypoint_serves(told: Path) -> None:
    done = subprocess.run(
        [ENTRYPOINT],
        env=environment(told, MODEL_DIR=str(told / "models")),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["told: serve", f"in: {told / 'models'}"]
    assert (told / "models").is_dir()


def test_arguments_are_a_cliper_command(told: Path) -> None:
    done = subprocess.run(
        [ENTRYPOINT, "weights", "fetch", "a name"],
        env=environment(told, MODEL_DIR=str(told)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "told: weights fetch a name"


def test_a_folder_that_cannot_be_written_is_named_before_anything_starts(told: Path) -> None:
    (told / "file").write_text("not a folder")
    done = subprocess.run(
        [ENTRYPOINT],
        env=environment(told, MODEL_DIR=str(told / "file" / "models")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"MODEL_DIR {told / 'file' / 'models'} is not writable" in done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(folder: Path, port: int, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """The entrypoint with the real service behind it; its output goes to `folder/log`."""
    program(folder, "cliper", f'exec "{sys.executable}" -m backend "$@"')
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [ENTRYPOINT],
            env=environment(
                folder,
                PYTHONPATH=str(ROOT),
                PORT=str(port),
                HOST="127.0.0.1",
                PROFILE="demo",
                MODEL_DIR=str(folder / "models"),
                **variables,
            ),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def answer(url: str, within: float, process: subprocess.Popen[bytes], log: Path) -> bytes:
    """The body at `url`, asked again until somebody answers."""
    deadline = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                body: bytes = response.read()
                return body
        except OSError as error:  # refused, reset or not in time; HTTPError is one too
            running = process.poll() is None
            if isinstance(error, urllib.error.HTTPError) or not running:
                pytest.fail(f"{url}: {error}\n{log.read_text(errors='replace')}")
            if time.monotonic() > deadline:
                pytest.fail(f"{url}: nobody answers\n{log.read_text(errors='replace')}")
            time.sleep(0.1)


def test_the_entrypoint_brings_up_the_service_and_hands_it_the_stop_signal(
    tmp_path: Path,
) -> None:
    port = free_port()
    with started(tmp_path, port) as process:
        log = tmp_path / "log"
        health = json.loads(answer(f"http://127.0.0.1:{port}/health", PATIENCE, process, log))
        assert health["status"] == "UP"
        assert (tmp_path / "models").is_dir()

        probe = subprocess.run(
            [sys.executable, HEALTHCHECK],
            env=environment(tmp_path, PORT=str(port)),
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(probe.stdout)["status"] == "UP"

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (0, -signal.SIGTERM), log.read_text(errors="replace")


class GuardedHealth(BaseHTTPRequestHandler):
    """Answers only to user `admin` with password `a:b`, and with `refusal` to others."""

    refusal = 401

    expected = "Basic " + base64.b64encode(b"admin:a:b").decode()

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == self.expected
        self.send_response(200 if known and self.path == "/health" else self.refusal)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


def probed(folder: Path, port: int, **variables: str) -> int:
    return subprocess.run(
        [sys.executable, HEALTHCHECK],
        env=environment(folder, PORT=str(port), **variables),
        capture_output=True,
        check=False,
    ).returncode


class StrictHealth(GuardedHealth):
    refusal = 403


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1") -> Iterator[int]:
    """A server of our own; gives its port."""
    with HTTPServer((host, 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("prefix", ["", "ML_SERVER_"])
def test_the_health_check_identifies_itself_where_a_password_is_set(
    tmp_path: Path, prefix: str
) -> None:
    known = {f"{prefix}BASIC_AUTH_USER": "admin", f"{prefix}BASIC_AUTH_PASS": "a:b"}
    with listening(StrictHealth) as port:
        assert probed(tmp_path, port, **known) == 0
        assert probed(tmp_path, port) == 1


def test_a_service_that_asks_for_a_password_is_alive(tmp_path: Path) -> None:
    with listening(GuardedHealth) as port:
        assert probed(tmp_path, port) == 0


def test_the_health_check_asks_the_address_the_service_listens_on(tmp_path: Path) -> None:
    known = {"BASIC_AUTH_USER": "admin", "BASIC_AUTH_PASS": "a:b"}
    with listening(StrictHealth, "127.0.0.2") as port:
        assert probed(tmp_path, port, HOST="127.0.0.2", **known) == 0
        assert probed(tmp_path, port, HOST="0.0.0.0", **known) == 1


def test_the_health_check_fails_where_nobody_listens(tmp_path: Path) -> None:
    assert probed(tmp_path, free_port()) == 1
