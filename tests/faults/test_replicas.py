"""Two services behind one address: what one of them knows, both know, and nothing is done twice."""

import random

from ..doubles.corrections import address
from ..doubles.lives import CONFIG, LABELS, Life, Site, picture
from ..doubles.redis_server import RedisServer
from ..doubles.waiting import until
from .conftest import MakeSite


def version_of(life: Life, project: int) -> str:
    answer = life.post("/setup", {"schema": CONFIG, "project": f"{project}.1"})
    answer.raise_for_status()
    return str(answer.json()["model_version"])


def predicted(life: Life, project: int) -> object:
    body = {
        "tasks": [{"id": 1, "data": {"image": address(picture(3))}}],
        "label_config": CONFIG,
        "project": f"{project}.1",
    }
    answer = life.post("/predict", body)
    answer.raise_for_status()
    (result,) = answer.json()["results"]
    return result["model_version"], result["score"], len(result["result"])


def ready(*lives: Life) -> None:
    for life in lives:
        until(lambda life=life: life.get("/health")["model"]["state"] == "ready")


def correct_all(site: Site, chance: random.Random, *lives: Life) -> None:
    for _ in range(14):
        site.correct(chance, *lives)


def test_two_services_share_version_evidence_activation_and_work(
    make_site: MakeSite, redis_server: RedisServer
):
    site, chance = make_site(store=redis_server.url, listed=40), random.Random(7)
    one, other = site.life(), site.life()
    ready(one, other)
    untaught = {version_of(life, site.school) for life in (one, other)}
    asked = {site.ask(life) for life in (one, other, one)}
    correct_all(site, chance, one, other)

    site.settle(one, other)

    assert len(untaught) == len(asked) == 1
    assert site.what_is_wrong() == []
    active, _ = site.records().active()
    assert active.digest is not None, f"something was learnt of {LABELS}"
    taught = {version_of(life, site.school) for life in (one, other)}
    assert len(taught) == 1
    assert taught != untaught
    assert predicted(one, site.school) == predicted(other, site.school)


def test_one_of_two_services_is_killed_and_the_other_goes_on(
    make_site: MakeSite, redis_server: RedisServer
):
    site, chance = make_site(store=redis_server.url), random.Random(8)
    stays = site.life()

    points = [site.kill_somewhere(chance) for _ in range(3)]
    again = site.life()  # who was killed comes back, with what it had on disk
    site.ask(stays)
    site.settle(stays, again)

    assert site.acknowledged, points
    assert site.what_is_wrong() == []
