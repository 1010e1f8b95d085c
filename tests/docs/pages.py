"""The pages of the documentation, and the blocks in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page people read; specifications are pages too."""
    own = [*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"]
    return sorted([*own, *(ROOT / "docs").rglob("*.md")])


def written_here() -> list[Path]:
    """Pages about this program; specifications quote other programs."""
    return [page for page in pages() if ROOT / "docs" / "specs" not in page.parents]


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in written_here():
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            indent, language, body = match.groups()
            if language in languages:
                line = text.count("\n", 0, match.start()) + 1
                body = "\n".join(row.removeprefix(indent) for row in body.splitlines()) + "\n"
                found.append(Block(page, line, language, body))
    return found
