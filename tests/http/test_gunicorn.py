"""The service as it really runs: a gunicorn process on a port."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from backend.__main__ import main
from backend.jobs.book import JobBook
from backend.storage.open import open_storage

from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded
from ..doubles.waiting import until

CHECKOUT = Path(__file__).parents[2]
CONFIG = brush_config(["red"])


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    began: int  # one byte can be read for every look that begins
    gate: int  # one byte must be written for every look to end

    def post(self, route: str, body: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.url}{route}", json=body, timeout=120)


@pytest.fixture
def running(files: FileServer) -> Iterator[Running]:
    began_read, began_write = os.pipe()
    gate_read, gate_write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doubles.serve_colours", str(began_write), str(gate_read)],
        cwd=CHECKOUT,
        env={
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "HOST": "127.0.0.1",
            "PORT": "0",
            "LABEL_STUDIO_URL": files.url,
            "STORAGE": "memory:",
            "MAX_REQUEST_MB": "1",
            "SLOWEST": "2",
        },
        pass_fds=(began_write, gate_read),
        stdout=subprocess.PIPE,
        text=True,
    )
    for fd in (began_write, gate_read):
        os.close(fd)
    assert process.stdout is not None
    try:
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        while requests.get(f"{url}/health", timeout=60).json()["model"]["state"] != "ready":
            threading.Event().wait(0.05)
        yield Running(process, url, began_read, gate_write)
    finally:
        os.close(gate_write)
        os.close(began_read)
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def sixty_tasks(files: FileServer) -> list[dict[str, Any]]:
    tasks = []
    for index in range(60):
        pixels = np.full((4, 4 + index, 3), (255, 0, 0), np.uint8)
        files.put(f"/data/upload/1/{index}.png", encoded(pixels))
        tasks.append({"id": index, "data": {"image": f"/data/upload/1/{index}.png"}})
    return tasks


def test_health_and_setup_answer_while_sixty_tasks_are_predicted(
    running: Running, files: FileServer
):
    answers: list[requests.Response] = []
    body = {"tasks": sixty_tasks(files), "label_config": CONFIG}
    predicting = threading.Thread(target=lambda: answers.append(running.post("/predict", body)))
    predicting.start()
    assert os.read(running.began, 1) == b"."  # the first look has begun and cannot end

    for _ in range(20):
        assert requests.get(f"{running.url}/health", timeout=60).status_code == 200
        assert running.post("/setup", {"schema": CONFIG}).status_code == 200
    assert predicting.is_alive()
    assert answers == []

    os.write(running.gate, b"." * 60)
    predicting.join(120)

    results = answers[0].json()["results"]
    assert [entry["result"][0]["original_width"] for entry in results] == list(range(4, 64))


def test_a_sentence_reaches_the_admin_through_the_real_server(running: Running):
    answer = running.post("/setup", {"schema": "<View/>"})

    assert answer.status_code == 422
    assert answer.reason == "Config has no Image tag with a name"


def test_sigterm_ends_the_service_cleanly(running: Running):
    running.process.send_signal(signal.SIGTERM)

    assert running.process.wait(60) == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{running.url}/health", timeout=5)


def test_sigterm_hands_the_job_back_while_a_request_is_still_answered(tmp_path: Path):
    address = f"sqlite:{tmp_path}/a.sqlite"
    gate_read, gate_write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doubles.serve_job", address, str(gate_read)],
        cwd=CHECKOUT,
        pass_fds=(gate_read,),
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(gate_read)
    assert process.stdout is not None
    said = process.stdout
    answers: list[requests.Response] = []
    try:
        url = f"http://127.0.0.1:{said.readline().strip()}/held"
        assert said.readline() == "at work\n"
        asking = threading.Thread(target=lambda: answers.append(requests.get(url, timeout=60)))
        asking.start()
        assert said.readline() == "held\n"

        process.send_signal(signal.SIGTERM)

        with closing(open_storage(address, max_blob_bytes=0)) as store:
            until(lambda: JobBook(store).all()[0].state == "queued", "the job is handed back")
        assert answers == []
        os.write(gate_write, b"x")
        asking.join()
        assert answers[0].text == "x"
        assert process.wait(60) == 0
    finally:
        os.close(gate_write)
        if process.poll() is None:
            process.kill()
        process.wait()
        said.close()


def test_with_log_format_json_every_line_is_an_object_gunicorns_too(files: FileServer):
    began_read, began_write = os.pipe()
    gate_read, gate_write = os.pipe()
    os.close(gate_write)  # no look waits
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doubles.serve_colours", str(began_write), str(gate_read)],
        cwd=CHECKOUT,
        env={
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "HOST": "127.0.0.1",
            "PORT": "0",
            "LABEL_STUDIO_URL": files.url,
            "STORAGE": "memory:",
            "LOG_FORMAT": "json",
        },
        pass_fds=(began_write, gate_read),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for fd in (began_write, gate_read):
        os.close(fd)
    assert process.stdout is not None
    try:
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        body = {"tasks": [{"id": 7, "data": {"image": "/gone.png"}}], "label_config": CONFIG}

        def answered() -> bool:
            answer = requests.post(
                f"{url}/predict", json=body, headers={"X-Request-ID": "r-1"}, timeout=120
            )
            assert answer.headers["X-Request-ID"] == "r-1"
            return answer.status_code == 200

        until(answered, "the model is there")
        process.send_signal(signal.SIGTERM)
        _, written = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(began_read)

    told = [json.loads(line) for line in written.splitlines()]
    assert {tuple(one) for one in told} == {
        ("time", "level", "logger", "message", "request_id", "task_id", "exception")
    }
    assert {"gunicorn.error", "backend.model_host"} <= {one["logger"] for one in told}
    (failed,) = (one for one in told if one["message"].startswith("task 7 not predicted"))
    assert (failed["request_id"], failed["task_id"]) == ("r-1", "7")


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        status = main(["serve", "--host", "127.0.0.1", "--port", str(port)])

    assert status == 2
    assert capsys.readouterr().err == (
        f"cliper: port {port} is in use by another program; stop it or choose another PORT\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "nine"], "PORT must be a whole number from 0 to 65535, got 'nine'"),
        (
            ["--profile", "huge", "--port", "0"],
            "unknown profile 'huge'; choose one of: demo, fast, standard, best",
        ),
        (
            ["--host", "192.0.2.1", "--port", "0"],
            "cannot listen on 192.0.2.1:0 (Cannot assign requested address); check HOST and PORT",
        ),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["serve", *arguments]) == 2
    assert capsys.readouterr().err == f"cliper: {sentence}\n"


def test_bodies_in_chunks_and_packed_ones_are_bounded_by_the_real_server_too(
    running: Running,
):
    def chunks() -> Iterator[bytes]:
        yield from [b" " * 1000] * 1100  # a tenth more than MAX_REQUEST_MB

    long = requests.post(f"{running.url}/webhook", data=chunks(), timeout=60)
    fits = requests.post(f"{running.url}/webhook", data=iter([b'{"action": "X"}']), timeout=60)
    packed = requests.post(
        f"{running.url}/setup", data=b"x", headers={"Content-Encoding": "gzip"}, timeout=60
    )

    assert (long.status_code, fits.status_code, packed.status_code) == (413, 200, 415)
    assert long.json() == {
        "error": "the request has more than 1 MB (MAX_REQUEST_MB); send fewer tasks at a time"
    }
    assert running.post("/setup", {"schema": CONFIG}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"POST /predict HT", b""),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 408 "),
    ],
    ids=["half a head", "half a body"],
)
def test_callers_that_stop_in_the_middle_do_not_keep_health_from_answering(
    running: Running, sent: bytes, answer: bytes
):
    port = int(running.url.rpartition(":")[2])
    with ExitStack() as open_ones:
        slow = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            for _ in range(20)  # more than there are threads
        ]
        for one in slow:
            one.sendall(sent)

        assert requests.get(f"{running.url}/health", timeout=60).json()["status"] == "UP"
        for one in slow:
            assert one.recv(1000).startswith(answer)
