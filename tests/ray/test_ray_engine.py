"""A run on a real Ray: every task once, whoever is killed."""

from collections import Counter
from pathlib import Path

import pytest

from ..doubles.colour_runs import folder_of
from ..doubles.ray_runs import ACTOR, WORKER, RayRun, started, stop

COUNT = 240
BROKEN = (7, 100)


SLOWLY = "0.2"  # seconds a fetch takes where somebody is to be killed before all is fetched


def begun(tmp_path: Path, pictures: Path, **environment: str) -> RayRun:
    words = ["-m", "tests.ray.colour_run", str(pictures), str(tmp_path / "out"), "2"]
    return started(words, tmp_path / "out", tmp_path / "log", **environment)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pictures", COUNT, broken=BROKEN)


def test_every_task_has_one_row_though_an_actor_a_worker_and_the_driver_are_killed(
    tmp_path: Path, pictures: Path
) -> None:
    first = begun(tmp_path, pictures, A_FETCH=SLOWLY)
    try:
        first.kill_one(ACTOR)
        first.until(lambda: first.files() >= 2)
        first.kill_one(WORKER)
        first.until(lambda: first.files() >= 4)
        first.kill_driver()
    finally:
        stop(first)
    had = len(first.ids())
    second = begun(tmp_path, pictures)
    try:
        assert second.end() == 0, second.log.read_text()
    finally:
        stop(second)

    assert second.files_there() == second.files()  # who reads all of them reads each row once
    ids = Counter(second.ids())
    assert len(ids) == COUNT
    assert max(ids.values()) == 1
    assert 0 < had < COUNT
    failed = {row.id: row.kind for row in second.output.read() if row.kind is not None}
    assert failed == {f"half-{n % 2}/{n:05}.png": "image broken" for n in BROKEN}
    told = second.log.read_text()
    assert "'already': " in told
