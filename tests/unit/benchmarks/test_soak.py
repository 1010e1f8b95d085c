"""The soak: its sums, its judgement, and what it takes for a right answer."""

import io
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from backend.demo import projects
from backend.errors import ImageError
from backend.images import decode
from benchmarks import soak, soak_watch
from benchmarks.soak import Outcome
from benchmarks.soak_studio import BROKEN, Studio, running
from benchmarks.soak_traffic import CONFIGS, HOSTILE, MIX, Lost, Traffic, Wrong, masks
from benchmarks.soak_watch import Memory, answered, slope
from tests.doubles.json_server import json_server
from tests.doubles.waiting import until

FLAT = [(60.0 * minute, 500.0) for minute in range(10)]
Change = Callable[[dict[str, Any]], object]


def test_a_slope_is_per_minute_and_by_least_squares() -> None:
    assert slope([(60.0 * m, 100 + 2.0 * m) for m in range(5)], after=0) == pytest.approx(2)
    assert slope([(0, 1.0), (60, 3.0), (120, 2.0)], after=0) == pytest.approx(0.5)
    assert slope(FLAT, after=0) == pytest.approx(0)


def test_the_warm_up_does_not_count() -> None:
    grows_at_first = [(0.0, 0.0), (30.0, 400.0), *((60.0 + at, 500.0) for at, _ in FLAT)]
    assert slope(grows_at_first, after=60) == pytest.approx(0)
    rises = slope(grows_at_first, after=0)
    assert rises is not None
    assert rises > 10


def test_too_few_samples_have_no_slope() -> None:
    assert slope([], after=0) is None
    assert slope([(0, 1.0), (5, 2.0)], after=5) is None


def test_health_is_summed_up_in_percentiles_and_what_did_not_answer_apart() -> None:
    times = [(float(at), float(at)) for at in range(1, 101)] + [(101.0, -1.0)]
    assert answered(times) == {
        "asked": 101,
        "not_answered": 1,
        "p50_ms": 50.5,
        "p99_ms": 99.0,
        "max_ms": 100.0,
    }
    assert answered([])["p99_ms"] is None
    assert answered([(1, -1)])["max_ms"] is None


def outcomes(*problems: str) -> list[Outcome]:
    """One of every kind, and these."""
    found = [Outcome(kind, 10.0, 0.0) for kind in MIX]
    return found + [Outcome("bulk", 10.0, 0.0, problem) for problem in problems]


def figures(*problems: str) -> dict[str, Any]:
    health = [(0.1 * at, 4.0) for at in range(100)]
    summed = soak.summary(outcomes(*problems), Memory(FLAT, FLAT), health, warm_up=60)
    return {
        **summed,
        "while capacity was measured": soak.counts(outcomes()),
        "corrections_not_dealt_with": 0,
        "processes_ended": 0,
    }


def test_a_good_soak_passes() -> None:
    good = figures()
    assert good["answers"] == len(MIX)
    assert good["memory_slope_mib_per_minute"] == 0
    assert good["memory_warm_mib"] == {"first": 500, "last": 500, "most": 500}
    assert soak.passes(good)


def test_wrong_and_lost_answers_are_counted_apart_and_one_of_them_is_too_many() -> None:
    bad = figures("wrong: other masks", "lost: no result", "lost: refused")
    assert (bad["answers"], bad["wrong"], bad["lost"]) == (len(MIX) + 3, 1, 2)
    assert bad["by_kind"]["bulk"]["lost"] == 2
    assert bad["by_kind"]["click"]["wrong"] == 0
    assert bad["examples"] == ["wrong: other masks", "lost: no result", "lost: refused"]
    assert not soak.passes(figures("wrong: other masks"))
    assert not soak.passes(figures("lost: no result"))


@pytest.mark.parametrize(
    "worse",
    [
        lambda one: one.update(memory_slope_mib_per_minute=1.0),
        lambda one: one.update(memory_slope_mib_per_minute=None),
        lambda one: one["health"].update(p99_ms=50.0),
        lambda one: one["health"].update(p99_ms=None),
        lambda one: one["health"].update(not_answered=1),
        lambda one: one.update(corrections_not_dealt_with=1),
        lambda one: one.update(processes_ended=1),
        lambda one: one["while capacity was measured"].update(wrong=1),
        lambda one: one["while capacity was measured"].update(lost=1),
        lambda one: one["by_kind"]["bulk"].update(latest_start_ms=5000.0),
        lambda one: one.update(answers=0),
        lambda one: one["by_kind"]["click"].update(answers=0),
    ],
)
def test_every_bound_counts(worse: Change) -> None:
    found = figures()
    worse(found)
    assert not soak.passes(found)


def test_memory_that_falls_is_no_fault() -> None:
    found = figures()
    found["memory_slope_mib_per_minute"] = -3.0
    assert soak.passes(found)


def test_the_mix_is_in_a_hundred_and_can_all_be_done() -> None:
    assert sum(MIX.values()) == 100
    assert all(callable(getattr(Traffic, kind)) for kind in MIX)


@pytest.fixture(scope="module")
def scenes() -> tuple[projects.Picture, ...]:
    return projects.everything(2, 3).pictures


def test_a_picture_under_another_name_has_other_bytes_and_equal_pixels(
    scenes: tuple[projects.Picture, ...],
) -> None:
    studio = Studio(scenes)
    plain, first, second = (studio.file(name) for name in ("1.png", "1-a.png", "1-b.png"))
    assert plain is not None
    assert first is not None
    assert len({plain, first, second}) == 3
    for file in (plain, first):
        image = Image.open(io.BytesIO(file))
        image.load()
        np.testing.assert_array_equal(np.asarray(image), scenes[1].image)


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind != "gone"])
def test_a_broken_picture_cannot_be_read(scenes: tuple[projects.Picture, ...], kind: str) -> None:
    file = Studio(scenes).file(f"{kind}-1.png")
    assert file is not None
    with pytest.raises(ImageError):
        decode.decode(file, max_pixels=120_000_000)


def test_what_is_not_there_is_not_there(scenes: tuple[projects.Picture, ...]) -> None:
    studio = Studio(scenes)
    assert studio.file("gone-1.png") is None
    assert studio.file("2.png") is None
    with running(studio):
        assert requests.get(f"{studio.url}/data/upload/1/gone-1.png", timeout=60).status_code == 404
        found = requests.get(f"{studio.url}/data/upload/1/0.png", timeout=60)
    assert found.content == scenes[0].to_png()


def test_a_corrected_task_has_one_annotation_whatever_is_submitted(
    scenes: tuple[projects.Picture, ...],
) -> None:
    studio = Studio(scenes)
    (task,) = studio.state.add(studio.state.project(), {"image": "/data/upload/1/0.png"})
    first, second = studio.correct(task, [{"id": "a"}]), studio.correct(task, [{"id": "b"}])
    assert (first[1], second[1]) == (True, False)
    assert first[0] == second[0]
    assert studio.state.annotations[first[0]]["result"] == [{"id": "b"}]


def region(identity: str, values: list[int]) -> dict[str, Any]:
    return {"id": identity, "from_name": "m", "type": "brushlabels", "value": {"rle": values}}


def test_two_results_are_the_same_if_they_show_the_same() -> None:
    assert masks([region("a", [1]), region("b", [2])]) == masks(
        [region("c", [2]), region("d", [1])]
    )
    assert masks([region("a", [1])]) != masks([region("a", [2])])
    assert masks([region("a", [1])]) != masks([])


class Service:
    """Plays the service: what it answers is changed by tests."""

    def __init__(self) -> None:
        self.entry: Any = {"result": [region("a", [1])], "model_version": "v1"}
        self.broken: Any = {"error": "this is no picture"}
        self.left_out = 0

    def predict(self, asked: Any) -> tuple[int, object]:
        entries = [
            self.broken if any(kind in task["data"]["image"] for kind in BROKEN) else self.entry
            for task in asked.body["tasks"]
        ]
        return 200, {"results": entries[self.left_out :]}


@pytest.fixture
def asked(scenes: tuple[projects.Picture, ...]) -> Any:
    """A service of which everything is known, and traffic for it."""
    service = Service()
    with json_server({"POST /predict": service.predict}) as server:
        traffic = Traffic(server.url, Studio(scenes), 7, seed=1)
        traffic.learn_what_is_right()
        yield service, traffic


def test_right_answers_are_right(asked: tuple[Service, Traffic]) -> None:
    _, traffic = asked
    for kind in ("open_new", "open_known", "bulk", "click", "click_new", "broken", "open_taught"):
        assert soak.send(traffic, kind, 0.5, 0.0).problem == ""


def test_other_masks_are_wrong(asked: tuple[Service, Traffic]) -> None:
    service, traffic = asked
    service.entry = {"result": [region("a", [2])], "model_version": "v1"}
    for kind in ("open_new", "open_known", "bulk", "click", "broken"):
        assert soak.send(traffic, kind, 0.5, 0.0).problem.startswith("wrong: ")


def test_another_version_is_wrong(asked: tuple[Service, Traffic]) -> None:
    service, traffic = asked
    service.entry = {**service.entry, "model_version": "v2"}
    with pytest.raises(Wrong, match="version v2 in place of v1"):
        traffic.open_known(random.Random(0))


def test_a_task_without_an_entry_or_a_result_is_lost(asked: tuple[Service, Traffic]) -> None:
    service, traffic = asked
    service.left_out = 1
    with pytest.raises(Lost, match="entries for"):
        traffic.bulk(random.Random(0))
    service.left_out = 0
    service.entry = {"error": "no time"}
    assert soak.send(traffic, "open_known", 0.5, 0.0).problem.startswith("lost: no result")


def test_masks_of_a_broken_picture_are_wrong(asked: tuple[Service, Traffic]) -> None:
    service, traffic = asked
    service.broken = service.entry
    with pytest.raises(Wrong, match="was answered with"):
        traffic.broken(random.Random(0))


def test_a_taught_project_keeps_its_masks_as_long_as_its_version(
    asked: tuple[Service, Traffic],
) -> None:
    service, traffic = asked
    traffic.open_taught(random.Random(0))
    service.entry = {"result": [region("a", [2])], "model_version": "v2"}
    traffic.open_taught(random.Random(0))
    service.entry = {"result": [region("a", [3])], "model_version": "v2"}
    with pytest.raises(Wrong, match="under version v2"):
        traffic.open_taught(random.Random(0))


def test_a_hostile_body_must_be_refused(scenes: tuple[projects.Picture, ...]) -> None:
    routes: dict[str, Any] = {f"{method} {path}": (200, {}) for method, path, _ in HOSTILE}
    with json_server(routes) as server:
        traffic = Traffic(server.url, Studio(scenes), 7, seed=1)
        with pytest.raises(Wrong, match="was answered 200"):
            traffic.hostile(Chosen())
        server.routes.clear()
        traffic.hostile(Chosen())


class Chosen(random.Random):
    """Takes the first of whatever there is."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


def test_a_service_that_is_away_loses_the_answer(scenes: tuple[projects.Picture, ...]) -> None:
    traffic = Traffic("http://127.0.0.1:9", Studio(scenes), 7, seed=1)
    assert soak.send(traffic, "list_versions", 0.5, 0.0).problem.startswith("lost: Connection")


def test_health_is_asked_from_a_process_of_its_own() -> None:
    with json_server({"GET /health": (200, {"status": "UP"})}) as server:
        with soak_watch.health_of(server.url) as times:
            until(lambda: len(server.asked) >= 3)
        assert len(times) >= 3
        assert answered(times)["not_answered"] == 0
    with soak_watch.health_of("http://127.0.0.1:9") as times:
        pass
    assert all(taken == -1 for _, taken in times)


def test_a_question_that_waits_for_the_one_before_counts_from_when_it_was_due() -> None:
    held = threading.Event()

    def slow(_: Any) -> tuple[int, object]:
        held.wait(0 if len(server.asked) > 1 else 1.0)
        return 200, {"status": "UP"}

    with json_server({"GET /health": slow}) as server, soak_watch.health_of(server.url) as times:
        until(lambda: len(server.asked) >= 8)
    assert sum(taken > 500 for _, taken in times) >= 4  # not one alone


def test_a_worker_that_ended_is_counted() -> None:
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with soak_watch.memory_of(os.getpid(), every=0.01) as memory:
            until(lambda: len(memory.lasting) >= 1)
            worker.kill()
            worker.wait()
    finally:
        worker.kill()
        assert worker.stdin is not None
        worker.stdin.close()
    assert memory.ended == 1


def test_memory_is_that_of_the_processes_that_stay() -> None:
    with soak_watch.memory_of(os.getpid(), every=0.01) as memory:
        until(lambda: len(memory.lasting) >= 2)
    assert len(memory.all) == len(memory.lasting)
    assert all(value > 10 for _, value in memory.lasting)


def test_the_configs_ask_for_different_things() -> None:
    assert len(set(CONFIGS)) == len(CONFIGS)
