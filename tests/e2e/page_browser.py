"""A headless Chromium that looks at our own pages, and what axe-core says of them."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

WIDE, NARROW = (1280, 860), (390, 844)  # pixels of a window
PATIENCE_MS = 60_000  # for whatever a machine with much to do takes
SERIOUS = ("serious", "critical")
SCREENSHOTS = "SCREENSHOTS"  # a folder that keeps the pictures of pages, such as docs/images


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's own; nothing is downloaded."""
    program = shutil.which("chromium")
    assert program is not None, "there is no chromium; try 'make browser'"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser,
    *,
    size_wh: tuple[int, int] = WIDE,
    dark: bool = False,
    forgiven: str | None = None,
    **options: Any,
) -> Iterator[Page]:
    """A window that fails a test at its end where the page's script failed, or anything was loaded
    from elsewhere, or the page's own policy forbade something, unless with words in `forgiven`."""
    width, height = size_wh
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
        permissions=["clipboard-read", "clipboard-write"],
        **options,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "console",
        lambda said: troubles.append(said.text) if "Content Security Policy" in said.text else None,
    )
    hosts: set[str] = set()
    page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
    try:
        yield page
    finally:
        context.close()
    assert not [one for one in troubles if forgiven is None or forgiven not in one]
    assert len({host for host in hosts if host}) <= 1, hosts


def serious_faults(page: Page) -> list[str]:
    """What axe-core takes for a serious fault, with where it is."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in SERIOUS
    ]


def photograph(page: Page, name: str, folder: Path) -> Path:
    """The window as PNG of 256 colours, kept for the documentation where the environment names a
    folder."""
    path = Path(os.environ.get(SCREENSHOTS) or folder) / f"{name}.png"
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    return path
