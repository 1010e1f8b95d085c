"""Pre-labelling and taking it back: Label Studio's export is what it was, and people's work stays.

In this process, with a model whose words are colours and a version as the real ones have.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backend import wiring
from backend.demo.annotate import answer_of
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.errors import BadRequest
from backend.predictor import Predictor
from backend.prelabel.progress import Progress
from backend.prelabel.run import Hooks, prelabel
from backend.prelabel.undo import undo
from backend.prelabel.wanted import Wanted
from backend.settings import Settings
from backend.studio.client import Studio
from backend.studio.project import StudioProject

from ..doubles.colours import IDENTITY, ColourSegmenter, colour_source
from .pictures import NO_BOX, ONE_BOX, TWO_BOXES, ColourPicture, brush_config

PICTURES: Mapping[str, ColourPicture] = {
    "two.png": TWO_BOXES,
    "one.png": ONE_BOX,
    "none.png": NO_BOX,
    "more.png": TWO_BOXES,
    "last.png": ONE_BOX,
}
WORDS = ("red", "blue")
THEIRS = "somebody-1"


@pytest.fixture(scope="module")
def predictor(label_studio: LabelStudioServer) -> Iterator[Predictor]:
    settings = Settings(
        profile="demo",
        label_studio_url=label_studio.url,
        label_studio_api_key=label_studio.account.token,
    )
    named_as_ours = replace(IDENTITY, profile="demo", method="cliper")
    source = colour_source(ColourSegmenter(identity=named_as_ours))
    services = wiring.build(settings, source=source)
    services.models.own.start()
    services.models.own.join()
    yield services.predictor
    services.predictor.close()


@pytest.fixture
def project(label_studio: LabelStudioServer, api: LabelStudioApi) -> Iterator[StudioProject]:
    number = api.create_project("undo", brush_config(WORDS))
    api.upload(number, {name: picture.to_png() for name, picture in PICTURES.items()})
    studio = Studio(label_studio.url, label_studio.account.token)
    yield StudioProject(studio, number)
    studio.close()


def go(project: StudioProject, predictor: Predictor, **wish: Any) -> Progress:
    progress = Progress()
    hooks = Hooks(told=lambda now: None, pause=lambda: None, wait=lambda seconds: None)
    prelabel(project, predictor, Wanted(project=project.id, **wish), progress, hooks)
    assert (progress.failed, progress.left) == (0, 0), progress.to_json()
    return progress


def take_back(project: StudioProject, version: str, **options: Any) -> tuple[int, int]:
    progress = Progress()
    undo(project, version, progress, **options)
    return progress["removed"], progress["kept"]


def export(api: LabelStudioApi, project: StudioProject) -> bytes:
    """The JSON export of all tasks, as a file."""
    answer = api._session.get(
        f"{api.url}/api/projects/{project.id}/export",
        params={"exportType": "JSON", "download_all_tasks": "true"},
        timeout=60,
    )
    answer.raise_for_status()
    return answer.content


def predicted(api: LabelStudioApi, project: StudioProject, version: str) -> dict[int, int]:
    """Task -> its prediction of a version."""
    found = api.predictions(project.id)
    return {one["task"]: one["id"] for one in found if one["model_version"] == version}


def somebody_else_predicts(api: LabelStudioApi, tasks: list[int]) -> None:
    for task in tasks:
        body = {"task": task, "result": [], "score": 0.1, "model_version": THEIRS}
        api.call("POST", "/api/predictions", json=body)


def test_what_is_written_is_what_is_in_the_pictures(
    api: LabelStudioApi, project: StudioProject, predictor: Predictor
):
    progress = go(project, predictor)

    data = {one["id"]: str(one["data"]["image"]) for one in api.tasks(project.id)}
    stored = api.predictions(project.id)
    assert len(stored) == len(PICTURES) == progress["written"]
    for one in stored:
        (picture,) = (p for name, p in PICTURES.items() if data[one["task"]].endswith(f"-{name}"))
        masks = answer_of(one).masks
        assert masks.keys() == {word for word in WORDS if word in picture.boxes}
        for word, mask in masks.items():
            np.testing.assert_array_equal(mask, picture.truth(word))


def test_the_export_is_byte_for_byte_what_it_was(
    api: LabelStudioApi, project: StudioProject, predictor: Predictor
):
    before = export(api, project)

    version = go(project, predictor).version
    assert export(api, project) != before
    assert take_back(project, version, dry_run=True) == (5, 0)
    assert take_back(project, version) == (5, 0)

    assert export(api, project) == before


def test_beside_others_predictions_the_export_is_byte_for_byte_what_it_was(
    api: LabelStudioApi, project: StudioProject, predictor: Predictor
):
    tasks = list(project.ids())
    somebody_else_predicts(api, tasks[:3])
    before = export(api, project)

    version = go(project, predictor).version
    assert take_back(project, version) == (5, 0)

    assert export(api, project) == before
    assert project.versions() == {THEIRS: 3}


def test_annotations_that_came_from_elsewhere_are_exported_as_before(
    api: LabelStudioApi, project: StudioProject, predictor: Predictor
):
    tasks = list(project.ids())
    somebody_else_predicts(api, tasks[:1])
    theirs = predicted(api, project, THEIRS)[tasks[0]]
    body = {"result": [], "parent_prediction": theirs}
    api.call("POST", f"/api/tasks/{tasks[0]}/annotations/", json=body)
    api.call("POST", f"/api/tasks/{tasks[1]}/annotations/", json={"result": []})
    before = export(api, project)

    version = go(project, predictor, include_annotated=True).version
    assert take_back(project, version) == (5, 0)

    assert export(api, project) == before


def test_what_somebody_builds_on_stays(
    api: LabelStudioApi, project: StudioProject, predictor: Predictor
):
    tasks = list(project.ids())
    version = go(project, predictor).version
    ours = predicted(api, project, version)
    somebody_else_predicts(api, tasks[3:4])
    body = {"result": [], "parent_prediction": ours[tasks[0]]}
    api.call("POST", f"/api/tasks/{tasks[0]}/annotations/", json=body)
    skipped = {**body, "parent_prediction": ours[tasks[1]], "was_cancelled": True}
    api.call("POST", f"/api/tasks/{tasks[1]}/annotations/", json=skipped)
    api.call("POST", f"/api/tasks/{tasks[2]}/drafts", json={"result": []})

    assert take_back(project, version, dry_run=True) == (2, 3)
    assert take_back(project, version) == (2, 3)

    assert predicted(api, project, version) == {task: ours[task] for task in tasks[:3]}
    assert project.versions()[THEIRS] == 1
    kept = project.annotations(tasks[0])[0]["parent_prediction"]
    assert kept == ours[tasks[0]]


def test_a_version_whose_name_holds_ours_is_not_ours(
    api: LabelStudioApi, project: StudioProject, predictor: Predictor
):
    tasks = list(project.ids())
    version = go(project, predictor).version
    body = {"task": tasks[0], "result": [], "model_version": f"{version}-checked"}
    api.call("POST", "/api/predictions", json=body)

    assert take_back(project, version) == (5, 0)

    assert project.versions() == {f"{version}-checked": 1}


def test_others_versions_are_not_taken_back(
    api: LabelStudioApi, project: StudioProject, predictor: Predictor
):
    somebody_else_predicts(api, list(project.ids()))

    with pytest.raises(BadRequest, match="others' predictions are left alone"):
        take_back(project, THEIRS)

    assert project.versions() == {THEIRS: 5}


def test_a_second_run_and_a_redo_leave_one_prediction_each(
    api: LabelStudioApi, project: StudioProject, predictor: Predictor
):
    first = go(project, predictor)
    before = predicted(api, project, first.version)
    assert go(project, predictor)["already"] == 5
    assert predicted(api, project, first.version) == before

    go(project, predictor, redo=True)

    after = predicted(api, project, first.version)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert project.versions() == {first.version: 5}
