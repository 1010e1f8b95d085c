"""What Label Studio's editor bears: large pictures with ten labels, per kind of region.

    python -m benchmarks.editor_load [--only "brush, 12 MP"]

Seeded pictures of textured grey, and masks with smooth outlines made up for them, written by our
region formats and stored through `POST /api/predictions` of a Label Studio that validates them.
Each is opened in a headless Chromium of its own: seconds until every region is there, and until
its colour is on the screen; JavaScript heap; memory of the tab's process; bytes of the
prediction. Last, our service is asked for brush masks of the largest picture, which it has to
refuse with a sentence. Writes `results/proof-editor-load.json` and keeps screenshots in
`.cache/screenshots`; exit status 1 if something is not painted or not refused.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import requests
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageColor
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.remote.remote_connection import RemoteConnection
from urllib3.exceptions import HTTPError

from backend.labelstudio.regions import FORMATS, TAGS, RegionControl
from tests.e2e.browser import Browser

from . import record
from .chain import CHECKOUT, Chain, chain, labels_of

SEED = 3
PAINTS = (
    "#FF0000", "#00C000", "#0040FF", "#FFC000", "#C000FF",
    "#00C0C0", "#FF0090", "#80FF00", "#FF6000", "#0090FF",
)  # fmt: skip
LABELS = tuple(f"thing {number}" for number in range(1, len(PAINTS) + 1))
BLOBS = 6  # along the longer side
SMALL = 600  # pixels of the longer side, at which masks are made up and screens are judged
EDGE = 3  # of those pixels beside a border, where the screen blends
TOOLS = 0.9  # of the picture's width, from where the editor's own tools may cover it
COVER = 0.2  # of the paint, where a region is painted
NEARLY_ALL = 0.98  # of a label's inner pixels on screen
PATIENCE = 300.0  # seconds, per picture
SCREENSHOTS = CHECKOUT / ".cache" / "screenshots"
MEBI = 2**20
BEARABLE = (60.0, 4096.0)  # seconds until painted, and MiB of the tab's process, at most

# What an annotator has before them: the annotation that the editor made of the prediction. Null
# until all its regions are there.
REGIONS = """
const store = window.Htx && window.Htx.annotationStore;
const regions = store && store.selected ? store.selected.regions : [];
const ready = regions.every((region) => !('imageData' in region) || !!region.imageData);
return regions.length && ready ? [regions.length, store.selected.type] : null;
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A picture and the kind of region its ten labels are written in."""

    name: str
    size_hw: tuple[int, int]
    kind: str

    @property
    def label_config(self) -> str:
        tag = TAGS[self.kind]
        return (
            '<View><Image name="image" value="$image"/>'
            f'<{tag} name="masks" toName="image" opacity="0.6">{labels_of(LABELS, PAINTS)}</{tag}>'
            "</View>"
        )


CASES = (
    Case(name="brush, 12 MP", size_hw=(3000, 4000), kind="brushlabels"),
    Case(name="brush, 25 MP", size_hw=(4330, 5773), kind="brushlabels"),
    Case(name="bitmask, 4 MP", size_hw=(1728, 2304), kind="bitmasklabels"),
    Case(name="bitmask, 12 MP", size_hw=(3000, 4000), kind="bitmasklabels"),
    Case(name="bitmask, 25 MP", size_hw=(4330, 5773), kind="bitmasklabels"),
    Case(name="bitmask, 26 MP", size_hw=(4416, 5888), kind="bitmasklabels"),
    Case(name="bitmask, 100 MP", size_hw=(8700, 11600), kind="bitmasklabels"),
    Case(name="polygon, 100 MP", size_hw=(8700, 11600), kind="polygonlabels"),
)
REFUSED_HW = (8700, 11600)  # as brush masks


class Window(Browser):
    """A browser that tells what its tab takes."""

    def __init__(self, profile: Path) -> None:
        super().__init__(profile, "--enable-precise-memory-info")
        # A page that is busy answers late.
        self._driver.set_script_timeout(PATIENCE)
        self._driver.set_page_load_timeout(PATIENCE)
        connection = self._driver.command_executor
        assert isinstance(connection, RemoteConnection)
        connection.client_config.timeout = PATIENCE + 60
        self._most = 0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_at_memory, daemon=True)
        self._watch.start()

    def close(self) -> None:
        self._ended.set()
        self._watch.join()
        super().close()

    def heap_bytes(self) -> int:
        """Of JavaScript, in use after collecting what is not."""
        self._driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        return int(self.run("return performance.memory.usedJSHeapSize"))

    def open_task(self, url: str, project: int, task: int) -> int:
        """Open a task as annotators do and wait for the regions before them; returns how many."""
        self.visit(f"{url}/projects/{project}/data?task={task}")
        count, kind = self.until(lambda: self.run(REGIONS), "the regions", PATIENCE)
        assert kind == "annotation", kind
        return int(count)

    @property
    def most_resident_bytes(self) -> int:
        """The most memory that one process of a page had resident so far."""
        return self._most

    def _look_at_memory(self) -> None:
        driver = psutil.Process(self._driver.service.process.pid)
        while not self._ended.wait(0.25):
            for process in driver.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "--type=renderer" in process.cmdline():
                        self._most = max(self._most, process.memory_info().rss)


@dataclass(frozen=True)
class Made:
    """A made-up truth: 0 for none or the number of a label, on a small grid."""

    numbers: Int[np.ndarray, "rows columns"]

    @classmethod
    def of(cls, size_hw: tuple[int, int]) -> "Made":
        """Blobs with smooth outlines; a tenth or so of the picture each."""
        small_hw = tuple(round(side * SMALL / max(size_hw)) for side in size_hw)
        random = np.random.default_rng([SEED, *size_hw])
        cells = tuple(max(2, round(BLOBS * side / max(small_hw))) + 2 for side in small_hw)
        hills = [
            cv2.resize(
                random.random(cells).astype(np.float32),
                (small_hw[1], small_hw[0]),
                interpolation=cv2.INTER_CUBIC,
            )
            for _ in range(len(LABELS) + 1)
        ]
        return cls(np.argmax(hills, axis=0))

    def mask(self, label: int, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """Where label number `label`, from 0, is in a picture of this size."""
        here = (self.numbers == label + 1).astype(np.uint8) * np.uint8(255)
        return cv2.resize(here, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC) >= 128

    def picture(self, size_hw: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
        """Grey: one shade per label, and a texture."""
        shades = np.linspace(90, 170, len(LABELS) + 1).astype(np.uint8)
        flat = cv2.resize(
            shades[self.numbers], (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR
        )
        random = np.random.default_rng([SEED, 1])
        tile = cv2.GaussianBlur(random.normal(0, 40, (512, 512)), (0, 0), 3).astype(np.int8)
        rows, columns = (-(-side // 512) for side in size_hw)
        texture = np.tile(tile, (rows, columns))[: size_hw[0], : size_hw[1]]
        return cv2.add(flat, texture, dtype=cv2.CV_8U)


def main() -> int:
    parser = argparse.ArgumentParser(description="What the editor bears.")
    parser.add_argument("--only", nargs="*", default=[], help="names of cases")
    args = parser.parse_args()
    cases = [case for case in CASES if not args.only or case.name in args.only]

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    seen: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as name,
        chain(Path(name), strict=True) as servers,
    ):
        for case in cases:
            seen[case.name] = look_at(case, servers, Path(name))
            print(case.name, json.dumps(seen[case.name], indent=1), flush=True)
        refusal = ask_for_too_much(servers)
        print("brush, 100 MP", refusal, flush=True)
    passed = all(one.get("painted") for one in seen.values()) and refusal["refused"]
    path = record.write(
        "proof-editor-load",
        {
            "seed": SEED,
            "labels": len(LABELS),
            "load_average": [round(value, 1) for value in os.getloadavg()],
            "predictions": "made-up smooth masks, encoded by our formats, POST /api/predictions",
            "cases": seen,
            "the service asked for brush masks of 100 MP": refusal,
            "passed": bool(passed),
        },
    )
    print(f"written to {path}")
    return 0 if passed else 1


def look_at(case: Case, servers: Chain, folder: Path) -> dict[str, Any]:
    """Store the case's prediction and open it."""
    made = Made.of(case.size_hw)
    project, task, facts = stored(case, made, servers)
    account, url = servers.label_studio.account, servers.label_studio.url
    with Window(folder / f"chromium {case.name}") as window:
        window.log_in(url, account.email, account.password)
        window.open_prediction(url, *small_task(servers))  # what every page needs is loaded now
        before = window.heap_bytes()
        try:
            begun = time.perf_counter()
            regions = window.open_task(url, project, task)
            there = time.perf_counter() - begun
            shown = on_screen(window, made)
            painted = time.perf_counter() - begun
            window.screenshot(SCREENSHOTS / f"editor-load, {case.name}.png")
            heap = window.heap_bytes()
        except (WebDriverException, TimeoutError, HTTPError, AssertionError) as error:
            with contextlib.suppress(WebDriverException, HTTPError):
                window.screenshot(SCREENSHOTS / f"editor-load, {case.name}.png")
            return {**facts, "painted": False, "because": str(error)[:500]}
        return {
            **facts,
            "regions shown": regions,
            "seconds until all regions are there": round(there, 1),
            "seconds until they are painted": round(painted, 1),
            "bearable": painted <= BEARABLE[0] and window.most_resident_bytes / MEBI <= BEARABLE[1],
            "JavaScript heap before, MiB": round(before / MEBI, 1),
            "JavaScript heap, MiB": round(heap / MEBI, 1),
            "tab's process, most resident, MiB": round(window.most_resident_bytes / MEBI),
            "share of a label's inner pixels painted, least": round(min(shown), 4),
            "painted": bool(regions == facts["regions stored"] and min(shown) >= NEARLY_ALL),
        }


def stored(case: Case, made: Made, servers: Chain) -> tuple[int, int, dict[str, Any]]:
    """Project, task, and what the prediction is like."""
    api = servers.api
    project = api.create_project(case.name, case.label_config)
    jpeg = jpeg_of(made.picture(case.size_hw))
    (task,) = api.upload(project, {"picture.jpg": jpeg}).values()
    result = [region for label in range(len(LABELS)) for region in regions(case, made, label)]
    body = {"task": task, "model_version": "made-up", "score": 0.5, "result": result}
    api.call("POST", "/api/predictions", json=body)
    return (
        project,
        task,
        {
            "picture": f"{case.size_hw[1]} x {case.size_hw[0]}",
            "picture as JPEG, bytes": len(jpeg),
            **({"bitmask": png_size(result[0])} if case.kind == "bitmasklabels" else {}),
            "regions stored": len(result),
            "prediction as JSON, bytes": len(json.dumps(result, separators=(",", ":"))),
        },
    )


def regions(case: Case, made: Made, label: int) -> list[dict[str, Any]]:
    control = RegionControl(
        from_name="masks",
        to_name="image",
        kind=case.kind,
        label=LABELS[label],
        region_id=f"thing{label}",
        score=0.5,
        size_hw=case.size_hw,
    )
    return FORMATS[case.kind].encode(made.mask(label, case.size_hw), control)


def png_size(region: Mapping[str, Any]) -> str:
    """Width and height of a region's PNG."""
    png = base64.b64decode(region["value"]["imageDataURL"].partition(",")[2])
    with Image.open(io.BytesIO(png)) as picture:
        return f"{picture.width} x {picture.height}"


def small_task(servers: Chain) -> tuple[int, int]:
    """Project and task of a small picture with one region."""
    case = Case(name="small", size_hw=(240, 320), kind="brushlabels")
    project, task, _ = stored(case, Made.of(case.size_hw), servers)
    return project, task


def on_screen(window: Window, made: Made) -> list[float]:
    """Of every label's inner pixels on screen, the share that shows its paint; waits for it."""
    grid_hw = (made.numbers.shape[0], made.numbers.shape[1])
    grey = cv2.GaussianBlur(made.picture(grid_hw), (0, 0), 1).astype(float)
    bare = np.arange(grid_hw[1]) < TOOLS * grid_hw[1]
    inner = [shrunk(made.numbers == label + 1) & bare for label in range(len(LABELS))]

    def shares(now: UInt8[np.ndarray, "rows columns 3"], visible: Any = True) -> list[float]:
        return [
            float((cover(now, grey, paint)[mask & visible] > COVER).mean())
            for mask, paint in zip(inner, PAINTS, strict=True)
            if (mask & visible).any()
        ]

    shown, visible = window.painted_picture(
        grid_hw, until=lambda now: min(shares(now)) >= NEARLY_ALL
    )
    return shares(shown, visible)


def cover(
    shown: UInt8[np.ndarray, "rows columns 3"], grey: Float[np.ndarray, "rows columns"], paint: str
) -> Float[np.ndarray, "rows columns"]:
    """How much of the paint is over every pixel, from 0 to 1, by the best fit of the blend."""
    beneath = grey[..., None]
    towards = np.array(ImageColor.getrgb(paint), float) - beneath
    moved = shown.astype(float) - beneath
    best = (moved * towards).sum(axis=2) / (towards**2).sum(axis=2)
    return best


def shrunk(mask: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The mask without its border."""
    return cv2.erode(mask.astype(np.uint8), np.ones((2 * EDGE + 1,) * 2, np.uint8)) > 0


def jpeg_of(picture: UInt8[np.ndarray, "height width"]) -> bytes:
    """An RGB picture, as cameras write it."""
    file = io.BytesIO()
    Image.fromarray(picture).convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def ask_for_too_much(servers: Chain) -> Mapping[str, Any]:
    """What our service says when it is asked for brush masks of a very large picture."""
    api = servers.api
    config = (
        '<View><Image name="image" value="$image"/><BrushLabels name="masks" toName="image">'
        f"{labels_of(('house', 'tree'))}</BrushLabels></View>"
    )
    project = api.create_project("too large", config)
    jpeg = jpeg_of(Made.of(REFUSED_HW).picture(REFUSED_HW))
    api.upload(project, {"picture.jpg": jpeg})
    (task,) = api.tasks(project)
    body = {"tasks": [task], "label_config": config, "params": {"context": None}}
    answer = requests.post(f"{servers.service}/predict", json=body, timeout=120)
    return {
        "status": answer.status_code,
        "said": answer.text.strip()[:500],
        "refused": answer.status_code == 422 and "BitmaskLabels" in answer.text,
    }


if __name__ == "__main__":
    sys.exit(main())
