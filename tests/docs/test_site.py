"""The documentation is built as `make docs` builds it, and no link in it is dead."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from .commands import site as configuration
from .pages import ROOT, pages

HOSTED = re.compile(r"(?:https?:)?//")
INDEX = "# Index\n\n* [Page](page.md)\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, by the command of the Makefile; what it would install is here."""
    folder = tmp_path_factory.mktemp("site") / "docs"
    done = subprocess.run(
        ["make", "-o", "setup", "docs", f"SITE={folder}", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


class Read(HTMLParser):
    """What a page links, what it loads by itself, and what may be linked in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        said = {name: value for name, value in attributes if value is not None}
        self.names |= {said[name] for name in ("id", "name") if name in said}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        elif tag == "link" and "href" in said:
            self.loaded.append(said["href"])
        elif "src" in said:
            self.loaded.append(said["src"])


@pytest.fixture(scope="module")
def read(site: Path) -> dict[Path, Read]:
    return {page: Read(page) for page in site.rglob("*.html")}


def test_every_page_is_in_the_site(site: Path):
    missing = {
        page.relative_to(ROOT)
        for page in pages()
        if not (site / page.relative_to(ROOT)).with_suffix(".html").is_file()
    }

    assert not missing


def test_no_link_within_the_site_is_dead(site: Path, read: dict[Path, Read]):
    dead = []
    for page, content in read.items():
        for link in content.links + content.loaded:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            there = (page.parent / unquote(target.path)).resolve() if target.path else page
            named = not target.fragment or (
                there in read and unquote(target.fragment) in read[there].names
            )
            if not (there.is_file() and site in there.parents and named):
                dead.append(f"{page.relative_to(site)}: {link}")

    assert len(read) > 60
    assert not dead


def test_nothing_is_loaded_from_outside(site: Path, read: dict[Path, Read]):
    asked = [link for content in read.values() for link in content.loaded if HOSTED.match(link)]
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        asked += re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^)'\"]+)", text)

    assert not asked


def test_the_first_page_leads_to_the_index(site: Path, read: dict[Path, Read]):
    (link,) = read[site / "index.html"].links

    assert (site / link).read_text(encoding="utf-8").count("First run") > 1


def test_a_file_that_is_no_page_comes_along(site: Path, read: dict[Path, Read]):
    links = read[site / "docs" / "licences.html"].links

    (licence,) = (link for link in links if link.endswith("/LICENSE"))
    assert (site / "docs" / licence).read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_index_says_the_order_and_each_page_comes_once():
    index = (
        "**Start**\n\n* [First](first.md#top): see [second](how-to/second.md)\n"
        "**More**\n\n* [Again](how-to/second.md) and [changes](../CHANGELOG.md)\n"
        "* [Elsewhere](https://example.com/a.md), [code](../backend/app.py), [x](../backend/a.md)\n"
    )

    assert configuration().contents("docs/README", index) == (
        "\n```{toctree}\n:hidden:\n:caption: Start\n\n"
        "First </docs/first>\nsecond </docs/how-to/second>\n```\n"
        "\n```{toctree}\n:hidden:\n:caption: More\n\nchanges </CHANGELOG>\n```\n"
    )


def built(folder: Path, page: str, index: str = INDEX) -> subprocess.CompletedProcess[str]:
    """A site of two pages, with our own configuration."""
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text(index)
    (folder / "docs" / "page.md").write_text(f"# Page\n\n{page}\n")
    return subprocess.run(
        [
            sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html",
            "-c", str(ROOT / "docs"), str(folder), str(folder / "site"),
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip


def test_two_pages_that_name_each_other_are_built(tmp_path: Path):
    done = built(tmp_path, "[Back](README.md#index)")

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "link", ["[gone](gone.md)", "[gone](README.md#nowhere)", "[gone](#nowhere)", "![gone](a.png)"]
)
def test_a_link_that_leads_nowhere_ends_the_build(link: str, tmp_path: Path):
    done = built(tmp_path, link)

    assert done.returncode == 1
    assert "page.md:3: WARNING" in done.stderr


def test_a_page_that_the_index_does_not_name_ends_the_build(tmp_path: Path):
    done = built(tmp_path, "", index="# Index\n")

    assert done.returncode == 1
    assert "isn't included in any toctree" in done.stderr
