"""The page: whole, escaped, asking nobody for anything, and what it says first."""

import re
from dataclasses import replace

import pytest

from backend.report.learnt import versions_in
from backend.report.page import headline, page
from backend.report.pieces import whole_percents

from ....doubles.corrections import Tasks, annotated, columns, corrected, painted, predicted, told
from ..prelabel.test_page import NASTY, Read
from .test_making import TEN, made_of, three


def read(seen) -> Read:
    return Read(page(seen))


def test_the_first_sentences_say_what_matters():
    seen = made_of(*three() * 4)

    first, second = headline(seen)
    assert (
        first
        == "Of 12 corrected pictures, 34 % were taken as they were, 33 % touched up, 33 % redone."
    )
    assert second == "About 3 min 8 s saved."
    text = read(seen).text
    assert first in text
    assert second in text
    assert "Assumption: by hand a picture takes 3 s and 30 s per mask (assumed)." in text


@pytest.mark.parametrize(
    ("shares", "percents"),
    [
        ([1 / 3, 1 / 3, 1 / 3], [34, 33, 33]),
        ([0.005, 0.995, 0.0], [1, 99, 0]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([1.0, 0.0, 0.0], [100, 0, 0]),
    ],
)
def test_percents_of_a_whole_add_up(shares, percents):
    found = whole_percents(shares)

    assert sum(found) in (0, 100)
    assert sorted(found) == sorted(percents)


def test_lost_time_is_not_called_saved():
    seen = made_of(*(corrected(number, TEN, columns(10, 20)) for number in range(1, 60)))

    assert headline(seen)[1] == "About 2 min 57 s lost."


def test_everything_from_label_studio_is_escaped():
    task = corrected(1, TEN, columns(0, 5), label=NASTY, version=NASTY)
    false = [
        told(n, [annotated([], parent=n)], [predicted(n, painted(NASTY, TEN, score=0.1))])
        for n in range(2, 6)
    ]
    seen = made_of(source=Tasks([task, *false], title=NASTY, warnings=[NASTY]))
    seen.counts.fail(NASTY)
    learnt = versions_in(
        [{"digest": NASTY, "verdicts": {NASTY: {"reason": NASTY, "per_label": {NASTY: [1, 2]}}}}]
    )

    found = read(replace(seen, learnt=learnt))

    assert found.open == []
    assert not any(tag == "script" for tag, _ in found.tags)
    assert found.text.count(NASTY) >= 8


def test_the_page_asks_nobody_for_anything():
    text = page(made_of(*three()))

    found = Read(text)
    sources = [attributes.get("src") for tag, attributes in found.tags if tag == "img"]
    assert len(sources) == 2 * 4
    assert all(source and source.startswith("data:image/jpeg;base64,") for source in sources)
    assert {tag for tag, _ in found.tags} & {"script", "iframe", "object", "form", "base"} == set()
    links = [attributes.get("href") for tag, attributes in found.tags if tag == "a"]
    rest = text
    for one in links:
        assert one
        rest = rest.replace(f'href="{one}"', "")
    assert not re.search(r"https?://|@import|url\(", rest)


def test_every_picture_and_chart_says_what_it_shows():
    found = read(made_of(*three()))

    assert all(one.get("alt") for tag, one in found.tags if tag == "img")
    assert all(one.get("aria-label") for _, one in found.tags if one.get("role") == "img")
    assert any(tag == "svg" for tag, _ in found.tags)


def test_tables_that_scroll_can_be_reached_by_keyboard():
    found = read(made_of(*three()))

    scrolling = [one for _, one in found.tags if one.get("class") == "scroll"]
    assert scrolling
    assert all(one.get("tabindex") == "0" and one.get("aria-label") for one in scrolling)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([], "No task has an annotation"),
        ([told(1, [annotated([])], [])], "had no prediction to compare with"),
        (
            [told(1, [annotated([], hour=1)], [predicted(1, [], hour=2)])],
            "all were made after the annotation",
        ),
    ],
)
def test_where_nothing_was_corrected_the_page_says_why(tasks, words):
    seen = made_of(*tasks)

    text = read(seen).text
    assert headline(seen) == ["Nobody has corrected a prediction yet."]
    assert words in text
    assert "Not measured" in text


def test_what_is_not_measured_is_said_with_its_reason():
    text = read(made_of(source=Tasks(three(), missing=frozenset({1, 2, 3})))).text

    assert "Not measured: no picture was at hand (there is nothing at the address)." in text


def test_advice_can_be_pasted():
    false = [
        told(n, [annotated([], parent=n)], [predicted(n, painted("red", TEN, score=0.2))])
        for n in range(1, 5)
    ]

    text = read(made_of(*false)).text

    assert "Raising model_score_threshold of “red” to 0.2 would remove up to 4 of 4" in text
    assert '<Label value="red" model_score_threshold="0.2"/>' in text


def test_the_newest_version_is_compared_with_the_one_before():
    old = [corrected(n, TEN, columns(10, 20), version="old") for n in range(1, 11)]
    new = [corrected(n, TEN, TEN, version="xnew") for n in range(11, 21)]

    text = read(made_of(*old, *new)).text

    assert (
        "With the newest version 100 % are taken as they are and 0 % redone; with the one before "
        "it was 0 % and 100 %."
    ) in text


def test_the_page_says_why_learning_is_or_is_not_switched_on():
    verdict = {"better": False, "reason": "not switched on: that may be chance", "tasks": 10}
    learnt = versions_in(
        [{"digest": None, "chosen": [1], "tasks": 10, "verdicts": {"seg": verdict}}]
    )

    text = read(replace(made_of(*three()), learnt=learnt)).text

    assert "Nothing learnt is switched on now." in text
    assert "not switched on: that may be chance" in text
    assert "Nothing learnt yet." in read(made_of()).text


def test_what_was_learnt_and_is_on_is_named():
    learnt = versions_in([{"digest": "abc", "tasks": 20, "state": "active", "verdicts": {}}])

    text = read(replace(made_of(), learnt=learnt)).text

    assert "Version abc, learnt from 20 tasks, is switched on." in text


def test_predictions_that_nobody_saw_are_told_apart():
    late = told(1, [annotated(painted("red", TEN), hour=2)], [predicted(5, [], hour=3)])

    assert "1 prediction here were not what" in read(made_of(late, *three()[1:])).text


def test_a_failed_comparison_is_named():
    broken = corrected(2, TEN, TEN)
    broken.predictions[0]["result"][0]["value"]["rle"] = [0]

    text = read(made_of(corrected(1, TEN, TEN), broken)).text

    assert "1 comparison could not be made; the reasons are below." in text
