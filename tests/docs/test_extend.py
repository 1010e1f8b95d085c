"""What the page about extensions says is done in a copy of the repository, and works there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import ROOT, Block, on

PAGE = ROOT / "docs" / "how-to" / "extend.md"
COPIED = ("backend", "cliper_model", "tests/contract", "tests/doubles", "tests/unit/backend/images")
FILES = ("pyproject.toml", "tests/__init__.py", "tests/conftest.py")
PACKAGES = (  # of tests the page adds
    "tests/unit", "tests/unit/backend", "tests/unit/backend/storage", "tests/unit/cliper_model",
)  # fmt: skip
SECTIONS = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def of(section: str) -> list[Block]:
    """The blocks below a heading."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = lines.index(f"## {section}")
    last = next((n for n, line in enumerate(lines) if n > first and line[:3] == "## "), len(lines))
    return [block for block in on(PAGE) if first < block.line <= last]


def change(path: Path, diff: str) -> None:
    """Put the new lines in the place of the old ones; those must be there once."""
    text = path.read_text(encoding="utf-8")
    for hunk in diff.split("@@\n"):
        rows = [(row[:1], row[1:]) for row in hunk.splitlines()]
        assert {sign for sign, _ in rows} <= {" ", "-", "+"}, hunk
        old = "".join(f"{row}\n" for sign, row in rows if sign != "+")
        new = "".join(f"{row}\n" for sign, row in rows if sign != "-")
        assert text.count(f"\n{old}") == 1, f"{path}: {hunk}"
        text = text.replace(f"\n{old}", f"\n{new}")
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout in which everything may be changed."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.log")
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=unwanted)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in PACKAGES:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "__init__.py").touch()
    return tmp_path


def test_every_kind_of_extension_has_its_section():
    assert SECTIONS == ["A method", "A region format", "A picture source", "A store"]


@pytest.mark.parametrize("section", SECTIONS)
def test_what_the_page_adds_works(section: str, copy: Path):
    *_, last = blocks = of(section)
    for block in blocks:
        if path := block.said("file"):
            assert not (copy / path).exists(), path
            (copy / path).write_text(block.text, encoding="utf-8")
        if path := block.said("change"):
            change(copy / path, block.text)

    program, *words = shlex.split(last.text)
    assert (program, last.language) == ("python", "shell")
    done = subprocess.run(
        [sys.executable, *words, "-q"],
        cwd=copy,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout)
    assert str(ROOT) not in done.stdout


def test_a_change_that_does_not_fit_is_noticed(tmp_path: Path):
    (file := tmp_path / "table.py").write_text("A = 1\nB = 2\n")

    with pytest.raises(AssertionError):
        change(file, " C = 3\n+D = 4\n")
