"""The projects page in a real browser, over a real Label Studio."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, expect

from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from tests.doubles.corrections import PICTURE, columns, painted
from tests.doubles.pictures import encoded

from . import page_browser
from .conftest import StartService
from .test_preview import OVERFLOW

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="seg" toName="image">'
    '<Label value="red"/><Label value="blue"/></BrushLabels></View>'
)
TITLE = "<b>Harbour</b> & sea"
OURS = "demo-cliper-12345678"
PATIENCE = 60_000  # milliseconds
TEN = columns(0, 10)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with page_browser.chromium() as browser:
        yield browser


class Seen:
    """What a page asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._asked)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda told: self.complaints.append(told.text) if told.type == "error" else None,
        )

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield opened
    context.close()


@pytest.fixture
def service(label_studio: LabelStudioServer, start_colour_service: StartService) -> str:
    """With a place of its own for what it keeps."""
    return start_colour_service(label_studio, LOG_LEVEL="WARNING")


@pytest.fixture
def project(api: LabelStudioApi, service: str) -> int:
    """Three pictures: one corrected, one predicted, one nobody has looked at; connected."""
    made = api.create_project(TITLE, CONFIG)
    api.upload(made, {f"{number}.png": encoded(PICTURE) for number in range(3)})
    tasks = [int(one["id"]) for one in api.tasks(made)]
    for task in tasks[:2]:
        result = painted("red", columns(0, 8), score=0.5)
        body = {"task": task, "model_version": OURS, "score": 0.75, "result": result}
        prediction = api.call("POST", "/api/predictions", json=body)
        if task == tasks[0]:
            annotation = {"result": painted("red", TEN), "parent_prediction": prediction["id"]}
            api.call("POST", f"/api/tasks/{task}/annotations/", json=annotation)
    api.connect(made, service)
    return made


def test_a_project_is_looked_after_from_the_list_to_the_report(
    page: Page, service: str, api: LabelStudioApi, project: int
):
    seen = Seen(page)
    page.goto(f"{service}/ui/projects")

    expect(page.locator("#connection-badge")).to_have_text("connected")
    row = page.locator(f"#list-rows tr[data-key='{project}']")
    expect(row.locator("th")).to_have_text(TITLE)
    expect(row.locator("td")).to_have_text(["3", "1", "connected"])

    row.locator("a").click()
    expect(page.locator("#project-title")).to_have_text(TITLE)
    expect(page.locator("#project-title")).to_be_focused()
    expect(page.locator("#project-counts")).to_have_text("3 tasks, 1 annotated")
    expect(page.locator("#project-model")).to_have_text("model connected")

    # pre-label
    page.get_by_label("At most so many tasks").fill("1")
    page.get_by_role("button", name="Pre-label", exact=True).click()
    job = page.locator("#jobs > li").first
    expect(job.locator("[data-part=state]")).to_have_text("done")
    expect(job.locator("[data-part=said]")).to_contain_text("1 prediction written")
    expect(page.locator("#predictions > li")).to_have_count(2)

    # undo asks first
    ours = page.locator(f"#predictions > li[data-key='{OURS}']")
    expect(ours.locator("[data-part=count]")).to_have_text("2 predictions")
    ours.get_by_role("button", name="Undo").click()
    expect(ours.locator("[data-part=asked]")).to_have_text(
        "This would remove 1 prediction from Label Studio. "
        "1 stay: annotations or drafts rest on them."
    )
    assert sum(one["model_version"] == OURS for one in api.predictions(project)) == 2
    expect(ours.locator("[data-part=leave]")).to_be_focused()
    ours.get_by_role("button", name="Remove 1 prediction").click()
    expect(ours.locator("[data-part=count]")).to_have_text("1 prediction")
    assert sum(one["model_version"] == OURS for one in api.predictions(project)) == 1

    # learn
    expect(page.locator("#learning-words")).to_contain_text("Nothing learnt is in use.")
    page.get_by_role("button", name="Learn now").click()
    expect(page.locator("#jobs > li").first.locator("[data-part=what]")).to_have_text(
        "Learn from corrections"
    )
    expect(page.locator("#jobs > li").first.locator("[data-part=state]")).to_have_text("done")

    # report
    page.get_by_role("button", name="Make a report").click()
    expect(page.get_by_role("link", name="Open the report")).to_be_visible()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open the report").click()
    report = opened.value
    expect(report.locator("h1")).to_contain_text(TITLE)
    assert report.evaluate("window.origin") == "null"

    assert seen.complaints == []
    assert {url.split("/ui/")[0] for url in seen.requests} == {service}


def test_the_keyboard_is_enough(page: Page, service: str, project: int):
    page.goto(f"{service}/ui/projects")
    link = page.locator(f"#list-rows tr[data-key='{project}'] a")
    expect(link).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        if link.evaluate("one => one === document.activeElement"):
            break
    page.keyboard.press("Enter")

    expect(page.locator("#project-title")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#list-title")).to_be_focused()
    page.go_back()
    expect(page.locator("#project-title")).to_have_text(TITLE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_looked_at_on_every_screen(
    page: Page, service: str, project: int, scheme: Any
):
    page.emulate_media(color_scheme=scheme)
    for width, height in ((1280, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for name, address in (("list", ""), ("project", f"#{project}")):
            page.goto("about:blank")
            page.goto(f"{service}/ui/projects{address}")
            there = "#list-rows tr" if name == "list" else "#predictions li"
            expect(page.locator(there).first).to_be_visible()

            assert page.evaluate(f"() => {{ {OVERFLOW} }}") <= 0
            assert not page_browser.serious_faults(page)


# -- with answers that are made up -----------------------------------------------------------


def job(number: int, state: str, **more: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "kind": "prelabel",
        "state": state,
        "progress": {"total": 10, "left": 6, "written": 4, "phase": "predicting", "failed": 0},
        "result": None,
        "reason": None,
        "attempts": 1,
        "created": "2026-11-20T10:00:00+00:00",
        "changed": "2026-11-20T10:04:10+00:00",
        "cancelling": False,
        "params": {"project": 7},
        **more,
    }


VIEW = {
    "id": 7,
    "address": "http://ls.example/projects/7/data",
    "title": "<img src=x onerror=alert(1)>",
    "label_config": "<View/>",
    "counts": {"tasks": 10, "annotated": 2, "predictions": []},
    "trouble": None,
    "learning": {
        "version": "abc",
        "learnt_from": 5,
        "pinned": None,
        "unsettled": False,
        "corrected": 5,
        "fewest": 5,
        "left_out": {"count": 1, "shown": [{"task": 4, "reason": "<b>gone</b>"}]},
    },
    "versions": [
        {
            "digest": "abc",
            "state": "active",
            "tasks": 5,
            "when": 1.8e9,
            "controls": [
                {
                    "control": "seg",
                    "better": True,
                    "reason": "switched on: it is better",
                    "tasks": 5,
                    "before": 40.0,
                    "after": 45.5,
                    "labels": [
                        {
                            "label": "<i>cat</i>",
                            "before": 40.0,
                            "after": 45.5,
                            "learnt": True,
                            "unpainted": False,
                            "threshold": 0.25,
                            "words": ["kitten"],
                        }
                    ],
                }
            ],
        },
        {"digest": "abd", "state": "retired", "tasks": 5, "when": 1.7e9, "controls": []},
    ],
    "report": None,
}


@pytest.fixture
def told(page: Page) -> dict[str, Any]:
    """What the service answers of project 7; may be changed."""
    answers: dict[str, Any] = {
        "view": {**VIEW, "jobs": [job(1, "running")]},
        "jobs": {"jobs": [job(1, "running")]},
        "models": {"models": [], "connected": False, "trouble": "none", "remedy": "connect"},
        "asked": [],
    }

    def answer(route: Any) -> None:
        path = route.request.url.split("/ui/api/")[1]
        answers["asked"].append(f"{route.request.method} {path}")
        if path.endswith("/jobs"):
            route.fulfill(json=answers["jobs"])
        elif path.endswith("/models"):
            route.fulfill(json=answers["models"])
        elif path.endswith("/rollback"):
            answers["chosen"] = route.request.post_data_json
            route.fulfill(json={"job": None})
        else:
            route.fulfill(json=answers["view"])

    page.route("**/ui/api/**", answer)
    return answers


def asked_for_jobs(told: dict[str, Any]) -> int:
    return sum(one == "GET projects/7/jobs" for one in told["asked"])


def test_progress_is_asked_for_while_a_job_runs_and_somebody_looks(
    page: Page, service: str, told: dict[str, Any]
):
    page.clock.install()
    page.goto(f"{service}/ui/projects#7")
    bar = page.locator("#jobs progress")
    expect(bar).to_have_attribute("value", "4")

    further = job(1, "running")
    further["progress"] = {**further["progress"], "left": 3, "written": 7}
    told["jobs"] = {"jobs": [further]}
    page.clock.run_for(2500)
    expect(bar).to_have_attribute("value", "7")
    once = asked_for_jobs(told)

    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s});"
    changed = "document.dispatchEvent(new Event('visibilitychange'));"
    page.evaluate(hide % "true" + changed)
    page.clock.run_for(30_000)
    hidden = asked_for_jobs(told)
    with page.expect_request("**/projects/7/jobs"):
        page.evaluate(hide % "false" + changed)

    ended = job(1, "done", result={"written": 10, "failed": 0, "model_version": "v"})
    told["jobs"] = {"jobs": [ended]}
    told["view"] = {**VIEW, "jobs": [ended]}
    page.clock.run_for(5000)
    expect(page.locator("#jobs [data-part=state]")).to_have_text("done")
    after = asked_for_jobs(told)
    page.clock.run_for(30_000)

    assert hidden == once
    assert asked_for_jobs(told) == after


def test_what_label_studio_says_is_shown_as_text(page: Page, service: str, told: dict[str, Any]):
    page.goto(f"{service}/ui/projects#7")

    expect(page.locator("#project-title")).to_have_text(str(VIEW["title"]))
    page.locator("#left-out summary").click()
    expect(page.locator("#left-out-list")).to_have_text("Task 4: <b>gone</b>")
    page.locator("#lessons summary").click()
    expect(page.locator("#lessons tbody th")).to_have_text("<i>cat</i>")
    expect(page.locator("#lessons tbody td").last).to_have_text(
        "how it looks; needs a presence of 0.25; says less: kitten"
    )
    assert page.locator("main img, main b, main i").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_busy_page_is_for_everybody(
    page: Page, service: str, told: dict[str, Any], scheme: Any, width: int, tmp_path: Path
):
    """Nothing that axe-core knows of keeps anybody out, and nothing hangs over the edge."""
    failures = {"image": {"count": 3, "reason": "there is nothing at " + "x" * 90, "tasks": [4]}}
    failed = {"progress": {"failures": failures}, "reason": "the graphics card is lost"}
    told["view"] = {
        **VIEW,
        "counts": {
            "tasks": 10,
            "annotated": 2,
            "predictions": [{"version": OURS, "count": 2, "ours": True}],
        },
        "jobs": [
            job(4, "queued", kind="undo", params={"version": OURS, "dry_run": True}),
            job(3, "running"),
            job(2, "failed", kind="report", **failed),
            job(1, "done", kind="learn", result={"phase": "done", "version": "abc"}),
        ],
        "trouble": {"trouble": "Label Studio does not answer", "remedy": "start it"},
        "report": {"made": "2026-11-20 10:00 UTC", "bytes": 2_500_000},
        "learning": {**VIEW["learning"], "pinned": "abc"},  # type: ignore[dict-item]
    }
    told["jobs"] = {"jobs": told["view"]["jobs"]}
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{service}/ui/projects#7")
    expect(page.locator("#jobs > li")).to_have_count(4)
    page.locator("#lessons summary").click()
    page.get_by_role("button", name="Learn now").click()
    expect(page.locator("#told")).to_be_visible()
    how = f"{'wide' if width == 1280 else 'narrow'}-{scheme}"
    page_browser.photograph(page, f"ui-projects-{how}", tmp_path)

    found = Axe().run(page)

    assert found.response["violations"] == [], found.generate_report()
    assert page.evaluate(f"() => {{ {OVERFLOW} }}") <= 0


def test_a_version_is_chosen_and_the_focus_stays(page: Page, service: str, told: dict[str, Any]):
    page.goto(f"{service}/ui/projects#7")
    use = page.get_by_role("button", name="Use version abd")
    use.focus()
    learning = {**VIEW["learning"], "version": "abd", "pinned": "abd"}  # type: ignore[dict-item]
    told["view"] = {**told["view"], "learning": learning}
    page.keyboard.press("Enter")

    expect(page.locator("#versions-pinned")).to_have_text(re.compile("^Version abd is used"))
    expect(page.locator("#versions-follow")).to_be_focused()
    assert told["chosen"] == {"version": "abd"}


def test_what_goes_wrong_is_said(page: Page, service: str, told: dict[str, Any]):
    page.goto(f"{service}/ui/projects#7")
    expect(page.locator("#jobs > li")).to_have_count(1)
    page.unroute_all()
    page.route(
        "**/ui/api/**",
        lambda route: route.fulfill(status=503, json={"error": "the store cannot be reached"}),
    )

    page.get_by_role("button", name="Learn now").click()

    expect(page.locator("#told")).to_have_text("the store cannot be reached")
