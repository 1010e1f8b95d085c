"""Servers as child processes, with a tiny web server as the child."""

import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from backend.demo.errors import LabelStudioMissing, ServerDidNotStart
from backend.demo.label_studio_server import Installation
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment

WITH_A_WORKER = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler
    ).serve_forever()
"""


def server(program: str, folder: Path, *, port: int | None = None) -> Server:
    port = port or free_port()
    return Server(
        "the test server",
        [sys.executable, "-c", program, str(port)],
        environment=plain_environment(),
        health=f"http://{LOOPBACK}:{port}/",
        log=folder / "server.log",
        folder=folder,
        patience=60,
    )


def test_a_stopped_server_takes_its_workers_with_it(tmp_path: Path):
    running = server(WITH_A_WORKER, tmp_path).start()
    assert running.pid
    family = [psutil.Process(running.pid), *psutil.Process(running.pid).children()]
    assert len(family) == 2

    running.stop()

    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert running.pid is None


def test_a_server_that_ends_at_once_is_reported_with_what_it_printed(tmp_path: Path):
    with pytest.raises(ServerDidNotStart, match="ended with status 3") as failure:
        server("import sys; print('no database'); sys.exit(3)", tmp_path).start()

    assert "no database" in str(failure.value)


def test_ctrl_c_in_the_terminal_reaches_the_parent_only(tmp_path: Path):
    with server(WITH_A_WORKER, tmp_path) as running:
        assert running.pid
        assert os.getpgid(running.pid) != os.getpgid(0)


def test_stopping_twice_does_no_harm(tmp_path: Path):
    running = server(WITH_A_WORKER, tmp_path).start()

    running.stop()
    running.stop()

    assert running.pid is None


def test_a_free_port_can_be_listened_on():
    port = free_port()

    with socket.socket() as listener:
        listener.bind((LOOPBACK, port))


def test_servers_inherit_no_setting_of_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABEL_STUDIO_HOST", "http://somewhere.example")
    monkeypatch.setenv("DEVICE", "cpu")

    environment = plain_environment("DEVICE")

    assert "LABEL_STUDIO_HOST" not in environment
    assert environment["DEVICE"] == "cpu"


def test_a_missing_label_studio_is_named_with_what_to_do(tmp_path: Path):
    with pytest.raises(LabelStudioMissing, match="run 'make label-studio'") as missing:
        Installation.find(tmp_path / "label-studio")

    assert str(tmp_path / "label-studio") in str(missing.value)


def test_the_version_is_read_from_the_installed_metadata(tmp_path: Path):
    program = tmp_path / "bin" / "label-studio"
    program.parent.mkdir()
    program.touch()
    (tmp_path / "lib/python3.11/site-packages/label_studio-9.8.7.dist-info").mkdir(parents=True)

    assert Installation.find(program).version == "9.8.7"
