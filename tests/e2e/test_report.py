"""`cliper report` on a real Label Studio: through the API, from its plain export, on every screen.

Screenshots are kept in `.cache/screenshots`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.__main__ import main
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from tests.doubles.corrections import PICTURE, columns, painted
from tests.doubles.pictures import encoded

from .browser import Browser
from .conftest import CHECKOUT
from .test_preview import OVERFLOW, SHOWN

SCREENSHOTS = CHECKOUT / ".cache" / "screenshots"
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="seg" toName="image">'
    '<Label value="red"/><Label value="blue"/></BrushLabels></View>'
)
TITLE = "Harbour <& sea>"
TEN = columns(0, 10)
GIVEN = (TEN, columns(0, 8), columns(0, 2))  # taken as it was, touched up, redone
SECONDS = 12.5

Report = Callable[..., dict[str, Any]]


@pytest.fixture
def project(api: LabelStudioApi) -> int:
    """Three corrected pictures, one that was skipped, one nobody has looked at."""
    made = api.create_project(TITLE, CONFIG)
    api.upload(made, {f"{number}.png": encoded(PICTURE) for number in range(5)})
    tasks = [int(one["id"]) for one in api.tasks(made)]
    for task, given in zip(tasks, (*GIVEN, TEN, TEN), strict=True):
        body = {
            "task": task,
            "model_version": "v1",
            "score": 0.75,
            "result": painted("red", given, score=0.5),
        }
        prediction = api.call("POST", "/api/predictions", json=body)
        api.call("PATCH", f"/api/projects/{made}", json={"model_version": "v1"})  # now it is known
        if task in tasks[:4]:
            annotation = {
                "result": painted("red", TEN),
                "lead_time": SECONDS,
                "parent_prediction": prediction["id"],
                "was_cancelled": task == tasks[3],
            }
            api.call("POST", f"/api/tasks/{task}/annotations/", json=annotation)
    return made


@pytest.fixture
def report(
    label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Report:
    """Run the command as an administrator would; returns what is in report.json."""
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.account.token)
    monkeypatch.setenv("STORAGE", "memory:")

    def run(*arguments: object) -> dict[str, Any]:
        assert main(["report", "--out", str(tmp_path), *map(str, arguments)]) == 0
        found: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
        return found

    return run


def kinds(found: dict[str, Any]) -> list[tuple[str, str, float]]:
    return [(one["kind"], one["basis"], one["seconds"]) for one in found["pictures"]]


def test_a_project_is_read_through_the_api(project: int, report: Report):
    found = report("--project", project)

    assert kinds(found) == [
        ("untouched", "parent", SECONDS),
        ("touched", "parent", SECONDS),
        ("redone", "parent", SECONDS),
    ]
    assert found["tasks"]["open"] == 2
    assert found["edge_aware"] == {"pictures": 2, "without_picture": {}}
    assert [one["reason"] for one in found["worst"]] == [None, None]


def test_the_plain_export_says_the_same(
    api: LabelStudioApi, project: int, report: Report, tmp_path: Path
):
    path = tmp_path / "export.json"
    exported = api.call("GET", f"/api/projects/{project}/export", params={"exportType": "JSON"})
    path.write_text(json.dumps(exported), encoding="utf-8")

    found = report("--export", path)

    assert kinds(found) == kinds(report("--project", project))


def test_where_predictions_were_made_anew_nobody_has_seen_them(
    api: LabelStudioApi, project: int, report: Report
):
    for one in api.predictions(project):
        api.call("DELETE", f"/api/predictions/{one['id']}/")
    for task in api.tasks(project):
        body = {"task": task["id"], "model_version": "v2", "result": painted("red", TEN)}
        api.call("POST", "/api/predictions", json=body)

    found = report("--project", project)

    assert found["compared_with"] == {"parent": 0, "before": 0, "unseen": 3}
    assert found["saving"]["corrected"] == 0


def test_the_page_can_be_looked_at_on_every_screen(project: int, report: Report, tmp_path: Path):
    report("--project", project)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    with Browser(tmp_path / "profile") as browser:
        for width, height in ((1280, 1000), (390, 844)):
            browser.show_at(width, height)
            browser.visit((tmp_path / "report.html").as_uri())

            assert browser.console() == []
            assert browser.run(OVERFLOW) <= 0
            assert browser.run(SHOWN) == [True] * 8
            assert browser.run("return document.title") == f"Report: {TITLE}"
            browser.screenshot(SCREENSHOTS / f"report-{width}.png")
