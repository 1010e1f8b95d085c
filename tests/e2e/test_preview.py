"""`cliper preview` on a real Label Studio: nothing is written, and the page can be looked at.

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
from tests.doubles.colours import colour_source

from .browser import Browser
from .conftest import CHECKOUT
from .pictures import NO_BOX, ONE_BOX, TWO_BOXES, brush_config

SCREENSHOTS = CHECKOUT / ".cache" / "screenshots"
CONFIG = brush_config(("red", "blue", "yellow"))
TITLE = "Harbour <& sea>"
OVERFLOW = "return document.documentElement.scrollWidth - window.innerWidth"
SHOWN = "return [...document.images].map((image) => image.complete && image.naturalWidth > 0)"
PAINTED = """
const image = document.images[arguments[0]];
const canvas = document.createElement('canvas');
canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
const pen = canvas.getContext('2d');
pen.drawImage(image, 0, 0);
return [...pen.getImageData(arguments[1] * canvas.width, arguments[2] * canvas.height, 1, 1).data];
"""

Preview = Callable[..., dict[str, Any]]


@pytest.fixture
def project(api: LabelStudioApi) -> int:
    """Ten pictures, one of which is gone."""
    made = api.create_project(TITLE, CONFIG)
    pictures = [TWO_BOXES, ONE_BOX, NO_BOX] * 3
    api.upload(made, {f"{number}.png": one.to_png() for number, one in enumerate(pictures)})
    gone = {"data": {"image": "/data/upload/1/gone.png"}, "project": made}
    api.call("POST", "/api/tasks", json=gone)
    return made


@pytest.fixture
def preview(
    label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Preview:
    """Run the command as an administrator would; returns what is in preview.json."""
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.account.token)
    monkeypatch.setenv("PROFILE", "demo")
    monkeypatch.setattr("backend.wiring.real_model", lambda settings, **_: colour_source())

    def run(*arguments: object) -> dict[str, Any]:
        words = ["preview", "--out", str(tmp_path), *map(str, arguments)]
        assert main(words) == 0
        found: dict[str, Any] = json.loads((tmp_path / "preview.json").read_text())
        return found

    return run


def everything(api: LabelStudioApi, project: int) -> str:
    params = {"exportType": "JSON", "download_all_tasks": "true"}
    exported = api.call("GET", f"/api/projects/{project}/export", params=params)
    facts = api.call("GET", f"/api/projects/{project}")
    return json.dumps([exported, facts])


def test_nothing_is_written(api: LabelStudioApi, project: int, preview: Preview):
    before = everything(api, project)

    found = preview("--project", project)

    assert everything(api, project) == before
    assert json.loads(before)[1]["total_predictions_number"] == 0
    assert found["tasks"] == {"matching": 10, "to_do": 10}
    assert found["sample"]["failed"] == 1
    rows = {row["label"]: row for row in found["labels"]}
    assert [(row["found"], row["asked"]) for row in rows.values()] == [(6, 9), (3, 9), (0, 9)]
    assert found["regions_per_task"].count(2) == 3


def test_filters_choose_the_tasks(api: LabelStudioApi, project: int, preview: Preview):
    numbers = sorted(task["id"] for task in api.tasks(project))

    found = preview("--project", project, "--filter", f"id>={numbers[4]}", "-n", 2)

    assert found["tasks"]["matching"] == 6
    assert len(found["sample"]["tasks"]) == 2
    assert min(found["sample"]["tasks"]) >= numbers[4]


def test_the_page_can_be_looked_at_on_every_screen(project: int, preview: Preview, tmp_path: Path):
    preview("--project", project)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    with Browser(tmp_path / "profile") as browser:
        for width, height in ((1280, 1000), (390, 844)):
            browser.show_at(width, height)
            browser.visit((tmp_path / "page.html").as_uri())

            assert browser.console() == []
            assert browser.run(OVERFLOW) <= 0
            assert browser.run(SHOWN) == [True] * 18
            assert browser.run("return document.title") == f"Preview: {TITLE}"
            browser.screenshot(SCREENSHOTS / f"preview-{width}.png")
        red, green, blue, _ = browser.run(PAINTED, 1, 0.28, 0.33)  # red's box, painted yellow
        outside = browser.run(PAINTED, 1, 0.02, 0.02)

    assert min(red, green) > blue + 100
    assert max(outside[:3]) - min(outside[:3]) < 12
