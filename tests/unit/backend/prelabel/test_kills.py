"""Whatever breaks and wherever a run is killed: one prediction per task in the end."""

import random

import pytest

from backend.errors import StudioError
from backend.prelabel.progress import Progress
from backend.prelabel.run import Hooks, prelabel
from backend.prelabel.wanted import Wanted
from backend.studio.client import Patience, Studio
from backend.studio.project import StudioProject

from ....doubles.moments import Moments
from ....doubles.studio_server import LEGACY_TOKEN, Call, Fault, StudioServer, studio_server
from .conftest import THEIRS, VERSION, Scripted, found, unreachable

FAULTS = (
    {"status": 500, "body": b'{"detail": "database is locked"}'},
    {"status": 500, "body": b'{"detail": "database is locked"}', "done": True},
    {"status": 502},
    {"status": 502, "done": True},
    {"status": 429, "headers": {"Retry-After": "3"}},
    {"status": 503},
    {"drop": True},
    {"drop": True, "done": True},
    {"half": True},
)
ENOUGH = 40  # runs; one without faults always ends


class Killed(BaseException):
    """The process is gone."""


class Chaos:
    """Harms requests, and kills the run at one of them, as its seed says."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.share = self.chance.choice([0.0, 0.05, 0.2])
        self.kill_at = 0
        self.calm = False

    def begin_run(self, number: int) -> None:
        self.calm = number >= ENOUGH // 2
        self.kill_at = self.chance.randint(1, 25)

    def __call__(self, call: Call) -> Fault | None:
        if self.calm or self.chance.random() >= self.share:
            return None
        return Fault(**self.chance.choice(FAULTS))

    def step(self) -> None:
        self.kill_at -= 1
        if not self.calm and self.kill_at < 0:
            raise Killed


class Mortal(Studio):
    """A client whose process may be killed before or after any request."""

    chaos: Chaos

    def _once(self, method, path, token, **options):
        self.chaos.step()
        answer = super()._once(method, path, token, **options)
        self.chaos.step()
        return answer


@pytest.fixture(scope="module")
def shared():
    """One server for all seeds: it is the same code, and starts once."""
    with studio_server() as server:
        yield server


@pytest.mark.parametrize("seed", range(50))
def test_every_task_has_one_prediction_in_the_end(shared: StudioServer, seed: int):
    chaos, server = Chaos(seed), shared
    chance = chaos.chance
    server.forget()
    server.strict = chance.random() < 0.5
    project = server.project(tasks=chance.choice([0, 2, 7, 60, 110]))
    tasks = server.ids(project)
    for task in tasks:
        if chance.random() < 0.1:
            server.predict(task, THEIRS)
        if chance.random() < 0.1:
            server.predict(task, VERSION)
    skipped = {task for task in tasks if chance.random() < 0.05}
    for task in skipped - {one["task"] for one in server.predictions.values()}:
        chance.choice([server.annotate, server.draft])(task)
    theirs = {n for n, one in server.predictions.items() if one["model_version"] == THEIRS}
    human = {one["task"] for one in (*server.annotations.values(), *server.drafts.values())}
    predictor = Scripted(
        lambda task: unreachable(task) if chance.random() < chaos.share / 4 else found(task)
    )
    redo = chance.random() < 0.3
    redone: set[int] = set()
    moments = Moments()
    server.before = chaos
    hooks = Hooks(
        told=lambda progress: None,
        pause=chaos.step,
        wait=moments.pause,
        noted=lambda: set(redone),
        note=redone.update,
    )
    runs = 0
    for number in range(ENOUGH):
        chaos.begin_run(number)
        studio = Mortal(
            server.url,
            LEGACY_TOKEN,
            patience=Patience(total=10**9),
            pause=moments.pause,
            clock=moments,
        )
        studio.chaos = chaos
        progress = Progress()
        runs += 1
        try:
            prelabel(
                StudioProject(studio, project),
                predictor,
                Wanted(project=project, redo=redo),
                progress,
                hooks,
            )
        except (Killed, StudioError):
            continue
        else:
            if progress.failed == 0:
                break
        finally:
            studio.close()

    server.before = lambda call: None
    assert progress.phase == "done", runs
    assert progress.left == 0
    assert {n for n, p in server.predictions.items() if p["model_version"] == THEIRS} == theirs
    for task in tasks:
        expected = int(task not in human)
        ours = server.versions(task).count(VERSION)
        assert ours == expected or (task in human and ours <= 1), (seed, task)
