"""Corrections in a real Label Studio make the rest better, and taking them back undoes it.

Screenshots of the report on such a project are kept in `.cache/screenshots`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from backend.__main__ import main
from backend.demo import annotate
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment
from backend.demo.projects import Picture, Project
from backend.labelstudio.regions import FORMATS, RegionControl
from backend.report.learnt import ACTIVE
from benchmarks.shifts import SHIFTS
from cliper_model.demo.scenes import LABELS

from .browser import Browser
from .conftest import CHECKOUT
from .test_preview import OVERFLOW
from .test_report import SCREENSHOTS

PATIENCE = 300.0  # seconds, on a busy machine
SHOWN = ("sky", "grass", "sea", "road", "tree", "house", "person", "cloud")
CORRECTED, REST = 10, 6
Json = dict[str, Any]


def pictures(count: int) -> tuple[Picture, ...]:
    """Scenes in coarse patterns, which the model does not know well."""
    found = []
    for number in range(count):
        image, numbers = SHIFTS["texture"].draw(np.random.default_rng([41, number]))
        truth = {
            label: numbers == LABELS.index(label) + 1
            for label in SHOWN
            if (numbers == LABELS.index(label) + 1).any()
        }
        found.append(Picture(name=f"scene-{number:02}.png", image=image, truth=truth))
    return tuple(found)


def regions_of(picture: Picture) -> list[Json]:
    """What an annotator would submit."""
    size_hw = (picture.image.shape[0], picture.image.shape[1])
    return [
        region
        for number, (label, mask) in enumerate(picture.truth.items())
        for region in FORMATS["brushlabels"].encode(
            mask,
            RegionControl(
                from_name="masks",
                to_name="image",
                kind="brushlabels",
                label=label,
                labels_name=None,
                region_id=f"by-hand-{number}",
                score=None,
                size_hw=size_hw,
                item_index=None,
            ),
        )
    ]


@dataclass(frozen=True)
class Teachable:
    """`cliper serve` with the demo weights and a store of its own."""

    url: str
    storage: str


@pytest.fixture(scope="module")
def teachable(
    label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Teachable]:
    folder, port = tmp_path_factory.mktemp("teachable"), free_port()
    storage = f"sqlite:{folder / 'store.sqlite'}"
    environment = {
        **plain_environment(),
        "OMP_NUM_THREADS": "1",
        "HOST": LOOPBACK,
        "PORT": str(port),
        "PROFILE": "demo",
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.account.token,
        "STORAGE": storage,
    }
    with Server(
        "the service that learns",
        [sys.executable, "-m", "backend", "serve"],
        environment=environment,
        health=f"http://{LOOPBACK}:{port}/health",
        log=folder / "service.log",
        folder=CHECKOUT,
    ):
        annotate.wait_for_model(f"http://localhost:{port}")
        yield Teachable(f"http://localhost:{port}", storage)


class Studio:
    """One project, and what is stored in it."""

    def __init__(self, api: LabelStudioApi, service: str, project: Project) -> None:
        self._api, self._project = api, project
        self.number = api.create_project(project.title, project.label_config)
        files = {picture.name: picture.to_png() for picture in project.pictures}
        self.tasks = api.upload(self.number, files)
        api.connect(self.number, service)

    @property
    def version(self) -> str:
        """What the service says now; Label Studio asks for it before it retrieves."""
        (connection,) = self._api.connections(self.number)
        refreshed = self._api.call("GET", f"/api/ml/{connection['id']}/")
        return str(refreshed["model_version"])

    def retrieve(self, names: list[str]) -> dict[str, Json]:
        """The newest prediction of every picture named, of the version in force."""
        self._api.retrieve_predictions(self.number)
        newest: dict[int, Json] = {}
        for found in sorted(self._api.predictions(self.number), key=lambda one: int(one["id"])):
            newest[found["task"]] = found
        return {name: newest[self.tasks[name]] for name in names}

    def submit(self, picture: Picture) -> int:
        body = {"result": regions_of(picture), "lead_time": 30.0}
        made = self._api.call(
            "POST", f"/api/tasks/{self.tasks[picture.name]}/annotations/", json=body
        )
        return int(made["id"])

    def delete(self, annotation: int) -> None:
        self._api.call("DELETE", f"/api/annotations/{annotation}/")


def mean_iou(pictures: tuple[Picture, ...], predictions: dict[str, Json]) -> float:
    """Over labels, summed over the pictures, in percent."""
    both, either = dict.fromkeys(SHOWN, 0), dict.fromkeys(SHOWN, 0)
    for picture in pictures:
        answer = annotate.answer_of(predictions[picture.name])
        nothing = np.zeros(picture.image.shape[:2], bool)
        for label in SHOWN:
            told = answer.masks.get(label, nothing)
            truth = picture.truth.get(label, nothing)
            both[label] += int((told & truth).sum())
            either[label] += int((told | truth).sum())
    return 100 * float(np.mean([both[one] / either[one] for one in SHOWN if either[one]]))


def wait_until(holds: Callable[[], bool], why: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, why()
        time.sleep(0.5)


def report_on(number: int, folder: Path) -> Json:
    """What `cliper report` tells of the project, looked at in a browser."""
    assert main(["report", "--project", str(number), "--out", str(folder)]) == 0
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with Browser(folder / "profile") as browser:
        for width, height in ((1280, 1000), (390, 844)):
            browser.show_at(width, height)
            browser.visit((folder / "report.html").as_uri())
            assert browser.console() == []
            assert browser.run(OVERFLOW) <= 0
            browser.show_at(width, browser.run("return document.documentElement.scrollHeight"))
            browser.screenshot(SCREENSHOTS / f"report-learning-{width}.png")
    found: Json = json.loads((folder / "report.json").read_text())
    return found


def test_ten_corrections_make_the_rest_better_and_deleting_them_undoes_it(
    api: LabelStudioApi,
    label_studio: LabelStudioServer,
    teachable: Teachable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.account.token)
    monkeypatch.setenv("STORAGE", teachable.storage)
    project = Project(title="learning", labels=SHOWN, pictures=pictures(CORRECTED + REST))
    shown, rest = project.pictures[:CORRECTED], project.pictures[CORRECTED:]
    names = [picture.name for picture in rest]
    studio = Studio(api, teachable.url, project)

    def facts() -> Json:
        told: Json = requests.get(f"{teachable.url}/health", timeout=30).json()["learning"]
        return told

    def version_now() -> str:
        told = requests.post(
            f"{teachable.url}/setup",
            json={"project": f"{studio.number}.1", "schema": project.label_config},
            timeout=30,
        )
        return str(told.json()["model_version"])

    def learnt_from() -> int:
        """Versions come at 5 and at 10; `version_now` made the service look."""
        return int(facts()["active"][str(studio.number)]["tasks"])

    before = studio.retrieve(names)
    untaught = version_now()
    assert {one["model_version"] for one in before.values()} == {untaught}

    annotations = [studio.submit(picture) for picture in shown]
    wait_until(lambda: version_now() != untaught and learnt_from() == CORRECTED, facts)
    after = studio.retrieve(names)
    taught = version_now()
    gain = mean_iou(rest, after) - mean_iou(rest, before)

    assert {one["model_version"] for one in after.values()} == {taught}
    assert gain > 5

    report = report_on(studio.number, tmp_path)
    assert report["learnt"][0]["tasks"] == CORRECTED
    assert report["learnt"][0]["state"] == ACTIVE
    assert report["saving"]["corrected"] == CORRECTED

    for annotation in annotations:
        studio.delete(annotation)
    wait_until(lambda: version_now() == untaught, facts)
    for one in api.predictions(studio.number):
        api.call("DELETE", f"/api/predictions/{one['id']}/")
    again = studio.retrieve(names)

    assert {name: one["result"] for name, one in again.items()} == {
        name: one["result"] for name, one in before.items()
    }
    assert {one["model_version"] for one in again.values()} == {untaught}
