"""Replicas behind a real haproxy, with the configuration we ship: whoever asks notices nothing of a
replica that dies, freezes or is not ready."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, Final

import pytest
import requests

from ..doubles.balancer import CONFIGURATION, Balancer
from ..doubles.crowd import Crowd, distinct, through_two_kills
from ..doubles.fleet import AUTH, PASSWORDS, Fleet
from ..doubles.json_server import JsonServer, json_server
from ..doubles.lives import CONFIG, Life, Site
from ..doubles.pictures import encoded
from ..doubles.redis_server import RedisServer
from ..doubles.waiting import PATIENCE, until
from .conftest import MakeSite

READY: Final = {"GET /ready": (200, {"ready": True, "reason": None})}
(BUFFER,) = map(int, re.findall(r"tune\.bufsize (\d+)", CONFIGURATION.read_text()))


@pytest.fixture
def make_fleet(make_site: MakeSite, tmp_path: Path) -> Iterator[Callable[[Site], Fleet]]:
    """`make_fleet(site)`: two services of its own, both ready."""
    with ExitStack() as running:

        def make(site: Site) -> Fleet:
            def begin(address: str, port: int) -> Life:
                return replace(site.life(host=address, port=port, **PASSWORDS), auth=AUTH)

            fleet = running.enter_context(Fleet(tmp_path / "balancer", begin))
            fleet.wait_until_ready()
            return fleet

        yield make


@contextmanager
def before(server: JsonServer, folder: Path) -> Iterator[Balancer]:
    """A balancer in front of one server that plays a service."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with Balancer(folder, [host], int(port)) as balancer:
        yield balancer


def test_two_replicas_that_are_killed_in_turn_lose_no_task_and_do_nothing_twice(
    make_site: MakeSite, make_fleet: Callable[[Site], Fleet], redis_server: RedisServer
):
    site = make_site(store=redis_server.url, listed=0)
    crowd, fleet = Crowd(site, tasks=50, seed=20261129), make_fleet(site)

    came = through_two_kills(crowd, fleet)

    assert crowd.what_is_wrong() == []
    assert came["asked"]["opened"] + came["asked"]["retrieved"] == 35
    assert came["predictions"] == 50
    assert sorted(came["killed"]) == [0, 1]
    assert all(came["opened_anew_after_a_kill"]), "requests were with whoever was killed"
    assert came["versions_learnt"] > 0
    assert came["versions_seen_where_corrected"] > 1


def open_with_padding(site: Site, front: Life, number: int, size: int) -> requests.Response:
    """A task of so many bytes whose picture is called `held-NUMBER`."""
    path = f"/data/upload/1/held-{number}.png"
    site.server.files[path] = encoded(distinct(number))
    task: dict[str, Any] = {"id": number, "data": {"image": path}, "meta": {"text": "x" * size}}
    return front.post("/predict", {"tasks": [task], "label_config": CONFIG, "project": "77.1"})


@pytest.mark.parametrize(
    ("size", "answers"),
    [
        pytest.param(BUFFER - 10_000, [200, 200], id="fits"),
        pytest.param(BUFFER + 10_000, [200, 502], id="does not fit"),
    ],
)
def test_what_fits_in_the_buffer_is_asked_again_and_of_what_does_not_the_caller_is_told(
    make_site: MakeSite,
    make_fleet: Callable[[Site], Fleet],
    redis_server: RedisServer,
    size: int,
    answers: list[int],
):
    site = make_site(store=redis_server.url)
    fleet, gate = make_fleet(site), Event()
    site.server.fail(times=2, only="GET /data/upload/1/held", gate=gate)

    with ThreadPoolExecutor(2) as pool:
        try:
            opened = [
                pool.submit(open_with_padding, site, fleet.front, number, size) for number in (1, 2)
            ]
            until(lambda: len(site.server.asked("GET /data/upload/1/held")) == 2)
            fleet.kill(0)  # one of the two requests is here, the other one there
        finally:
            gate.set()
        found = [one.result() for one in opened]

    assert sorted(one.status_code for one in found) == answers
    assert all("results" in one.json() for one in found if one.status_code == 200)
    assert all("error" in one.json() for one in found if one.status_code == 502)


def test_an_event_that_a_frozen_replica_holds_is_acknowledged_by_the_other_one(
    make_site: MakeSite, make_fleet: Callable[[Site], Fleet], redis_server: RedisServer
):
    site = make_site(store=redis_server.url, listed=0)
    fleet = make_fleet(site)
    event = {"action": "START_TRAINING", "project": {"id": site.school}}

    os.killpg(fleet.lives[0].pid, signal.SIGSTOP)
    try:
        answers = [fleet.front.post("/webhook", event) for _ in range(2)]  # one for each
    finally:
        os.killpg(fleet.lives[0].pid, signal.SIGCONT)

    assert [one.json() for one in answers] == [{"status": "received"}] * 2
    went_elsewhere = re.compile(r'/\+1 \d+/\d+ "POST /webhook ')  # see haproxy's HTTP log format
    until(lambda: went_elsewhere.search(fleet.balancer.log.read_text()) is not None)
    site.settle()
    assert site.what_is_wrong() == []


def test_a_picture_on_the_page_stays_with_the_replica_that_keeps_it(
    make_site: MakeSite, make_fleet: Callable[[Site], Fleet]
):
    address = make_fleet(make_site()).front.url
    with requests.Session() as browser:
        browser.auth = AUTH
        assert browser.get(f"{address}/ui/", timeout=30).status_code == 200
        browser.headers["X-CSRF-Token"] = browser.cookies["cliper_csrf"]
        kept = browser.post(
            f"{address}/ui/api/pictures?name=a.png", data=encoded(distinct(1)), timeout=30
        )
        asked = {"picture": kept.json()["id"], "config": CONFIG}

        answers = [
            browser.post(f"{address}/ui/api/panes", json=asked, timeout=30) for _ in range(6)
        ]

    assert [one.status_code for one in answers] == [200] * 6


def test_whoever_asks_for_a_password_asks_through_the_balancer_too(
    make_site: MakeSite, make_fleet: Callable[[Site], Fleet]
):
    site = make_site()
    front = make_fleet(site).front
    body = {"schema": CONFIG, "project": "1.1"}

    refused = replace(front, auth=None).post("/setup", body)
    wrong = replace(front, auth=(AUTH[0], "guessed")).post("/setup", body)
    known = front.post("/setup", body)

    assert (refused.status_code, refused.reason) == (401, "user or password is missing or wrong")
    assert wrong.status_code == 401
    assert known.status_code == 200
    assert known.json()["model_version"]


def test_a_replica_is_told_who_asks_and_gets_all_the_caller_said(tmp_path: Path):
    with json_server({**READY, "POST /jobs": (202, {})}) as server, before(server, tmp_path) as one:
        one.wait_for(1)
        sent = {"Authorization": "Bearer t-o-k-e-n", "X-Request-ID": "mine"}
        requests.post(f"{one.url}/jobs", json={"kind": "learn"}, headers=sent, timeout=PATIENCE)
        requests.post(f"{one.url}/jobs", json={"kind": "undo"}, timeout=PATIENCE)

    first, second = (asked for asked in server.asked if asked.path == "/jobs")
    assert first.authorization == "Bearer t-o-k-e-n"
    assert first.headers["x-request-id"] == "mine"
    assert first.body == {"kind": "learn"}
    assert re.fullmatch(r"[0-9a-f-]{36}", second.headers["x-request-id"])
    assert second.authorization is None
    # without it the service would take anybody for its own machine: see backend/api/auth.py
    assert {asked.headers["x-forwarded-for"] for asked in (first, second)} == {"127.0.0.1"}


def test_while_none_is_ready_those_that_are_there_say_why(tmp_path: Path):
    loading = (503, {"error": "the model is being loaded"})
    routes = {
        "GET /ready": (503, {}),
        "GET /health": (200, {"status": "UP"}),
        "POST /setup": loading,
    }
    with json_server(routes) as server, before(server, tmp_path) as one:
        until(lambda: requests.get(f"{one.url}/health", timeout=PATIENCE).status_code == 200)
        one.wait_for(0)
        health = requests.get(f"{one.url}/health", timeout=PATIENCE)
        setup = requests.post(f"{one.url}/setup", json={}, timeout=PATIENCE)
        server.routes |= READY
        one.wait_for(1)

    assert (health.status_code, health.json()) == (200, {"status": "UP"})
    assert (setup.status_code, setup.json()) == loading


def test_a_replica_that_comes_later_is_found_by_its_name(tmp_path: Path):
    with json_server({**READY, "GET /health": (200, {"status": "UP"})}) as server:
        _, _, port = server.url.rpartition(":")
        with Balancer(tmp_path, [], int(port)) as balancer:
            nobody = requests.get(f"{balancer.url}/health", timeout=PATIENCE)
            balancer.names.addresses.append("127.0.0.1")
            balancer.wait_for(1)
            found = requests.get(f"{balancer.url}/health", timeout=PATIENCE)

    assert nobody.status_code == 503
    assert nobody.json() == {"error": "no replica of the service answers; start one"}
    assert found.json() == {"status": "UP"}
