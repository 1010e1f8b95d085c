"""From uploaded pictures to stored masks, through a real Label Studio that validates strictly."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import requests

from backend.demo.annotate import answer_of, decode
from backend.demo.errors import Refused
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer

from .conftest import StartService
from .pictures import NO_BOX, ONE_BOX, TWO_BOXES, ColourPicture, brush_config

PICTURES: Mapping[str, ColourPicture] = {
    "two.png": TWO_BOXES,
    "one.png": ONE_BOX,
    "none.png": NO_BOX,
}
WORDS = ("red", "blue", "green")


def connected_project(
    api: LabelStudioApi, service: str, config: str, files: Mapping[str, bytes]
) -> tuple[int, dict[str, int]]:
    """A project with uploaded files and our service; returns its id and file name -> task id."""
    project = api.create_project("colours", config)
    tasks = api.upload(project, files)
    api.connect(project, service)
    return project, tasks


def retrieve(api: LabelStudioApi, project: int) -> dict[int, dict]:
    """Retrieve predictions; returns the only stored one of every task."""
    api.retrieve_predictions(project)
    stored = api.predictions(project)
    assert len({found["task"] for found in stored}) == len(stored), "a task has two predictions"
    return {found["task"]: found for found in stored}


def test_uploaded_pictures_come_back_with_the_masks_that_are_in_them(
    api: LabelStudioApi, service: str
):
    files = {name: picture.to_png() for name, picture in PICTURES.items()}
    project, tasks = connected_project(api, service, brush_config(WORDS), files)

    stored = retrieve(api, project)

    for name, picture in PICTURES.items():
        answer = answer_of(stored[tasks[name]])
        assert answer.masks.keys() == picture.boxes.keys()
        for word, mask in answer.masks.items():
            np.testing.assert_array_equal(mask, picture.truth(word))


def test_nothing_found_is_stored_as_an_empty_prediction_with_a_score(
    api: LabelStudioApi, service: str
):
    project, tasks = connected_project(
        api, service, brush_config(WORDS), {"none.png": NO_BOX.to_png()}
    )

    found = retrieve(api, project)[tasks["none.png"]]

    assert found["result"] == []
    assert 0.0 <= found["score"] <= 1.0


def test_every_prediction_carries_the_version_that_setup_announced(
    api: LabelStudioApi, service: str
):
    files = {name: picture.to_png() for name, picture in PICTURES.items()}
    project, _ = connected_project(api, service, brush_config(WORDS), files)

    stored = retrieve(api, project)

    (connection,) = api.connections(project)
    assert connection["readable_state"] == "Connected"
    assert {found["model_version"] for found in stored.values()} == {connection["model_version"]}
    listed = api.call("GET", f"/api/ml/{connection['id']}/versions")
    assert connection["model_version"] in str(listed)


def test_a_second_retrieve_asks_for_nothing_while_the_version_is_the_same(
    api: LabelStudioApi, service: str
):
    project, _ = connected_project(
        api, service, brush_config(WORDS), {"two.png": TWO_BOXES.to_png()}
    )
    first = retrieve(api, project)

    second = retrieve(api, project)

    assert second == first


def test_other_words_are_another_version_and_the_tasks_are_asked_again(
    api: LabelStudioApi, service: str
):
    project, tasks = connected_project(
        api, service, brush_config(("red",)), {"two.png": TWO_BOXES.to_png()}
    )
    first = retrieve(api, project)[tasks["two.png"]]
    api.call("PATCH", f"/api/projects/{project}/", json={"label_config": brush_config(WORDS)})

    api.retrieve_predictions(project)

    newest = api.predictions(project)[-1]
    assert newest["model_version"] != first["model_version"]
    assert answer_of(newest).masks.keys() == {"red", "blue"}


def test_opening_a_task_without_a_prediction_asks_for_one(api: LabelStudioApi, service: str):
    project, tasks = connected_project(
        api, service, brush_config(WORDS), {"two.png": TWO_BOXES.to_png()}
    )

    api.call("GET", f"/api/tasks/{tasks['two.png']}", params={"project": project})

    (found,) = api.predictions(project)
    assert answer_of(found).masks.keys() == {"red", "blue"}


def test_regions_have_ids_of_their_own_and_the_size_of_the_picture(
    api: LabelStudioApi, service: str
):
    project, tasks = connected_project(
        api, service, brush_config(WORDS), {"two.png": TWO_BOXES.to_png()}
    )

    regions = retrieve(api, project)[tasks["two.png"]]["result"]

    assert len({region["id"] for region in regions}) == len(regions) == 2
    for region in regions:
        assert (region["original_width"], region["original_height"]) == (320, 240)
        assert (region["from_name"], region["to_name"]) == ("masks", "photo")


def test_a_label_with_an_alias_comes_back_under_its_alias(api: LabelStudioApi, service: str):
    config = brush_config(("red", "blue"), aliases={"red": "stop"})
    project, tasks = connected_project(api, service, config, {"two.png": TWO_BOXES.to_png()})

    answer = answer_of(retrieve(api, project)[tasks["two.png"]])

    assert answer.masks.keys() == {"stop", "blue"}
    np.testing.assert_array_equal(answer.masks["stop"], TWO_BOXES.truth("red"))


def test_a_picture_stored_on_its_side_gets_masks_as_it_is_shown(api: LabelStudioApi, service: str):
    project, tasks = connected_project(
        api, service, brush_config(WORDS), {"side.jpg": TWO_BOXES.to_rotated_jpeg()}
    )

    found = retrieve(api, project)[tasks["side.jpg"]]

    (red,) = (r for r in found["result"] if r["value"]["brushlabels"] == ["red"])
    assert (red["original_width"], red["original_height"]) == (320, 240)
    mask, truth = decode(red), TWO_BOXES.truth("red")
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95


@pytest.fixture
def local_folder(label_studio: LabelStudioServer) -> Path:
    """A folder Label Studio may serve from, with one picture."""
    folder = label_studio.local_files / "two"
    folder.mkdir()
    (folder / "two.png").write_bytes(TWO_BOXES.to_png())
    return folder


def test_pictures_of_a_local_storage_are_found(
    api: LabelStudioApi, service: str, local_folder: Path
):
    project = api.create_project("local files", brush_config(WORDS))
    storage = api.call(
        "POST",
        "/api/storages/localfiles",
        json={
            "project": project,
            "path": str(local_folder),
            "regex_filter": r".*\.png",
            "use_blob_urls": True,
        },
    )
    api.call("POST", f"/api/storages/localfiles/{storage['id']}/sync")
    api.connect(project, service)

    (found,) = retrieve(api, project).values()

    np.testing.assert_array_equal(answer_of(found).masks["blue"], TWO_BOXES.truth("blue"))


def test_label_studio_really_validates_what_we_send(api: LabelStudioApi, service: str):
    _project, tasks = connected_project(
        api, service, brush_config(WORDS), {"two.png": TWO_BOXES.to_png()}
    )
    region = {"id": "a", "from_name": "nobody", "to_name": "photo", "type": "brushlabels"}

    with pytest.raises(Refused) as refusal:
        api.call("POST", "/api/predictions", json={"task": tasks["two.png"], "result": [region]})

    assert refusal.value.status == 400


@pytest.fixture
def only_personal_tokens(api: LabelStudioApi, personal_token: str) -> Iterator[str]:
    """A personal access token, while the organisation has switched the old-style ones off."""
    api.allow_legacy_tokens(False)
    yield personal_token
    client = LabelStudioApi(api.url, personal_token)
    client.allow_legacy_tokens(True)
    client.close()


def test_a_personal_access_token_is_enough_to_fetch_pictures(
    label_studio: LabelStudioServer,
    start_colour_service: StartService,
    only_personal_tokens: str,
):
    service = start_colour_service(label_studio, LABEL_STUDIO_API_KEY=only_personal_tokens)
    client = LabelStudioApi(label_studio.url, only_personal_tokens)
    old_style = {"Authorization": f"Token {label_studio.account.token}"}
    refused = requests.get(f"{label_studio.url}/api/projects", headers=old_style, timeout=30)
    assert refused.status_code == 401
    project, tasks = connected_project(
        client, service, brush_config(WORDS), {"two.png": TWO_BOXES.to_png()}
    )

    answer = answer_of(retrieve(client, project)[tasks["two.png"]])

    np.testing.assert_array_equal(answer.masks["red"], TWO_BOXES.truth("red"))
    client.close()
