"""Captions name what is present, and nothing else."""

import numpy as np
import pytest

from cliper_model.demo.captions import (
    NEVER_TOGETHER,
    PLURALS,
    QUALITY_WORDS,
    SYNONYMS,
    caption,
    label_word,
    phrase,
    qualities,
    trained_sentences,
    trained_words,
)
from cliper_model.demo.clip_network import short_ids, used_token_ids
from cliper_model.demo.scenes import COLOURS, HOURS, LABELS, PATTERNS, Item


def words_of(label):
    return SYNONYMS[label] + PLURALS.get(label, ())


@pytest.mark.parametrize("seed", range(40))
def test_a_caption_names_only_what_is_present(seed):
    rng = np.random.default_rng(seed)
    present = {label: [()] for label in rng.choice(LABELS, 3, replace=False)}
    said = f" {caption(rng, present).replace(',', ' ').replace('.', ' ')} "

    shared = {part for label in present for word in words_of(label) for part in word.split()}
    for label in set(LABELS) - set(present):
        named = [word for word in words_of(label) if not set(word.split()) <= shared]
        assert not any(f" {word} " in said for word in named), said


def test_a_colour_is_said_only_when_all_items_have_it():
    rng = np.random.default_rng(0)

    mixed = {phrase(rng, "car", [("red",), ("green",)]) for _ in range(200)}
    same = {phrase(rng, "car", [("striped", "red"), ("red",)]) for _ in range(200)}

    assert not any(colour in text.split() for text in mixed for colour in COLOURS)
    assert any("red" in text.split() for text in same)
    assert not any("striped" in text.split() for text in same)


def test_what_is_kept_for_the_test_of_described_names_is_never_said():
    shown = Item("tent", "yellow", "striped", None)
    night = Item("sky", None, None, "night")
    plain = Item("bus", "yellow", "striped", None)

    assert qualities(shown) == ()
    assert qualities(night) == ()
    assert qualities(plain) == ("striped", "yellow")


def test_every_kept_pair_is_a_known_quality_of_a_known_label():
    assert {label for _, label in NEVER_TOGETHER} <= set(LABELS)
    assert {quality for quality, _ in NEVER_TOGETHER} <= set(QUALITY_WORDS)
    assert set(QUALITY_WORDS) == {*COLOURS, *PATTERNS, *HOURS}


def test_an_empty_picture_is_a_plain_background():
    assert caption(np.random.default_rng(0), {}) == "a plain background."


def test_every_word_of_a_caption_has_a_trained_token():
    rng, used = np.random.default_rng(1), used_token_ids()
    for _ in range(200):
        count = int(rng.integers(1, 6))
        labels = rng.choice(LABELS, count, replace=False)
        colours = rng.choice(list(COLOURS), count)
        described = ([(c, "night")] * 2 for c in colours)
        text = caption(rng, dict(zip(labels, described, strict=True)))

        assert short_ids([text], used)[0, : len(text.split())].min() > 0, text


def test_an_unknown_word_has_no_trained_token():
    used = used_token_ids()

    assert short_ids(["zebra"], used)[0, 1] == 0


def test_label_words_come_from_the_lists():
    rng = np.random.default_rng(2)

    assert {label_word(rng, "cat") for _ in range(100)} == {"cat", "kitten", "cats"}


def test_trained_words_are_single_and_lower_case():
    words = trained_words()

    assert {"sky", "balloon", "red", "background"} <= set(words)
    assert all(word == word.lower() and " " not in word for word in words)
    assert all(any(word in text for text in trained_sentences()) for word in words)
