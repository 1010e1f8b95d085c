"""A Redis that goes away in the middle of everything, and comes back."""

import itertools
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..doubles.redis_server import RedisServer
from ..doubles.studio_server import Call, Fault
from ..doubles.waiting import PATIENCE
from .conftest import MakeSite
from .test_replicas import predicted, ready, version_of


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Of this test alone, to be stopped."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


def test_predictions_go_on_and_all_that_was_acknowledged_is_settled_when_redis_is_back(
    make_site: MakeSite, own_redis: RedisServer
):
    site, chance = make_site(store=own_redis.url), random.Random(3)
    life = site.life()
    ready(life)
    version = version_of(life, site.work)
    calls, gone = itertools.count(1), threading.Event()

    def in_the_middle_of_the_job(call: Call) -> Fault | None:
        if next(calls) == 4:
            own_redis.stop()
            gone.set()
        return None

    site.server.before = in_the_middle_of_the_job
    assert site.ask(life)
    for _ in range(4):
        site.correct(chance, life)
    assert gone.wait(PATIENCE)
    for _ in range(5):
        site.correct(chance, life)

    assert predicted(life, site.work)[0] == version  # type: ignore[index]
    assert version_of(life, site.work) == version
    assert life.post("/jobs", {"kind": "prelabel", "project": site.work}).status_code == 503
    facts = life.get("/health")
    assert str(own_redis.port) in str(facts["storage"]["trouble"])
    assert len(site.acknowledged) == 9

    life.kill()  # with events that no store has heard of
    later = site.life()
    ready(later)
    assert version_of(later, site.work) == version
    own_redis.start()
    site.ask(later)
    site.settle(later)

    assert site.what_is_wrong() == []
