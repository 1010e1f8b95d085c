"""A headless Chromium that logs in to Label Studio and looks at a task as an annotator does."""

import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By

Point = tuple[float, float]
"""(x, y) in percent of the displayed picture."""

# Where the picture lies, in page coordinates, and the window onto it: the editor may enlarge the
# picture a little beyond its stage. Null until it is drawn.
GEOMETRY = """
const stage = document.querySelector('.konvajs-content');
const picture = [...document.querySelectorAll('img')].find((img) =>
  img.complete && img.naturalWidth && img.getBoundingClientRect().width > 200);
if (!stage || !stage.querySelector('canvas') || !picture) return null;
const box = (element) => {
  const {left, top, right, bottom} = element.getBoundingClientRect();
  return [left, top, right, bottom];
};
return {picture: box(picture), stage: box(stage)};
"""

# The regions of the first prediction, with what the editor made of them; null until it is there.
PREDICTION = """
const store = window.Htx && window.Htx.annotationStore;
if (!store || !store.predictions.length) return null;
const prediction = store.predictions[store.predictions.length - 1];
if (store.selected !== prediction) store.selectPrediction(prediction.id);
if (!store.selected || store.selected.id !== prediction.id) return null;
return store.selected.regions.map((region) => ({
  type: region.type,
  labels: region.labels,
  ready: !('imageData' in region) || !!region.imageData,
}));
"""


class Browser:
    """One Chromium window of 1400 x 1000 pixels. Nothing but this machine can be reached.

    `flags` are further ones of Chromium's command line.
    """

    def __init__(self, profile: Path, *flags: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = _program("chromium")
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--force-device-scale-factor=1",
            "--window-size=1400,1000",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            *flags,
        ):
            options.add_argument(flag)
        self._driver = webdriver.Chrome(options, Service(_program("chromedriver")))
        self._driver.set_page_load_timeout(120)

    def close(self) -> None:
        """End Chromium and its driver."""
        self._driver.quit()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_in(self, url: str, email: str, password: str) -> None:
        """Through the login form."""
        self._driver.get(f"{url}/user/login/")
        self._driver.find_element(By.NAME, "email").send_keys(email)
        field = self._driver.find_element(By.NAME, "password")
        field.send_keys(password)
        field.submit()
        self.until(lambda: "/user/login" not in self._driver.current_url, "the login to pass")

    def open_prediction(self, url: str, project: int, task: int) -> list[dict[str, Any]]:
        """Open a task's labelling page, select its prediction; returns the regions shown.

        Label Studio's first page of a session often misses the prediction tab although the
        task has one, so the page is loaded again where nothing shows.
        """
        page = f"{url}/projects/{project}/data?task={task}"
        for patience in (25, 60):
            self._driver.get(page)
            regions = self.poll(lambda: self._ready_regions(), patience)
            if regions is not None:
                return list(regions)
        raise AssertionError(f"the editor shows no prediction of task {task}: {self._state()}")

    def painted_picture(
        self, size_hw: tuple[int, int], *, until: Callable[[np.ndarray], bool]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is on screen where the task's picture is drawn, brought to `size_hw`, uint8 RGB.

        With it which pixels are on screen, bool [H, W]. Painting goes on after the regions
        are there: looks again until `until` is content, or for a minute.
        """
        shown = [self._picture_now(size_hw)]

        def look() -> bool:
            shown[0] = self._picture_now(size_hw)
            return until(shown[0][0])

        self.poll(look, 60)
        return shown[0]

    def _picture_now(self, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        found = self.until(lambda: self.run(GEOMETRY), "the picture")
        shot = Image.open(io.BytesIO(self._driver.get_screenshot_as_png())).convert("RGB")
        left, top, right, bottom = found["picture"]
        height, width = size_hw
        image = shot.resize(
            (width, height), Image.Resampling.BILINEAR, box=_inside(shot, found["picture"])
        )
        x = left + (np.arange(width) + 0.5) * (right - left) / width
        y = top + (np.arange(height) + 0.5) * (bottom - top) / height
        stage = found["stage"]
        visible = np.outer((y > stage[1]) & (y < stage[3]), (x > stage[0]) & (x < stage[2]))
        return np.asarray(image), visible

    def screenshot(self, path: Path) -> None:
        """Save the whole window as PNG."""
        path.write_bytes(self._driver.get_screenshot_as_png())

    def visit(self, address: str) -> None:
        """Load a page."""
        self._driver.get(address)

    def show_at(self, width: int, height: int) -> None:
        """Lay pages out for a screen of so many pixels, also a narrower one than a window can be.

        Visit the page again afterwards.
        """
        self._driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )

    def console(self) -> list[str]:
        """What the console has said since it was asked last: errors and refusals too."""
        return [str(entry["message"]) for entry in self._driver.get_log("browser")]

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page; returns what it returns."""
        return self._driver.execute_script(script, *arguments)

    def wait_in_page(self, milliseconds: int) -> None:
        """Let a timer of the page run out: timers set before with no longer delay are over then."""
        self._driver.execute_async_script(
            "window.setTimeout(arguments[1], arguments[0])", milliseconds
        )

    def drag_on_picture(self, points: Sequence[Point], *, key: str | None = None) -> None:
        """Press the mouse at the first point, move through all, let go; `key` is held meanwhile.

        Points are (x, y) in percent of the picture, as regions have them; one point is a click.
        """
        left, top, right, bottom = self.until(lambda: self.run(GEOMETRY), "the picture")["picture"]
        places = [
            (round(left + (right - left) * x / 100), round(top + (bottom - top) * y / 100))
            for x, y in points
        ]
        if key:
            ActionChains(self._driver).key_down(key).perform()
        mouse = ActionBuilder(self._driver, mouse=PointerInput("mouse", "mouse"), duration=50)
        mouse.pointer_action.move_to_location(*places[0]).pointer_down()
        for place in places[1:]:
            mouse.pointer_action.move_to_location(*place)
        mouse.pointer_action.pointer_up()
        mouse.perform()
        if key:
            ActionChains(self._driver).key_up(key).perform()

    def until(self, look: Callable[[], Any], what: str, patience: float = 60) -> Any:
        """What `look` finds, looked for again and again; fails after `patience` seconds."""
        found = self.poll(look, patience)
        assert found, f"waited {patience} s for {what}: {self._state()}"
        return found

    def poll(self, look: Callable[[], Any], patience: float) -> Any:
        """What `look` finds within `patience` seconds, else None."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.2)
        return None

    def _ready_regions(self) -> list[dict[str, Any]] | None:
        regions = self.run(PREDICTION)
        return regions if regions and all(region["ready"] for region in regions) else None

    def _state(self) -> str:
        console = [entry["message"] for entry in self._driver.get_log("browser")[-5:]]
        return json.dumps({"address": self._driver.current_url, "console": console})


def _inside(shot: Image.Image, box: list[float]) -> tuple[float, float, float, float]:
    """The box, which has to lie on the screenshot as a whole."""
    left, top, right, bottom = box
    assert min(left, top) >= 0, box
    assert right <= shot.width, box
    assert bottom <= shot.height, box
    return left, top, right, bottom


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed; on Debian: apt-get install chromium chromium-driver"
    return found
