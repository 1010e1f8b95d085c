"""Every command of the operations page is run in its order, or says why it cannot be."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import requests

from backend.__main__ import main
from backend.demo.processes import LOOPBACK, free_port

from ..doubles.balancer import program
from ..doubles.redis_server import RedisServer
from ..doubles.studio_server import Project, StudioServer, studio_server
from ..doubles.waiting import until
from .pages import FENCE, ROOT
from .test_links import prose

PAGE: Final = ROOT / "docs" / "operations.md"
REPLICAS: Final = ROOT / "docs" / "how-to" / "several-replicas.md"
WEIGHTS: Final = ROOT / "docs" / "how-to" / "real-weights.md"
MARK: Final = re.compile(r"\*Needs ([^*]+):\*\n\n$")
NEEDS: Final = {  # what a marked block must hold, and an unmarked one must not
    "Docker": r"\bdocker (compose|save|load)\b",
    "a network": r"\bpip install\b|\bweights fetch\b",
    "that file": r"\bweights unbundle\b",
    "hardware": r"\bnvidia-smi\b|\bcuda:\d",
    "several machines": r"\bhaproxy -W\b",
}
SECTIONS: Final = (
    "Install", "Upgrade", "Back up", "Restore", "Air-gapped sites", "Several graphics cards",
    "Several replicas", "What happens when", "Troubleshoot",
)  # fmt: skip
FAULTS: Final = (
    "SIGKILL", "SIGTERM", "Redis is away", "Label Studio is away", "Label Studio refuses",
    "disk is full", "half-written", "memory of the graphics card", "graphics card is lost",
    "one of several graphics cards is lost", "model cannot be loaded on one", "clock jumps",
)  # fmt: skip
CONFIG: Final = (
    '<View><Image name="image" value="$image"/><BrushLabels name="seg" toName="image">'
    '<Label value="house"/><Label value="sky"/></BrushLabels></View>'
)
STOPPED: Final = ("Restore", "Upgrade")  # sections before which the service is stopped


def steps(page: Path = PAGE) -> list[tuple[str, str | None, str]]:
    """Section, mark and text of every shell block."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        if match.group(2) == "shell":
            before = text[: match.start()]
            section = re.findall(r"^## (.+)$", before, re.MULTILINE)[-1]
            mark = MARK.search(before)
            found.append((section, mark.group(1) if mark else None, match.group(3)))
    return found


def test_the_page_has_its_sections_and_a_row_for_every_fault():
    text = prose(PAGE)
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == SECTIONS
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for fault in FAULTS:
        (row,) = [one for one in rows if fault in one.split("|")[1]]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4
        assert all(cells), fault


@pytest.mark.parametrize("page", [PAGE, REPLICAS, WEIGHTS], ids=lambda page: page.stem)
def test_what_is_marked_needs_it_and_what_needs_it_is_marked(page: Path):
    for _, mark, text in steps(page):
        needed = {name for name, pattern in NEEDS.items() if re.search(pattern, text)}
        assert needed == ({mark} if mark else set()), text


class Machine:
    """Where the page's commands are run: `/data`, ports and the command itself are our own."""

    def __init__(
        self, folder: Path, studio: StudioServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder, self._patch = folder, monkeypatch
        self._own = {
            "/data/": f"{folder}/data/",
            "localhost:9090": f"{LOOPBACK}:{(port := free_port())}",
            "--port 9090": f"--host {LOOPBACK} --port {port}",
            "redis://localhost:6379/0": redis_url,
            "http://localhost:8080": studio.url,
            "paste-the-token-here": studio.legacy_token,
        }
        self._url = f"http://{LOOPBACK}:{port}"
        self._service: subprocess.Popen[bytes] | None = None
        self.ran: list[str] = []
        (folder / "data").mkdir()
        (folder / "bin").mkdir()
        if shutil.which("sqlite3") is None:  # the same by Python's own module
            tool = folder / "bin" / "sqlite3"
            tool.write_text(
                f"#!{sys.executable}\nimport sqlite3, sys\n"
                "to = sqlite3.connect(sys.argv[2].split()[1])\n"
                "sqlite3.connect(sys.argv[1]).backup(to)\n"
            )
            tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.chdir(folder)

    def run(self, text: str) -> None:
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            for theirs, ours in self._own.items():
                line = line.replace(theirs, ours)
            words = shlex.split(line, comments=True)
            if not words:
                continue
            if words[0] == "export":
                for one in words[1:]:
                    self._patch.setenv(*one.split("=", 1))
            elif words[:2] == ["cliper", "serve"]:
                self._serve(words[1:])
            elif words[0] == "cliper":
                assert main(words[1:]) == 0, line
            else:
                done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
                assert done.returncode == 0, f"{line}: {done.stderr}"
            self.ran.append(line)

    def _serve(self, words: list[str]) -> None:
        with (self.folder / "log").open("wb") as log:
            self._service = subprocess.Popen(
                [sys.executable, "-m", "backend", *words],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        self._words = words
        until(self._answers, f"the service answers; see {self.folder / 'log'}")

    def _answers(self) -> bool:
        assert self._service is not None
        assert self._service.poll() is None, (self.folder / "log").read_text()
        try:
            return requests.get(f"{self._url}/health", timeout=60).status_code == 200
        except requests.ConnectionError:
            return False

    def start_again(self) -> None:
        if self._service is None:
            self._serve(self._words)

    def stop(self) -> None:
        if self._service is not None:
            self._service.send_signal(signal.SIGTERM)
            assert self._service.wait(60) == 0
            self._service = None


@pytest.fixture
def machine(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    with studio_server() as studio:
        studio.projects[12] = Project(12, CONFIG)
        made = Machine(tmp_path, studio, redis_server.url, monkeypatch)
        yield made
        made.stop()


def test_every_command_that_is_not_marked_can_be_run_in_the_order_of_the_page(machine: Machine):
    for section, mark, text in steps():
        if mark is not None:
            continue
        if section in STOPPED:
            machine.stop()
        if section == "Troubleshoot":
            machine.start_again()
        machine.run(text)

    assert len(machine.ran) >= 15
    assert (machine.folder / "data" / "backup.sqlite").stat().st_size > 0


def test_every_command_about_replicas_that_is_not_marked_can_be_run():
    ran = [text for _, mark, text in steps(REPLICAS) if mark is None]
    there = f"{os.environ['PATH']}{os.pathsep}{Path(program()).parent}"
    for text in ran:
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=ROOT,
            env={"PATH": there},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{text}: {done.stderr}"

    assert ran
