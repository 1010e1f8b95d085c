"""SIGKILL at ten points of learning and of a job: nothing is lost, nothing is doubled."""

import random

import pytest

from ..doubles.lives import in_use
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
