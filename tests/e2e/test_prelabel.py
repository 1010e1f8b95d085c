"""`cliper prelabel` as users give it, against a real Label Studio: killed, stopped, taken back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from backend.__main__ import main
from backend.demo import annotate, projects
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment

from ..doubles.redis_server import RedisServer
from .conftest import CHECKOUT

PATIENCE = 300.0  # seconds, on a busy machine

Json = dict[str, Any]


class Command:
    """`cliper prelabel` in a process of its own, with a store of its own."""

    def __init__(self, label_studio: LabelStudioServer, folder: Path, store: str) -> None:
        self._folder, self._runs = folder, 0
        self.environment = {
            **plain_environment(),
            "OMP_NUM_THREADS": "1",
            "PROFILE": "demo",
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.account.token,
            "STORAGE": store,
        }

    def start(self, project: int, *options: str) -> subprocess.Popen[bytes]:
        self._runs += 1
        words = ["prelabel", "--project", str(project), "--json", *options]
        with self.log.open("wb") as log, self.out.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "backend", *words],
                env=self.environment,
                cwd=CHECKOUT,
                stdout=out,
                stderr=log,
            )

    @property
    def log(self) -> Path:
        return self._folder / f"run-{self._runs}.log"

    @property
    def out(self) -> Path:
        return self._folder / f"run-{self._runs}.json"

    def finish(self, project: int) -> Json:
        """Start it, and wait for its end; what it printed."""
        assert self.start(project).wait(PATIENCE) == 0, self.log.read_text()
        told: Json = json.loads(self.out.read_text())
        return told


@pytest.fixture
def command(label_studio: LabelStudioServer, tmp_path: Path) -> Command:
    return Command(label_studio, tmp_path, f"sqlite:{tmp_path / 'store.sqlite'}")


Run = Callable[..., Json]


@pytest.fixture
def run(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The same command in this process, which has loaded its libraries already."""
    for name, value in command.environment.items():
        monkeypatch.setenv(name, value)

    def begin(project: int, *options: str, status: int = 0, says: str = "") -> Json:
        ended = main(["prelabel", "--project", str(project), "--json", *options])
        out, said = capsys.readouterr()
        assert ended == status, said
        assert says in said
        told: Json = json.loads(out)
        return told

    return begin


@pytest.fixture
def scenes(api: LabelStudioApi) -> Callable[[int], tuple[int, list[int]]]:
    """Make a project of so many storybook scenes; its number, and its tasks'."""

    def make(count: int) -> tuple[int, list[int]]:
        project = projects.one_label(count, 11)
        number = api.create_project("prelabel", project.label_config)
        tasks = api.upload(number, {picture.name: picture.to_png() for picture in project.pictures})
        assert len(tasks) == count
        return number, sorted(tasks.values())

    return make


def predictions_per_task(api: LabelStudioApi, project: int) -> Mapping[int, int]:
    return Counter(found["task"] for found in api.predictions(project))


def export(api: LabelStudioApi, project: int) -> str:
    told = api.call(
        "GET",
        f"/api/projects/{project}/export",
        params={"exportType": "JSON", "download_all_tasks": "true"},
    )
    return json.dumps(told)


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, "ended too early"
        time.sleep(0.1)


@contextmanager
def beside(*steps: Callable[[], object]) -> Iterator[None]:
    """Steps in a thread of their own, while the command has this one."""
    with ThreadPoolExecutor(1) as other:
        done = other.submit(lambda: [step() for step in steps])
        yield
        done.result(PATIENCE)


def written(api: LabelStudioApi, project: int) -> int:
    counts = api.call("GET", f"/api/projects/{project}/model-versions")
    return sum(counts.values())


def test_killed_three_times_every_task_has_one_prediction(
    api: LabelStudioApi, command: Command, scenes: Callable[[int], tuple[int, list[int]]]
) -> None:
    project, tasks = scenes(60)
    for enough in (1, 15, 35):
        process = command.start(project)
        wait_until(lambda least=enough: written(api, project) >= least, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert written(api, project) < len(tasks)

    told = command.finish(project)

    assert predictions_per_task(api, project) == dict.fromkeys(tasks, 1)
    assert {found["model_version"] for found in api.predictions(project)} == {told["model_version"]}
    assert told["already"] >= 35
    assert told["already"] + told["written"] == len(tasks)
    assert "going on with job" in command.log.read_text()


def test_taken_back_the_export_is_byte_for_byte_what_it_was(
    api: LabelStudioApi, run: Run, scenes: Callable[[int], tuple[int, list[int]]]
) -> None:
    project, tasks = scenes(4)
    before = export(api, project)

    version = run(project)["model_version"]
    assert export(api, project) != before
    told = run(project, "--undo", version)

    assert export(api, project) == before
    assert (told["removed"], told["kept"]) == (4, 0)

    run(project)
    built_on = api.predictions(project)[1]
    body = {"result": built_on["result"], "parent_prediction": built_on["id"]}
    api.call("POST", f"/api/tasks/{built_on['task']}/annotations/", json=body)
    told = run(project, "--undo", version)

    assert [found["id"] for found in api.predictions(project)] == [built_on["id"]]
    assert (told["removed"], told["kept"]) == (3, 1)
    assert len(tasks) == 4


def test_what_people_have_done_or_begun_is_left_alone_unless_asked_for(
    api: LabelStudioApi, run: Run, scenes: Callable[[int], tuple[int, list[int]]]
) -> None:
    project, (annotated, skipped, drafted, free) = scenes(4)
    api.call("POST", f"/api/tasks/{annotated}/annotations/", json={"result": []})
    api.call(
        "POST", f"/api/tasks/{skipped}/annotations/", json={"result": [], "was_cancelled": True}
    )
    api.call("POST", f"/api/tasks/{drafted}/drafts", json={"result": []})

    told = run(project)

    assert predictions_per_task(api, project) == {free: 1}
    assert (told["annotated"], told["drafted"], told["written"]) == (2, 1, 1)

    told = run(project, "--include-annotated", "--dry-run")
    assert (told["left"], told["written"]) == (3, 0)
    assert predictions_per_task(api, project) == {free: 1}

    run(project, "--include-annotated")
    assert predictions_per_task(api, project) == dict.fromkeys(
        (annotated, skipped, drafted, free), 1
    )


def test_failures_are_told_and_cost_nobody_else(
    api: LabelStudioApi, run: Run, scenes: Callable[[int], tuple[int, list[int]]]
) -> None:
    project, tasks = scenes(2)
    api.import_tasks(project, [{"image": "http://10.0.0.1/a.png"}, {"image": "data:image/png,x"}])

    told = run(project, status=1)

    assert predictions_per_task(api, project) == dict.fromkeys(tasks, 1)
    assert told["failed"] == 2
    assert set(told["failures"]) == {"address refused", "image broken"}
    assert told["state"] == "done"


def test_stopped_by_hand_it_says_how_to_go_on(
    api: LabelStudioApi, run: Run, scenes: Callable[[int], tuple[int, list[int]]]
) -> None:
    project, tasks = scenes(30)
    with beside(
        lambda: wait_until(lambda: written(api, project) >= 1),
        lambda: os.kill(os.getpid(), signal.SIGINT),
    ):
        told = run(project, status=130, says="the same command goes on from here")
    assert 1 <= written(api, project) < len(tasks)
    assert told["state"] == "queued"

    run(project, says="going on with job")

    assert predictions_per_task(api, project) == dict.fromkeys(tasks, 1)


def test_a_redis_that_is_away_for_a_while_is_waited_for(
    api: LabelStudioApi,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    scenes: Callable[[int], tuple[int, list[int]]],
) -> None:
    project, tasks = scenes(40)
    with RedisServer(tmp_path / "redis") as redis:
        monkeypatch.setenv("STORAGE", redis.url)
        with beside(
            lambda: wait_until(lambda: written(api, project) >= 1),
            redis.stop,
            lambda: wait_until(lambda: "waiting for the store" in caplog.text),
            redis.start,
        ):
            run(project, says="waiting for the store")

    assert predictions_per_task(api, project) == dict.fromkeys(tasks, 1)


@pytest.fixture(scope="module")
def hurried_service(
    label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """`cliper serve` with a second per request, and leave to go on in the background."""
    folder, port = tmp_path_factory.mktemp("hurried"), free_port()
    environment = {
        **plain_environment(),
        "OMP_NUM_THREADS": "1",
        "HOST": LOOPBACK,
        "PORT": str(port),
        "PROFILE": "demo",
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.account.token,
        "STORAGE": f"sqlite:{folder / 'store.sqlite'}",
        "PREDICT_BUDGET": "1",
        "AUTO_PRELABEL": "true",
    }
    with Server(
        "the hurried service",
        [sys.executable, "-m", "backend", "serve"],
        environment=environment,
        health=f"http://{LOOPBACK}:{port}/health",
        log=folder / "service.log",
        folder=CHECKOUT,
    ):
        annotate.wait_for_model(f"http://localhost:{port}")
        yield f"http://localhost:{port}"


def ended(service: str, job: str) -> Json:
    """A job of the service, once it has ended."""
    told: Json = {}

    def over() -> bool:
        told.update(requests.get(f"{service}/jobs/{job}", timeout=30).json())
        return told["state"] in ("done", "failed", "cancelled")

    wait_until(over)
    return told


def test_a_job_of_the_service_does_the_same_and_another_takes_it_back(
    api: LabelStudioApi,
    hurried_service: str,
    scenes: Callable[[int], tuple[int, list[int]]],
) -> None:
    project, tasks = scenes(3)
    before = export(api, project)

    body = {"kind": "prelabel", "project": project}
    placed = requests.post(f"{hurried_service}/jobs", json=body, timeout=30)
    done = ended(hurried_service, placed.json()["id"])

    assert placed.status_code == 202
    assert (done["state"], done["result"]["written"]) == ("done", 3)
    assert predictions_per_task(api, project) == dict.fromkeys(tasks, 1)

    body = {"kind": "undo", "project": project, "version": done["result"]["model_version"]}
    placed = requests.post(f"{hurried_service}/jobs", json=body, timeout=30)
    assert ended(hurried_service, placed.json()["id"])["result"]["removed"] == 3
    assert export(api, project) == before


def test_what_a_request_has_no_time_for_is_finished_by_a_job(
    api: LabelStudioApi,
    hurried_service: str,
    scenes: Callable[[int], tuple[int, list[int]]],
) -> None:
    project, tasks = scenes(24)
    api.connect(project, hurried_service)

    api.retrieve_predictions(project)
    assert written(api, project) < len(tasks)
    wait_until(lambda: written(api, project) >= len(tasks))

    health = requests.get(f"{hurried_service}/health", timeout=30).json()
    (job,) = [one for one in health["prelabel"]["jobs"] if one["project"] == project]
    done = ended(hurried_service, job["job"])
    assert done["result"]["written"] == job["tasks"]
    assert predictions_per_task(api, project) == dict.fromkeys(tasks, 1)
