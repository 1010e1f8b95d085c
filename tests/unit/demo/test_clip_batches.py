"""Training crops: what they are said to show is what they show."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cliper_model.demo.captions import NEVER_TOGETHER, QUALITY_WORDS, SYNONYMS
from cliper_model.demo.clip_batches import BALANCED, Catalogue, draw_batch
from cliper_model.demo.scene_store import COLOUR_WORDS, SceneStore, draw_store
from cliper_model.demo.scenes import LABEL_IDS, LABELS, THINGS, Item

from ...doubles.scene_stores import store_of

CARS = (Item("car", "red"), Item("car", "green", "striped"), Item("car", "blue"))


def batches(store, count=60):
    catalogue = Catalogue(store)
    for seed in range(count):
        yield draw_batch(catalogue, np.random.default_rng(seed), size=64, count=2)


def test_the_same_seed_draws_the_same_batch():
    catalogue = Catalogue(store_of(CARS))

    first, again = (
        draw_batch(catalogue, np.random.default_rng(3), size=64, count=3) for _ in range(2)
    )

    assert first.captions == again.captions
    assert first.images.equal(again.images)
    assert first.patch_labels.equal(again.patch_labels)


def test_patch_shares_sum_to_one_and_name_only_what_is_there():
    for batch in batches(store_of(CARS), 5):
        assert batch.patch_labels.sum(-1).allclose(batch.patch_labels.new_ones(2, 64))
        assert set(batch.patch_labels.sum((0, 1)).nonzero().flatten().tolist()) == {
            LABEL_IDS["car"]
        }


def test_descriptions_stand_for_the_name_and_others_of_the_label_are_unlabelled():
    right = wrong = 0
    for batch in batches(store_of(CARS)):
        words = batch.described_words
        if words is None:
            continue
        car = LABELS.index("car")
        assert words.replaced.nonzero().flatten().tolist() == [car]
        assert not words.patch_labels[..., 1 + car].any()
        shares = words.patch_labels[..., 1 + len(LABELS) :].sum((0, 1))
        for text, share in zip(words.prompts, shares, strict=True):
            shown = any(f"{word} " in text for word in ("red", "green", "striped", "stripy"))
            right, wrong = right + shown, wrong + (not shown)
            assert shown or not share, text
        assert not any("blue" in text for text in words.prompts)
    assert right > 10
    assert wrong > 10


def test_what_cannot_be_told_counts_nowhere():
    plain = (Item("house", "red"), Item("house"))  # the second one has no colour that has a word
    asked = [words for b in batches(store_of(plain)) if (words := b.described_words)]

    assert asked
    assert any(float(words.patch_labels.sum(-1).min()) == 0 for words in asked)


def test_no_prompt_says_what_is_kept_for_the_test(tmp_path):
    store = draw_store(tmp_path, count=60, seed=11, size=64, workers=1, progress=False)
    catalogue = Catalogue(store)
    kept = {
        f"{word} {name}"
        for quality, label in NEVER_TOGETHER
        for word in QUALITY_WORDS[quality]
        for name in SYNONYMS[label]
    }

    said = ""
    for seed in range(40):
        batch = draw_batch(catalogue, np.random.default_rng(seed), size=64, count=8)
        described = batch.described_words.prompts if batch.described_words else []
        said += " | ".join([*batch.captions, *batch.searches.prompts, *described])

    assert any(f"{colour} " in said for colour in COLOUR_WORDS)
    assert not [name for name in kept if re.search(rf"\b{name}\b", said)]


def test_every_thing_is_drawn_about_as_often(tmp_path):
    rare = store_of((Item("sky", hour="day"), Item("star")), scenes=1)
    common = store_of((Item("sky", hour="day"), Item("house")), scenes=30)
    both = SceneStore(
        *(
            np.concatenate([getattr(common, name), getattr(rare, name)])
            for name in SceneStore.__dataclass_fields__
        )
    )
    catalogue, rng = Catalogue(both), np.random.default_rng(0)

    drawn = [catalogue.any_thing(rng) for _ in range(200)]

    stars = sum(label == "star" for label in drawn)
    assert 70 < stars < 130
    assert 0 < BALANCED < 1


def test_a_store_without_things_is_drawn_anywhere():
    store = store_of((Item("sky", hour="day"), Item()))
    batch = draw_batch(Catalogue(store), np.random.default_rng(0), size=64, count=2)

    assert Catalogue(store).any_thing(np.random.default_rng(0)) is None
    assert batch.tags[:, LABELS.index("sky")].any()
    assert not batch.tags[:, [LABELS.index(label) for label in THINGS]].any()


@pytest.mark.parametrize("size", [64, 80])
def test_a_described_mask_is_the_share_of_that_item(size):
    catalogue = Catalogue(store_of((Item("car", "red"), Item("car", "green"))))
    for seed in range(10):
        batch = draw_batch(catalogue, np.random.default_rng(seed), size=size, count=1)
        column = LABEL_IDS["car"]
        for text, mask in zip(
            batch.searches.prompts, batch.searches.masks.unbind(-1), strict=False
        ):
            if "red" in text or "green" in text:
                assert (mask <= batch.patch_labels[..., column]).all()
            else:
                assert not mask.any(), text


def test_a_search_knows_which_item_is_right_and_which_are_rivals():
    blue = [Item("car", "red"), Item("car", "blue"), Item("boat", "blue"), Item("sea", hour="day")]
    ends = set()
    for batch in batches(store_of(blue)):
        searches = batch.searches
        for column, text in enumerate(searches.prompts):
            items = {
                name: {int(number) - 1 for number in table[:, 1:5, column].any(0).nonzero() + 1}
                for name, table in (("fits", searches.fits), ("rivals", searches.rivals))
            }
            seen = searches.fits[..., column] | searches.rivals[..., column]
            assert not (searches.fits & searches.rivals).any()
            assert searches.items.sum(1)[seen].allclose(searches.items.new_ones(()))
            if "red car" in text:
                assert items["fits"] <= {0}
                assert items["rivals"] <= {1}
                ends.add("red car")
            if "blue thing" in text or "blue object" in text:
                assert items["fits"] <= {1, 2}
                assert items["rivals"] <= {0}
                ends.add("blue thing")
            if "day time" in text:
                assert items["fits"] <= {3}
                assert not items["rivals"]
                ends.add("day")
    assert ends == {"red car", "blue thing", "day"}


def test_items_that_no_text_may_describe_are_not_taught_to_be_nothing():
    blue = (Item("car", "red"), Item("car", "blue"))
    asked = [words for batch in batches(store_of(blue)) if (words := batch.described_words)]

    reds = [words for words in asked if any("red" in text for text in words.prompts)]
    assert reds
    for words in reds:
        assert not words.patch_labels[..., 0].any()
    assert any(words.patch_labels.sum(-1).min() < 0.01 for words in reds)


def test_a_joined_crop_shows_parts_of_two_scenes():
    day = store_of((Item("grass", hour="day"), Item("house", "red")), scenes=2)
    night = store_of((Item("sand", hour="night"), Item("car", "green")), scenes=2)
    both = SceneStore(
        *(
            np.concatenate([getattr(day, name), getattr(night, name)])
            for name in SceneStore.__dataclass_fields__
        )
    )
    joined = 0
    for batch in batches(both, 150):
        areas = batch.patch_labels[..., 1:].sum(1)
        houses, cars = (areas[:, LABELS.index(label)] > 0 for label in ("house", "car"))
        joined += int((houses & cars).sum())
        assert batch.patch_labels.sum(-1).allclose(batch.patch_labels.new_ones(2, 64))
    assert joined > 3


def test_a_batch_moves_as_a_whole():
    batch = next(b for b in batches(store_of(CARS)) if b.described_words)

    moved = batch.to(batch.images.device)

    assert moved.described_words.patch_labels.equal(batch.described_words.patch_labels)
    assert replace(batch, described_words=None).to(batch.images.device).described_words is None
