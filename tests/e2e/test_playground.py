"""The page `/ui` in a real browser, with the demo weights: words, masks, and what is taken away."""

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment
from backend.demo.projects import everything
from backend.labelstudio import rle

from .conftest import CHECKOUT
from .page_browser import NARROW, WIDE, chromium, opened, photograph, serious_faults

SCENE = everything(3, seed=11).pictures[1]
WORDS = "sky, grass, house|home|cottage, tree, sun"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def service(
    label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The service as it is, on the demo weights, connected to a real Label Studio."""
    port = free_port()
    environment = {
        **plain_environment(),
        "HOST": LOOPBACK,
        "PORT": str(port),
        "PROFILE": "demo",
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.account.token,
        "STORAGE": "memory:",
    }
    server = Server(
        "the service",
        [sys.executable, "-m", "backend", "serve"],
        environment=environment,
        health=f"http://{LOOPBACK}:{port}/health",
        log=tmp_path_factory.mktemp("playground") / "service.log",
        folder=CHECKOUT,
    )
    with server:
        yield f"http://localhost:{port}"


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "my scene.png"
    path.write_bytes(SCENE.to_png())
    return path


def summary(page: Page, side: int = 0) -> Any:
    return page.locator("figcaption .muted").nth(side)


def settled(page: Page, side: int = 0) -> None:
    """Masks are there, and nothing is under way."""
    expect(summary(page, side)).to_contain_text("labels")
    expect(page.locator(".viewport").nth(side)).not_to_have_attribute("aria-busy", "true")


def find(page: Page, words: str) -> None:
    page.locator("#words").fill(words)
    count = len(words.split(","))
    page.get_by_role("button", name="Find", exact=True).click()
    expect(summary(page)).to_contain_text(f"of {count} labels")
    settled(page)


def move(page: Page, slider: str, value: str) -> None:
    """Move a slider as a hand does, until the answer to it is there."""
    with page.expect_response(lambda answer: answer.url.endswith("/api/panes")):
        page.locator(f"#{slider}").fill(value)
    settled(page)


def copied(page: Page, button: str) -> str:
    page.get_by_role("button", name=button).click()
    expect(page.locator("#told")).to_contain_text("copied")
    return str(page.evaluate("navigator.clipboard.readText()"))


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return download.value.path().read_bytes()


def test_from_a_picture_and_words_to_a_config_that_predicts_the_same(
    browser: Browser, service: str, scene: Path, tmp_path: Path
) -> None:
    with opened(browser, size_wh=WIDE) as page:
        page.goto(f"{service}/ui/")
        settled(page)
        page.locator("#file").set_input_files(scene)
        find(page, WORDS)
        before = summary(page).inner_text()

        move(page, "threshold", "0.9")
        move(page, "mask-threshold", "0.3")
        move(page, "smooth", "2")
        assert summary(page).inner_text() != before
        assert page.locator(".label.absent").count() >= 1
        move(page, "threshold", "0.5")

        config = copied(page, "Copy label config")
        on_screen = np.asarray(Image.open(io.BytesIO(saved(page, "Label map PNG"))))
        command = copied(page, "Copy command")

    assert 'predicted_values="house, home, cottage"' in config
    assert 'model_mask_threshold="0.3"' in config
    assert on_screen.any()

    address = "data:image/png;base64," + base64.b64encode(scene.read_bytes()).decode()
    body = {"tasks": [{"id": 1, "data": {"image": address}}], "label_config": config}
    told = requests.post(f"{service}/predict", json=body, timeout=60).json()["results"][0]
    names = [part.split("|")[0].strip() for part in WORDS.split(",")]
    np.testing.assert_array_equal(label_map_of(told, names, on_screen.shape), on_screen)

    subprocess.run(
        command.replace("cliper segment", f"{sys.executable} -m backend segment").replace(
            f"'{scene.name}'", f"'{scene}'"
        ),
        shell=True,
        check=True,
        cwd=tmp_path,
        env={**plain_environment(), "PROFILE": "demo", "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
    )
    by_command = np.asarray(Image.open(tmp_path / "results" / "my scene.labels.png"))
    np.testing.assert_array_equal(by_command, on_screen)


def label_map_of(told: dict[str, Any], names: list[str], size_hw: tuple[int, ...]) -> np.ndarray:
    """Regions of a prediction as one picture; labels do not overlap."""
    found = np.zeros(size_hw, np.uint8)
    for region in told["result"]:
        mask = rle.decode(region["value"]["rle"], size_hw=(size_hw[0], size_hw[1])) > 0
        assert not found[mask].any()
        found[mask] = 1 + names.index(region["value"]["brushlabels"][0])
    return found


def test_a_link_restores_what_was_on_screen(browser: Browser, service: str) -> None:
    with opened(browser) as page:
        page.goto(f"{service}/ui/")
        settled(page)
        page.get_by_role("button", name="Drawn scene 4").click()
        find(page, "sky, tree")
        move(page, "threshold", "0.3")
        link = copied(page, "Copy link")
        shown = saved(page, "Label map PNG")

    with opened(browser) as page:
        page.goto(link)
        expect(summary(page)).to_contain_text("of 2 labels")
        settled(page)
        assert page.locator("#threshold").input_value() == "0.3"
        assert saved(page, "Label map PNG") == shown


def test_a_link_restores_both_sides_and_what_is_hidden(browser: Browser, service: str) -> None:
    with opened(browser) as page:
        page.goto(f"{service}/ui/#picture=scene:3")
        settled(page)
        page.get_by_role("button", name="Hide sky").click()
        page.locator("#opacity").fill("0.3")
        page.locator("#opacity").dispatch_event("change")
        page.get_by_role("button", name="Compare").click()
        settled(page, 1)
        page.locator("#words").fill("sky, sun")
        page.get_by_role("button", name="Find", exact=True).click()
        expect(summary(page, 1)).to_contain_text("of 2 labels")
        link = copied(page, "Copy link")

    with opened(browser) as page:
        page.goto(link)
        expect(summary(page, 0)).to_contain_text("of 10 labels")
        expect(summary(page, 1)).to_contain_text("of 2 labels")
        settled(page, 1)
        assert page.locator("#opacity").input_value() == "0.3"
        expect(page.get_by_role("button", name="Show sky")).to_be_visible()


def test_what_is_copied_holds_what_was_typed_a_moment_ago(browser: Browser, service: str) -> None:
    with opened(browser) as page:
        page.goto(f"{service}/ui/")
        settled(page)
        page.get_by_label("Background words").fill("snow, road")

        assert 'model_background="snow, road"' in copied(page, "Copy label config")


def test_the_newest_picture_wins_however_long_the_one_before_takes(
    browser: Browser, service: str
) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        if '"scene":4' in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    with opened(browser) as page:
        page.goto(f"{service}/ui/")
        settled(page)
        page.route("**/api/pictures", hold)
        page.get_by_role("button", name="Drawn scene 5").click()
        with page.expect_response(lambda answer: answer.url.endswith("/api/panes")):
            page.get_by_role("button", name="Drawn scene 8").click()
        settled(page)
        with page.expect_response(lambda answer: answer.url.endswith("/api/pictures")):
            held[0].continue_()
        settled(page)

        pressed = page.get_by_role("button", name="Drawn scene 8")
        expect(pressed).to_have_attribute("aria-pressed", "true")
        assert page.locator(".picture").first.get_attribute("alt") == "scene-07.png"


def test_a_config_of_a_stranger_makes_no_other_command(
    browser: Browser, service: str, tmp_path: Path
) -> None:
    hostile = (
        "<View><!--\nEND_OF_CONFIG\ntouch pwned #\n' ; touch pwned ; '\n-->"
        '<Image name="image" value="$image"/><BrushLabels name="masks" toName="image">'
        '<Label value="sky"/></BrushLabels></View>'
    )
    with opened(browser) as page:
        page.goto(f"{service}/ui/#picture=scene:0&config={quote(hostile)}")
        expect(summary(page)).to_contain_text("of 1 labels")
        settled(page)
        command = copied(page, "Copy command")

    assert command.splitlines()[-1].startswith("cliper segment")
    lines = command[: command.rindex("cliper segment")]
    subprocess.run(lines, shell=True, check=True, cwd=tmp_path, executable="/bin/bash")
    assert [one.name for one in tmp_path.iterdir()] == ["config.xml"]
    assert "touch pwned" in (tmp_path / "config.xml").read_text()


def test_the_way_past_the_controls_loses_nothing(browser: Browser, service: str) -> None:
    with opened(browser) as page:
        page.goto(f"{service}/ui/#picture=scene:4")
        find(page, "sky, house")
        page.locator(".skip").focus()
        page.keyboard.press("Enter")

        expect(page.locator(".viewport").first).to_be_focused()
        settled(page)
        expect(summary(page)).to_contain_text("of 2 labels")
        assert "scene%3A4" in page.url


def test_settings_run_no_network(browser: Browser, service: str) -> None:
    def looks() -> int:
        told: int = requests.get(f"{service}/health", timeout=10).json()["queue"]["looks"]
        return told

    with opened(browser) as page:
        page.goto(f"{service}/ui/#picture=scene:7")
        settled(page)
        before = looks()
        find(page, "sky, house|home, tree, sea")
        move(page, "threshold", "0.4")
        move(page, "min-area", "0.01")
        page.get_by_label("Every pixel gets a label").check()
        settled(page)
        page.get_by_label("Refined").uncheck()
        expect(summary(page)).to_contain_text("coarse")

        assert looks() == before


def test_two_sides_are_compared_and_their_difference_is_told(
    browser: Browser, service: str, tmp_path: Path
) -> None:
    with opened(browser) as page:
        page.goto(f"{service}/ui/#picture=scene:2")
        settled(page)
        page.get_by_role("button", name="Compare").click()
        settled(page, 1)
        page.get_by_label("Difference").check()
        told = page.locator("#difference-told")
        expect(told).to_contain_text("0.0 % of the picture differs")

        page.get_by_label("Method").select_option("maskclip")
        expect(summary(page, 1)).to_contain_text("maskclip")
        settled(page, 1)
        expect(told).not_to_contain_text("0.0 %")
        expect(summary(page, 0)).to_contain_text("cliper")
        assert not serious_faults(page)
        photograph(page, "ui-compare", tmp_path)


def test_pointing_at_the_picture_tells_what_labels_score(browser: Browser, service: str) -> None:
    with opened(browser) as page:
        page.goto(f"{service}/ui/")
        settled(page)
        page.locator(".viewport").first.hover(position={"x": 200, "y": 40})
        expect(page.locator("#readout .scores li").first).to_be_visible()

        page.locator(".viewport").first.focus()
        at = page.locator("#readout p").first.inner_text()
        page.keyboard.press("ArrowDown")
        expect(page.locator("#readout p").first).not_to_have_text(at)
        expect(page.locator("#readout")).to_have_attribute("aria-live", "polite")


def test_what_goes_wrong_is_said_and_loses_nothing(
    browser: Browser, service: str, tmp_path: Path
) -> None:
    broken = tmp_path / "page.png"
    broken.write_text("<html>not a picture</html>")
    # Chromium describes broken XML in a document that has a style, which the policy forbids
    with opened(browser, forgiven="Applying inline style") as page:
        page.goto(f"{service}/ui/")
        settled(page)
        before = summary(page).inner_text()
        trouble = page.locator("#trouble")

        page.locator("#file").set_input_files(broken)
        expect(trouble).to_contain_text("not a picture")
        assert summary(page).inner_text() == before

        page.get_by_role("button", name="Label config", exact=True).click()
        page.get_by_label("A label config of Label Studio").fill("<View><nothing")
        page.get_by_role("button", name="Use this config").click()
        expect(trouble).to_contain_text("cannot be read as XML")

        page.get_by_label("A label config of Label Studio").fill("<View/>")
        page.get_by_role("button", name="Use this config").click()
        expect(trouble).to_contain_text("Image tag")
        assert summary(page).inner_text() == before

        page.get_by_role("button", name="Words", exact=True).click()
        page.locator("#words").fill("sky, zebra")
        page.get_by_role("button", name="Find", exact=True).click()
        expect(trouble).to_contain_text("zebra")
        find(page, "sky, house")
        expect(trouble).to_be_hidden()


def test_a_task_of_a_project_opens_with_its_label_config(
    browser: Browser, service: str, label_studio: LabelStudioServer, api: LabelStudioApi
) -> None:
    project = everything(2, seed=5)
    number = api.create_project("Tried in the playground", project.label_config)
    api.upload(number, {one.name: one.to_png() for one in project.pictures})
    with opened(browser) as page:
        page.goto(f"{service}/ui/")
        settled(page)
        page.get_by_text("A task of a project").click()

        page.locator("#project").select_option(label="Tried in the playground")
        expect(page.locator("#task option")).to_have_count(2)
        page.get_by_role("button", name="Open with its label config").click()
        expect(summary(page)).to_contain_text(f"of {len(project.labels)} labels")
        settled(page)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size_wh", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_is_for_everybody(
    browser: Browser, service: str, tmp_path: Path, size_wh: tuple[int, int], dark: bool
) -> None:
    with opened(browser, size_wh=size_wh, dark=dark) as page:
        page.goto(f"{service}/ui/#picture=scene:3")
        settled(page)
        page.locator(".viewport").first.hover()
        page.evaluate("window.scrollTo(0, 0)")

        assert not serious_faults(page)
        across = page.evaluate("document.documentElement.scrollWidth")
        assert across <= size_wh[0], "the page is wider than its window"
        name = f"ui-{'narrow' if size_wh == NARROW else 'wide'}-{'dark' if dark else 'light'}"
        with Image.open(photograph(page, name, tmp_path)) as taken:
            assert taken.size[0] == size_wh[0]


def test_a_picture_of_twelve_megapixels_is_shown_with_its_masks(
    browser: Browser, service: str, tmp_path: Path
) -> None:
    large = Image.fromarray(SCENE.image).resize((4000, 3000), Image.Resampling.BICUBIC)
    path = tmp_path / "large.jpg"
    large.save(path, quality=90)
    with opened(browser) as page:
        page.goto(f"{service}/ui/")
        settled(page)
        page.locator("#file").set_input_files(path)
        expect(page.locator(".over").first).to_have_js_property("width", 4000)
        move(page, "threshold", "0.4")
        shown = page.evaluate(
            "() => { const c = document.querySelector('.over');"
            " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"
        )
        names = json.loads(saved(page, "COCO JSON"))

    assert shown == sum(one["area"] for one in names["annotations"])
