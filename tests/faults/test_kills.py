"""SIGKILL at ten points of learning and of a job: nothing is lost, nothing is doubled."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ..doubles.lives import Site, in_use
from ..doubles.waiting import until
from .conftest import MakeSite

POINTS = 10


@pytest.mark.parametrize("seed", [20261129])
def test_a_service_killed_at_ten_points_loses_nothing_and_does_nothing_twice(
    make_site: MakeSite, seed: int
):
    site, chance = make_site(), random.Random(seed)

    points = [site.kill_somewhere(chance) for _ in range(POINTS)]
    last = site.life()
    site.ask(last)
    site.settle(last)

    assert len(site.acknowledged) >= POINTS / 2, points
    assert site.what_is_wrong() == []
    assert in_use(site.records()) == site.undisturbed()


@contextmanager
def store_away(site: Site) -> Iterator[None]:
    """Its file is somewhere else for a while."""
    away = site.folder / "away"
    away.mkdir()
    for file in site.folder.glob("store.sqlite*"):
        file.rename(away / file.name)
    yield
    for file in away.iterdir():
        file.rename(site.folder / file.name)


@pytest.mark.parametrize("ends", [".event", ".kept"])
def test_an_event_of_a_project_that_no_store_knows_outlives_its_process(
    make_site: MakeSite, ends: str
):
    """A start reads every project anew that the store knows, and so makes up for events that were
    lost; of this one the files of events say everything."""
    site, chance = make_site(), random.Random(8)
    life = site.life()
    until(lambda: life.get("/health")["learning"]["trouble"] is None)
    with store_away(site):
        site.correct(chance, life)
        if ends == ".kept":
            until(lambda: life.get("/health")["learning"]["trouble"] is not None)
            until(lambda: [one.suffix for one in site.folder.glob("events/*/*")] == [ends])
        life.kill()
        until(lambda: not life.is_alive())
    assert len(site.acknowledged) == 1
    assert not site.records().is_known()
    assert not site.records().oldest_unsettled()

    later = site.life()
    (number,) = site.acknowledged
    task = site.server.annotations[number]["task"]
    until(lambda: [one.task for one in site.records().states()] == [task])
    site.ask(later)
    site.settle(later)

    assert site.what_is_wrong() == []
