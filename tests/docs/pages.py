"""The pages of the documentation, and the blocks in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the words after its language.

    Code hosts do not show those words. `runnable`: a test runs it. `output`: what the runnable
    block above it prints. `file=PATH`: it is the whole of that file. `change=PATH`: a change to
    that file, as a diff.
    """

    page: Path
    line: int
    language: str
    text: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def said(self, name: str) -> str | None:
        """What follows `name=` among the words; None where it is not there."""
        found = [word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")]
        return found[0] if found else None


def pages() -> list[Path]:
    """Every page people read; specifications are pages too."""
    own = [*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"]
    return sorted([*own, *(ROOT / "docs").rglob("*.md")])


def written_here() -> list[Path]:
    """Pages about this program; specifications quote other programs."""
    return [page for page in pages() if ROOT / "docs" / "specs" not in page.parents]


def blocks(*languages: str) -> list[Block]:
    """Blocks of these languages, page by page."""
    return [block for page in written_here() for block in on(page) if block.language in languages]


def on(page: Path) -> list[Block]:
    """Every block of a page, from its top to its end."""
    found = []
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        indent, language, body = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        body = "\n".join(row.removeprefix(indent) for row in body.splitlines()) + "\n"
        words = match[0].splitlines()[0].split()[1:]
        found.append(Block(page, line, language, body, tuple(words)))
    return found
