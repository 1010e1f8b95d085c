"""Pictures that cannot be had: nothing is stored, the task is asked again and succeeds later."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from backend.demo.annotate import answer_of
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer

from .conftest import StartService
from .pictures import ONE_BOX, TWO_BOXES, brush_config

BREAK: dict[str, Callable[[Path], object]] = {
    "missing.png": lambda path: path.unlink(),
    "truncated.png": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "empty.png": lambda path: path.write_bytes(b""),
    "text.png": lambda path: path.write_text("this is no picture"),
}


@pytest.fixture(params=["strict", "lenient"])
def any_label_studio(request: pytest.FixtureRequest) -> LabelStudioServer:
    """Once with validation of predictions, once as an administrator gets it."""
    name = "label_studio" if request.param == "strict" else "lenient_label_studio"
    found: LabelStudioServer = request.getfixturevalue(name)
    return found


@pytest.fixture
def any_api(any_label_studio: LabelStudioServer) -> Iterator[LabelStudioApi]:
    client = LabelStudioApi(any_label_studio.url, any_label_studio.account.token)
    yield client
    client.close()


def test_four_broken_files_store_nothing_hinder_nobody_and_succeed_once_mended(
    any_label_studio: LabelStudioServer,
    any_api: LabelStudioApi,
    start_colour_service: StartService,
):
    service = start_colour_service(any_label_studio)
    project = any_api.create_project("broken", brush_config(("red", "blue")))
    good = {"good-1.png": TWO_BOXES.to_png(), "good-2.png": ONE_BOX.to_png()}
    files = {**dict.fromkeys(BREAK, TWO_BOXES.to_png()), **good}
    tasks = any_api.upload(project, files)
    folder = any_label_studio.data / "media" / "upload" / str(project)
    places = {name: next(folder.glob(f"*-{name}")) for name in BREAK}
    for name, harm in BREAK.items():
        harm(places[name])
    any_api.connect(project, service)

    any_api.retrieve_predictions(project)

    first = any_api.predictions(project)
    assert {found["task"] for found in first} == {tasks[name] for name in good}
    assert all(found["result"] for found in first)

    for path in places.values():
        path.write_bytes(TWO_BOXES.to_png())
    any_api.retrieve_predictions(project)

    second = any_api.predictions(project)
    assert second[: len(first)] == first  # the good ones were not asked again
    mended = {found["task"]: answer_of(found) for found in second[len(first) :]}
    assert mended.keys() == {tasks[name] for name in BREAK}
    for answer in mended.values():
        np.testing.assert_array_equal(answer.masks["blue"], TWO_BOXES.truth("blue"))


def test_without_the_right_token_nothing_is_stored_and_the_right_one_makes_up_for_it(
    any_label_studio: LabelStudioServer,
    any_api: LabelStudioApi,
    start_colour_service: StartService,
):
    wrong = start_colour_service(any_label_studio, LABEL_STUDIO_API_KEY="f" * 40)
    project = any_api.create_project("token", brush_config(("red", "blue")))
    any_api.upload(project, {"two.png": TWO_BOXES.to_png()})
    connection = any_api.connect(project, wrong)
    any_api.retrieve_predictions(project)
    assert any_api.predictions(project) == []

    any_api.call("DELETE", f"/api/ml/{connection['id']}")
    any_api.connect(project, start_colour_service(any_label_studio))
    any_api.retrieve_predictions(project)

    (found,) = any_api.predictions(project)
    assert answer_of(found).masks.keys() == {"red", "blue"}
