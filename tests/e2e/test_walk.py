"""A walk through "First run" and "Connect your own Label Studio", by the commands on those pages.

In a fresh folder every line of their shell blocks is run in the order of the pages, with a real
Label Studio and the real service; what cannot be run here says why. What the pages describe for
the mouse is asked for as Label Studio's own page asks for it; `test_browser.py` clicks.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import requests
from PIL import Image

from backend.demo.annotate import answer_of, wait_for_model
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import Installation, LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment
from backend.demo.projects import everything
from tests.docs.pages import on

from .conftest import CHECKOUT, TEMPLATES

FIRST_RUN: Final = CHECKOUT / "docs" / "first-run.md"
CONNECT: Final = CHECKOUT / "docs" / "how-to" / "connect-label-studio.md"
NOT_RUN: Final = {
    "make demo": "installs, and stays until Ctrl-C: test_demo.py runs what it runs",
    ". .venv/bin/activate": "the environment of the tests stands for the one that is installed",
    "cliper weights fetch fast": "there is no network",
}
INSTEAD: Final = {"--profile fast": "--profile demo"}  # the weights that are here
REFUSING: Final = {  # as Label Studio is unless somebody says otherwise
    "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "true",
    "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "true",
}
PICTURES: Final = 4
SEED: Final = 8


def lines(page: Path) -> list[str]:
    """The commands of a page's shell blocks, long ones joined, comments left out."""
    blocks = [block.text for block in on(page) if block.language == "shell"]
    joined = re.sub(r"\\\n\s*", " ", "".join(blocks))
    found = (re.sub(r"(^|\s+)#\s.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in found if line]


class Walker:
    """Somebody who types what a page says; exports hold until the end."""

    def __init__(self, folder: Path, installation: Installation) -> None:
        self.folder, self.ran = folder, list[str]()
        self._installation = installation
        self._servers: list[Server] = []
        (folder / "home").mkdir()
        tools = folder / "tools"
        tools.mkdir()
        (tools / "cliper").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m backend "$@"\n')
        (tools / "cliper").chmod(0o755)
        self.service = f"http://{LOOPBACK}:{free_port()}"
        self.environment = {
            **plain_environment(),
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "HOME": str(folder / "home"),
            "HOST": LOOPBACK,
            "PORT": self.service.rpartition(":")[2],
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self.studio: LabelStudioServer | None = None
        self._made: str | None = None

    def type(self, line: str) -> str:
        """Run one line; what it printed. Servers go on in the background."""
        self.ran.append(line)
        if line in NOT_RUN:
            return ""
        if line == "label-studio start":
            self._start_label_studio()
            return ""
        for theirs, ours in (INSTEAD | self._own()).items():
            line = line.replace(theirs, ours)
        if line.startswith("cliper serve"):
            self._start_service(line.split())
            return ""
        kept = self.folder / "environment"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'{line}\nenv -0 > "{kept}"'],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        pairs = kept.read_text().rstrip("\0").split("\0")
        self.environment = dict(pair.split("=", 1) for pair in pairs)
        return done.stdout

    def stop(self) -> None:
        for server in reversed(self._servers):
            server.stop()

    def _own(self) -> dict[str, str]:
        """What the pages call by names that are somebody else's here."""
        ours = {"localhost:9090": self.service.partition("//")[2]}
        if self.studio is None:
            return ours
        return ours | {
            "http://localhost:8080": self.studio.url,
            "paste-the-token-here": self._token(self.studio),
        }

    def _token(self, studio: LabelStudioServer) -> str:
        """Account & Settings, Personal Access Token: made once, as the page says."""
        if self._made is None:
            client = LabelStudioApi(studio.url, studio.account.token)
            self._made = client.personal_token()
            client.close()
        return self._made

    def _start_label_studio(self) -> None:
        """With what the page exported, on a port of its own and without a browser."""
        said = {name: self.environment.get(name, value) for name, value in REFUSING.items()}
        self.studio = LabelStudioServer(
            self._installation,
            self.folder / "label-studio",
            templates=TEMPLATES,
            strict=True,
            also=said,
        )
        self._servers.append(self.studio)
        self.studio.start()

    def _start_service(self, words: list[str]) -> None:
        server = Server(
            "the service",
            words,
            environment=self.environment,
            health=f"{self.service}/health",
            log=self.folder / "service.log",
            folder=self.folder,
        )
        self._servers.append(server)
        server.start()


@pytest.fixture
def walker(tmp_path: Path, installation: Installation) -> Iterator[Walker]:
    made = Walker(tmp_path, installation)
    yield made
    made.stop()


def test_what_is_not_run_is_on_the_pages():
    assert set(NOT_RUN) <= {*lines(FIRST_RUN), *lines(CONNECT)}


@pytest.mark.timeout(900)
def test_the_pages_lead_from_a_fresh_folder_to_masks_in_label_studio(walker: Walker):
    project = everything(PICTURES, SEED)
    (photos := walker.folder / "photos").mkdir()
    for picture in project.pictures:
        Image.fromarray(picture.image).save(photos / picture.name)
    (walker.folder / "my-config.xml").write_text(project.label_config)  # the reader's own

    for line in lines(FIRST_RUN):
        walker.type(line)
    assert len(list((walker.folder / "masks").iterdir())) == 3 * PICTURES

    *before, last = lines(CONNECT)
    for line in before:
        walker.type(line)
    assert walker.studio is not None
    assert walker.environment["WEBHOOK_SECRET"]
    wait_for_model(walker.service)

    api = LabelStudioApi(walker.studio.url, walker.studio.account.token)
    number = api.create_project("photos", project.label_config)
    tasks = api.upload(number, {picture.name: picture.to_png() for picture in project.pictures})
    api.connect(number, walker.service)
    api.retrieve_predictions(number)
    stored = {found["task"]: found for found in api.predictions(number)}
    api.close()

    assert stored.keys() == set(tasks.values())
    quality = []
    for picture in project.pictures:
        prediction = stored[tasks[picture.name]]
        assert prediction["result"]
        assert {region["type"] for region in prediction["result"]} == {"brushlabels"}
        masks = answer_of(prediction).masks
        quality += [
            np.count_nonzero(masks[word] & truth) / np.count_nonzero(masks[word] | truth)
            for word, truth in picture.truth.items()
            if word in masks
        ]
    assert len(quality) >= 2 * PICTURES
    assert np.mean(quality) > 0.6
    assert walker.type(last).count(prediction["model_version"]) == 1
    assert walker.ran == lines(FIRST_RUN) + lines(CONNECT)
    assert requests.get(f"{walker.service}/health", timeout=30).json()["model"]["state"] == "ready"
