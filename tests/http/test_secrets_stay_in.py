"""The real service with every secret set, at LOG_LEVEL=DEBUG, asked for all kinds of trouble: what
it printed and what it answered hold none of them."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from backend.__main__ import main

from ..doubles.label_studio import FileServer, Reply, file_server
from ..doubles.pictures import brush_config, encoded, stripes
from ..doubles.redis_server import RedisServer
from ..doubles.waiting import until

CHECKOUT = Path(__file__).parents[2]
CONFIG = brush_config(["sky", "house"])
USER, PASSWORD = "studio", "p4ssword-ä-of-basic"
ACCESS = "access-1"  # what the double exchanges a personal token for
KEY = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbiI6InJlZnJlc2gifQ.c2lnbmF0dXJl"
SECRETS = {
    "label studio's token": KEY,
    "password": PASSWORD,
    "password as sent": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
    "password in an address": quote(PASSWORD),
    "token": "t0ken-of-our-own-endpoints",
    "webhook": "Secret_of-the-webhook-9",
    "redis": "p4ssword-of-redis",
    "user of a picture": "p4ssword-of-a-picture",
    "signature": "51gnature-of-a-picture",
    "signature of a store": "51gnature-of-a-store",
    "guess of a token": "gu3ssed-token-of-somebody",
    "guess of a password": "gu3ssed-password-of-somebody",
}
BAD_PICTURES = [
    f"https://me:{SECRETS['user of a picture']}@pictures.example/a.png",
    f"http://me:{SECRETS['user of a picture']}@127.0.0.1/a.png",
    f"http://me:{SECRETS['user of a picture']}/x@127.0.0.1/a.png",
    f"me:{SECRETS['user of a picture']}@127.0.0.1/a.png",
    f"ftp://me:{SECRETS['user of a picture']}@pictures.example/a.png",
    f"http://127.0.0.1/a.png?X-Amz-Signature={SECRETS['signature']}",
    f"http://8.8.8.8:0/a.png?sig={SECRETS['signature']}",
    f"http://no-such-name.invalid/a.png?token={SECRETS['signature']}",
    f"//pictures.example/a.png?sig={SECRETS['signature']}",
    f"/data/upload/1/missing.png?sig={SECRETS['signature']}",
    "/data/upload/1/missing.png",
    "/data/upload/1/broken.png",
    "/data/upload/1/down.png",
    "/data/upload/1/page.png",
    "/data/upload/1/moved.png",
    "/data/upload/1/away.png",
    "/data/upload/../../api/users",
    "/data/local-files/?d=missing.png",
    "s3://bucket/a.png",
    "data:image/png;base64,AAAA",
    "",
]


ROUTES = (
    "/",
    "/health",
    "/versions",
    "/jobs",
    "/jobs/nobody",
    "/metrics",
    "/ready",
    "/ui/projects",
    "/ui/api/projects",
    "/ui/api/projects/1",
    "/ui/api/projects/1/models",
    "/ui/projects/1/report",
)


@dataclass
class Service:
    url: str
    log: Path
    answers: list[str] = field(default_factory=list)

    def ask(self, method: str, route: str, **options: Any) -> requests.Response:
        answer = requests.request(method, f"{self.url}{route}", timeout=60, **options)
        self.answers.append(f"{answer.status_code} {answer.reason} {answer.headers}\n{answer.text}")
        return answer


@pytest.fixture(scope="module")
def studio() -> Iterator[FileServer]:
    with file_server(guarded=True) as server:
        server.personal_tokens = frozenset({KEY})
        signed = f"?X-Amz-Signature={SECRETS['signature of a store']}"
        server.files = {
            "/data/upload/1/good.png": Reply(encoded(stripes("blue", "red"))),
            "/data/upload/1/broken.png": Reply(b"\x89PNG"),
            "/data/upload/1/down.png": Reply(status=500),
            "/data/upload/1/page.png": Reply(b"<html>"),
            "/data/upload/1/moved.png": Reply(
                status=302, headers={"Location": f"http://127.0.0.1:1/a.png{signed}"}
            ),
            "/data/upload/1/away.png": Reply(
                status=302, headers={"Location": f"http://no-such-name.invalid/a.png{signed}"}
            ),
        }
        yield server


@pytest.fixture(scope="module")
def service(studio: FileServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with RedisServer(folder / "redis", "--requirepass", SECRETS["redis"]) as redis:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            "HOST": "127.0.0.1",
            "PORT": "0",
            "LOG_LEVEL": "DEBUG",
            "PROFILE": "demo",
            "LABEL_STUDIO_URL": studio.url,
            "LABEL_STUDIO_API_KEY": KEY,
            "BASIC_AUTH_USER": USER,
            "BASIC_AUTH_PASS": PASSWORD,
            "API_TOKEN": SECRETS["token"],
            "WEBHOOK_SECRET": SECRETS["webhook"],
            "STORAGE": redis.url,
        }
        path = folder / "log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "backend", "serve"],
                cwd=CHECKOUT,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: "listening on http" in path.read_text(), "it listens")
            found = re.search(r"listening on (http://\S+)", path.read_text())
            assert found is not None
            running = Service(found.group(1), path)
            until(lambda: is_ready(running), "its model is there")
            make_trouble(running)
            redis.kill()
            make_trouble(running)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            yield running
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def is_ready(service: Service) -> bool:
    answer = requests.get(f"{service.url}/health", auth=(USER, PASSWORD.encode()), timeout=60)
    return bool(answer.json()["model"]["state"] == "ready")


def make_trouble(service: Service) -> None:
    """Right and wrong requests of every route, pictures of every kind of trouble, and rubbish."""
    right = {"auth": (USER, PASSWORD.encode())}
    token = {"headers": {"Authorization": f"Bearer {SECRETS['token']}"}}
    wrong = {"headers": {"Authorization": f"Bearer {SECRETS['guess of a token']}"}}
    guessed = {"auth": ("studio", SECRETS["guess of a password"])}
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
    secret = f"/webhook/{SECRETS['webhook']}"
    for who in ({}, right, token, wrong, guessed):
        for route in ROUTES:
            service.ask("GET", route, **who)
        service.ask("GET", f"/nowhere?token={SECRETS['token']}", **who)
        service.ask("POST", "/webhook", json=event, **who)
        service.ask("POST", f"/webhook/{SECRETS['guess of a token']}", json=event, **who)
        service.ask("POST", secret, json=event, **who)
        service.ask("GET", secret, **who)
        service.ask("GET", f"{secret}/health", **who)
        service.ask("GET", f"{secret}/nowhere", **who)
        service.ask("POST", f"{secret}/webhook", data=b"no json", **who)
        service.ask("POST", "/jobs", json={"kind": "nothing"}, **who)
        service.ask("POST", "/jobs", json={"kind": "prelabel", "project": 1}, **who)
    setup = {"schema": CONFIG, "project": "1.0", "access_token": SECRETS["token"]}
    service.ask("POST", "/setup", json=setup, **right)
    service.ask("POST", "/setup", json={**setup, "schema": f"<{KEY}"}, **right)
    service.ask("POST", "/setup", data=KEY, **right)
    good = {"id": 1, "data": {"image": "/data/upload/1/good.png"}}
    bad = [
        {"id": number, "data": {"image": address}} for number, address in enumerate(BAD_PICTURES, 2)
    ]
    asked = {"tasks": [good, *bad], "label_config": CONFIG, "params": {"login": KEY}}
    for body in (asked, {**asked, "tasks": KEY}, {**asked, "label_config": KEY}):
        service.ask("POST", "/predict", json=body, **right)
    service.ask("POST", "/predict", data=json.dumps(asked)[:-30], **right)
    host, port = service.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as line:
        line.sendall(f"NONSENSE {secret} HTTP/9.9\r\nAuthorization: {KEY}\r\n\r\n".encode())
        service.answers.append(line.recv(65_536).decode(errors="replace"))


def test_there_was_trouble_of_every_kind(service: Service):
    """Else the next test would be no proof."""
    codes = {answer[:3] for answer in service.answers}
    log = service.log.read_text(errors="replace")

    assert {"200", "400", "401", "404", "405", "422"} <= codes
    assert "DEBUG" in log
    for sentence in (
        "carries a user name",
        "private or reserved",
        "cannot be resolved",
        "there is nothing at",
        "answered HTTP 500",
        "not a picture but a web page",
        "climbs out of its folder",
    ):
        assert sentence in log


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_printed_or_answered(service: Service, name: str):
    log = service.log.read_text(errors="replace")

    assert [line for line in log.splitlines() if SECRETS[name] in line] == []
    assert [answer for answer in service.answers if SECRETS[name] in answer] == []


def test_the_token_of_the_hour_is_not_printed(service: Service, studio: FileServer):
    assert studio.exchanges > 0
    assert ACCESS not in service.log.read_text(errors="replace")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORAGE", f"redsi://:{SECRETS['redis']}@127.0.0.1:1/0"),
        ("LABEL_STUDIO_URL", f"http://me:{SECRETS['password']}@label-studio:8080"),
        ("WEBHOOK_SECRET", SECRETS["webhook"] + "?"),
        ("API_TOKEN", SECRETS["token"] + "?"),
        ("BASIC_AUTH_PASS", PASSWORD),
        ("PORT", KEY),
    ],
)
def test_a_service_that_cannot_start_prints_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", KEY)
    monkeypatch.setenv(name, value)

    assert main(["serve"]) == 2

    printed = "".join(capsys.readouterr())
    assert printed.startswith("cliper: ")
    assert not [secret for secret in SECRETS.values() if secret in printed]
