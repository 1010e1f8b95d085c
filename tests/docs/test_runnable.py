"""Blocks marked `runnable` are run, those of a page one after the other in a folder of their own.

Shell finds `cliper`, the profile is `demo`, and these lie in the folder: `scene.png`, `photo.jpg`,
`photos/` with three pictures, and `config.xml` for them. Where a block names the profile `fast`,
whose weights are not here, `demo` takes its place. A block marked `output` is what the block before
it printed.
"""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cliper_model.demo.scenes import make_scene

from .pages import ROOT, Block, on, written_here

SEED = 20  # of the drawn pictures
SCENE = (0x5EED, 60, 29)  # of `scene.png`: a house, a tent and a rainbow under the sky
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="masks" toName="image">'
    '<Label value="sky"/><Label value="house"/><Label value="tree"/></BrushLabels></View>'
)
INSTEAD = {'load("fast")': 'load("demo")', "--profile fast": "--profile demo"}
MARKS = {"runnable", "output"}
LANGUAGES = {"runnable": ("python", "shell"), "output": ("text",)}
PAGES = [page for page in written_here() if any("runnable" in one.words for one in on(page))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the blocks of a page are run."""
    (tool := tmp_path / "bin" / "cliper").parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m backend "$@"\n')
    tool.chmod(0o755)
    here = tmp_path / "here"
    (here / "photos").mkdir(parents=True)
    for number in range(3):
        scene = make_scene(np.random.default_rng((SEED, number)))
        Image.fromarray(scene.image).save(here / "photos" / f"{number}.png")
    scene = make_scene(np.random.default_rng(SCENE))
    for name in ("scene.png", "photo.jpg"):
        Image.fromarray(scene.image).save(here / name)
    (here / "config.xml").write_text(CONFIG)
    for name in [name for name in os.environ if name.startswith("LABEL_STUDIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PROFILE", "demo")
    monkeypatch.setenv("STORAGE", f"sqlite:{tmp_path}/store.sqlite")
    monkeypatch.chdir(here)
    return here


def run(block: Block) -> str:
    """What the block prints; it must end well."""
    text = block.text
    for theirs, ours in INSTEAD.items():
        text = text.replace(theirs, ours)
    if block.language == "shell":
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}: {done.stderr}"
        return done.stdout
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(text, str(block), "exec"), {"__name__": "__main__"})
    return said.getvalue()


def test_something_is_marked_on_several_pages():
    assert len(PAGES) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_marked_runs_and_prints_what_the_page_says(page: Path, folder: Path):
    printed: str | None = None
    for block in on(page):
        if "runnable" in block.words:
            printed = run(block)
        elif "output" in block.words:
            assert printed == block.text, str(block)
            printed = None


@pytest.mark.parametrize("page", written_here(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_mark_is_one_we_know_on_a_block_that_can_have_it(page: Path):
    before: Block | None = None
    for block in on(page):
        for word in block.words:
            assert word in MARKS or word.partition("=")[0] in ("file", "change"), str(block)
        for mark in MARKS & set(block.words):
            assert block.language in LANGUAGES[mark], str(block)
        if "output" in block.words:
            assert before is not None, str(block)
            assert "runnable" in before.words, str(block)
        before = block
