"""How the pages become a site, for `make docs`; they stay plain Markdown.

The source folder is the repository itself, so that a link from a page to any of its files holds:
to another page, or to a file that is copied beside the site. What the pages are, and their order,
is said once, in the lists of docs/README.md and of docs/specs/README.md: a page that neither of
them names is a warning, and warnings are errors.
"""

import re
from pathlib import Path
from typing import Any, Final

from sphinx.util.matching import compile_matchers

project = "CLIPer for Label Studio"
copyright = "2026, the cliper-label-studio authors"
extensions = ["myst_parser"]
root_doc = "docs/README"
include_patterns = [
    "*.md",
    "docs/**.md",
    "benchmarks/README.md",
    "tests/parity/golden/cliper/README.md",
]
exclude_patterns = [".*", "build", "dist", "demo-output"]

myst_heading_anchors = 4  # a `#fragment` is the heading as code hosts spell it

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sourcelink = False
html_use_index = False

INDEXES: Final = ("docs/README", "docs/specs/README")
CAPTION: Final = re.compile(r"^\*\*(.+)\*\*$")
LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s#:]+)\.md(?:#[^)\s]*)?\)")
START: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<meta http-equiv="refresh" content="0; url={page}.html">
<a href="{page}.html">{title}</a>
</html>
"""


def contents(index: str, text: str) -> str:
    """The lists of an index as tables of contents: each page once, under the line above it.

    `index` is the page's name without `.md`, relative to the repository, as are the results.
    """
    caption, seen, tables = "", {index, *INDEXES[:1]}, dict[str, list[str]]()
    for line in text.splitlines():
        if found := CAPTION.match(line):
            caption = found[1]
        for title, target in LINK.findall(line):
            page = _within(Path(index).parent / target)
            if page is not None and page not in seen:
                seen.add(page)
                tables.setdefault(caption, []).append(f"{title} </{page}>")
    return "".join(
        "\n```{{toctree}}\n:hidden:\n{caption}\n{pages}\n```\n".format(
            caption=f":caption: {caption}\n" if caption else "", pages="\n".join(pages)
        )
        for caption, pages in tables.items()
    )


def _within(path: Path) -> str | None:
    """A page's name without `..`; None for what is no page of the site."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    page = "/".join(parts)
    return (
        page if any(match(f"{page}.md") for match in compile_matchers(include_patterns)) else None
    )


def _add_contents(app: Any, page: str, text: list[str]) -> None:
    if page in INDEXES:
        text[0] += contents(page, text[0])


def _add_start(app: Any, error: Exception | None) -> None:
    """A first page where servers look for it."""
    if error is None and app.builder.format == "html":
        start = START.format(title=project, page=root_doc)
        Path(app.outdir, "index.html").write_text(start, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _add_contents)
    app.connect("build-finished", _add_start)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
