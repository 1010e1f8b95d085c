"""The page and the sheet: whole, escaped, and asking nobody for anything."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from backend.prelabel.page import command, page
from backend.prelabel.sheet import ALARM, MARGIN, TITLE, caption, draw
from backend.prelabel.tiles import Palette, Tile
from backend.prelabel.wanted import Wanted

from .test_preview import looked_at
from .test_tiles import PINK, control, hung, view_of

NASTY = "<script>alert('x')</script>\"&"


class Read(HTMLParser):
    """Tags in their order, with their attributes, and everything to be read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def test_everything_from_label_studio_is_escaped():
    read = Read(page(looked_at("both", "gone", title=NASTY)))

    assert read.open == []
    assert not any(tag == "script" for tag, _ in read.tags)
    assert f"Preview of “{NASTY}”" in read.text


def test_labels_and_reasons_are_escaped():
    seen = looked_at("red", "gone")
    seen.rows[0].label = NASTY
    next(iter(seen.failures.values())).sentence = NASTY

    read = Read(page(seen))

    assert not any(tag == "script" for tag, _ in read.tags)
    assert read.text.count(NASTY) == 2


def test_the_page_asks_nobody_for_anything():
    text = page(looked_at("both", "none"))

    sources = [attributes.get("src") for tag, attributes in Read(text).tags if tag == "img"]
    assert len(sources) == 4
    assert all(source and source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?://|@import|url\(", text)


def test_every_picture_says_what_it_shows():
    pictures = [one for tag, one in Read(page(looked_at("both", "none"))).tags if tag == "img"]

    assert [one["alt"] for one in pictures] == [
        "Picture of task 1",
        "Found in task 1: red, blue",
        "Picture of task 2",
        "Found in task 2: nothing",
    ]


def test_cells_at_the_edge_of_tables_are_headings():
    tags = [tag for tag, one in Read(page(looked_at("both"))).tags if one.get("scope") == "row"]

    assert tags
    assert set(tags) == {"th"}


def test_what_matters_is_on_the_page():
    text = Read(page(looked_at(*["red"] * 9, "gone", title="Harbour"))).text

    for words in (
        "Nothing was written to Label Studio",
        "10 tasks",
        "In no picture of the sample: blue, yellow.",
        "1 of 10 tasks of the sample failed, so will others.",
        "9 of 9",
        "there is nothing at the address",
        "cliper prelabel --project 7",
    ):
        assert words in text, words


def test_a_project_without_tasks_has_a_page_too():
    text = Read(page(looked_at())).text

    assert "No task matches: there is nothing to look at." in text


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_page_says_how_rough_its_guess_is(count: int):
    assert ("a rough guess" in page(looked_at(*["red"] * count))) == (count < 4)


def test_the_next_command_can_be_pasted():
    wanted = Wanted(project=3, view=5, filters=("data.name~it's here",))

    assert command(wanted) == (
        "cliper prelabel --project 3 --view 5 --filter 'data.name~it'\"'\"'s here'"
    )


def test_masks_are_on_the_sheet_in_their_colours():
    album, palette, _ = hung(view_of(control("BrushLabels")))

    sheet = np.asarray(draw(album.tiles, palette, "one"))

    pink = np.abs(sheet.astype(int) - PINK).sum(axis=2) < 160
    assert pink[MARGIN + TITLE : MARGIN + TITLE + 180].sum() > 10_000
    assert (sheet[-MARGIN - 20 :] == PINK).all(axis=2).any()  # the legend


def test_a_failed_tile_says_so_on_the_sheet():
    sheet = np.asarray(draw([Tile(task=4, reason="nobody answers")], Palette(), "one"))

    assert (sheet == ALARM).all(axis=2).any()


def test_a_sheet_of_nothing_is_a_headline():
    assert draw([], Palette(), "none").height == 2 * MARGIN + TITLE


def test_captions_name_task_picture_regions_and_score():
    image = np.zeros((2, 2, 3), np.uint8)
    tile = Tile(task=4, picture=image, painted=image, index=1, of=3, regions=1, score=0.5)

    assert caption(tile) == "task 4, picture 2 of 3 · 1 region · score 0.50"
    assert caption(Tile(task=4, reason="x")) == "task 4"
