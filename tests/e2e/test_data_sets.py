"""A folder of pictures becomes rows, and rows become predictions in a real Label Studio."""

import json
from collections import Counter
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.demo import projects
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer

COUNT = 5
PREFIX = "/data/local-files/?d=photos/"


@pytest.fixture(autouse=True)
def environment(
    label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROFILE", "demo")
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.account.token)
    monkeypatch.setenv("STORAGE", f"sqlite:{tmp_path / 'store.sqlite'}")


@pytest.fixture
def project(api: LabelStudioApi) -> int:
    """Without tasks; asks for one label."""
    return api.create_project("data set", projects.one_label(COUNT, 11).label_config)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for picture in projects.one_label(COUNT, 11).pictures:
        (folder / picture.name).write_bytes(picture.to_png())
    return folder


def per_task(api: LabelStudioApi, project: int) -> Counter[int]:
    return Counter(one["task"] for one in api.predictions(project))


def test_pictures_of_a_folder_become_tasks_with_one_prediction_each(
    api: LabelStudioApi, project: int, photos: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows"
    told = ["--input", str(photos), "--output", str(rows), "--as-seen", PREFIX]

    assert main(["prelabel", *told, "--project", str(project)]) == 0
    assert main(["upload", str(rows), "--project", str(project)]) == 1  # there is no task yet
    for _ in range(2):
        assert main(["upload", str(rows), "--project", str(project), "--make-tasks"]) == 0

    tasks = api.tasks(project)
    assert sorted(one["data"]["image"] for one in tasks) == sorted(
        PREFIX + path.name for path in photos.iterdir()
    )
    assert per_task(api, project) == {one["id"]: 1 for one in tasks}
    assert any(one["result"] for one in api.predictions(project))


def test_an_exported_project_gets_what_prelabel_would_have_written(
    api: LabelStudioApi, project: int, tmp_path: Path
) -> None:
    pictures = projects.one_label(COUNT, 11).pictures
    api.upload(project, {picture.name: picture.to_png() for picture in pictures})
    export = api.call(
        "GET",
        f"/api/projects/{project}/export",
        params={"exportType": "JSON", "download_all_tasks": "true"},
    )
    (tmp_path / "export.json").write_text(json.dumps(export))
    told = ["--input", str(tmp_path / "export.json"), "--output", str(tmp_path / "rows")]

    assert main(["prelabel", *told, "--project", str(project), "--format", "jsonl"]) == 0
    assert main(["upload", str(tmp_path / "rows"), "--project", str(project)]) == 0
    by_rows = {one["task"]: one["result"] for one in api.predictions(project)}
    version = api.predictions(project)[0]["model_version"]
    assert main(["prelabel", "--project", str(project), "--undo", version]) == 0
    assert main(["prelabel", "--project", str(project)]) == 0

    assert per_task(api, project) == dict.fromkeys(by_rows, 1)
    assert {one["task"]: one["result"] for one in api.predictions(project)} == by_rows
    assert {one["model_version"] for one in api.predictions(project)} == {version}


def test_lines_are_what_label_studio_imports(
    api: LabelStudioApi, project: int, photos: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows"
    told = ["--input", str(photos), "--output", str(rows), "--as-seen", PREFIX]
    assert main(["prelabel", *told, "--project", str(project), "--format", "jsonl"]) == 0
    lines = [
        json.loads(line)
        for path in (rows / "rows").iterdir()
        for line in path.read_text().splitlines()
    ]

    api.import_tasks(project, lines)

    assert per_task(api, project) == {one["id"]: 1 for one in api.tasks(project)}
    assert len(lines) == COUNT
