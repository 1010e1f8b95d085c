"""No link of the documentation leads nowhere."""

import re
from pathlib import Path

import pytest

from .pages import FENCE, ROOT, pages

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What a `#fragment` may name: headings as the usual renderers spell them."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[`*]", "", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        inside = there.exists() and ROOT in (there, *there.parents)
        named = not fragment or there.suffix != ".md"
        if not inside or not (named or fragment in anchors(there)):
            broken.append(target)
    assert not broken


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(prose(index))
    }
    specs = ROOT / "docs" / "specs"
    missing = {
        page.relative_to(ROOT)
        for page in (ROOT / "docs").rglob("*.md")
        if page not in linked and page != index and specs not in page.parents
    }
    assert not missing


def test_the_specifications_index_leads_to_every_specification() -> None:
    index = ROOT / "docs" / "specs" / "README.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(prose(index))}
    assert {page for page in index.parent.glob("*.md") if page != index} <= linked
