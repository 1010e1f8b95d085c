"""A headless Chromium that logs in to Label Studio and looks at a task as an annotator does."""

import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

# Where the editor draws the picture, in page coordinates; None until it is drawn.
PICTURE = """
const picture = [...document.querySelectorAll('img')].find(
  (img) => /data\\/upload|^blob:/.test(img.src) && img.naturalWidth > 0
    && img.getBoundingClientRect().width > 100);
const stage = document.querySelector('.konvajs-content canvas');
if (!picture || !picture.complete || !stage) return null;
const box = picture.getBoundingClientRect();
return {x: box.left, y: box.top, width: box.width, height: box.height};
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
    """One Chromium window of 1400 x 1000 pixels. Nothing but this machine can be reached."""

    def __init__(self, profile: Path) -> None:
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
        self._until(lambda: "/user/login" not in self._driver.current_url, "the login to pass")

    def open_prediction(self, url: str, project: int, task: int) -> list[dict[str, Any]]:
        """Open a task's labelling page, select its prediction; returns the regions shown.

        Label Studio's first page of a session often misses the prediction tab although the
        task has one, so the page is loaded again where nothing shows.
        """
        page = f"{url}/projects/{project}/data?task={task}"
        for patience in (25, 60):
            self._driver.get(page)
            regions = self._poll(lambda: self._ready_regions(), patience)
            if regions is not None:
                return list(regions)
        raise AssertionError(f"the editor shows no prediction of task {task}: {self._state()}")

    def painted_picture(self, size_hw: tuple[int, int]) -> np.ndarray:
        """What is on screen where the task's picture is drawn, brought to `size_hw`, uint8 RGB."""
        box = self._until(lambda: self._driver.execute_script(PICTURE), "the picture to be drawn")
        shot = Image.open(io.BytesIO(self._driver.get_screenshot_as_png())).convert("RGB")
        corner = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
        cut = shot.crop(tuple(round(value) for value in corner))
        return np.asarray(cut.resize(size_hw[::-1], Image.Resampling.BILINEAR))

    def screenshot(self, path: Path) -> None:
        """Save the whole window as PNG."""
        path.write_bytes(self._driver.get_screenshot_as_png())

    def _ready_regions(self) -> list[dict[str, Any]] | None:
        regions = self._driver.execute_script(PREDICTION)
        return regions if regions and all(region["ready"] for region in regions) else None

    def _until(self, look: Callable[[], Any], what: str, patience: float = 60) -> Any:
        found = self._poll(look, patience)
        assert found, f"waited {patience} s for {what}: {self._state()}"
        return found

    def _poll(self, look: Callable[[], Any], patience: float) -> Any:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.2)
        return None

    def _state(self) -> str:
        console = [entry["message"] for entry in self._driver.get_log("browser")[-5:]]
        return json.dumps({"address": self._driver.current_url, "console": console})


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed; on Debian: apt-get install chromium chromium-driver"
    return found
