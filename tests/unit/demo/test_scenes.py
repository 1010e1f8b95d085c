"""The scene generator: repeatable pictures with exact masks."""

import numpy as np
import pytest

from cliper_model.demo.captions import SYNONYMS
from cliper_model.demo.scenes import (
    COLOURS,
    HOURS,
    LABEL_IDS,
    LABELS,
    PATTERNS,
    STUFF,
    make_scene,
)
from cliper_model.demo.scenes.canvas import Canvas
from cliper_model.demo.scenes.layouts import FREQUENCIES, INDOORS, OUTDOORS
from cliper_model.demo.scenes.styles import storybook
from cliper_model.demo.scenes.things import TABLE, place


def test_the_same_seed_draws_the_same_bytes():
    first = make_scene(np.random.default_rng(7))
    again = make_scene(np.random.default_rng(7))

    assert first.image.tobytes() == again.image.tobytes()
    assert first.instances.tobytes() == again.instances.tobytes()
    assert first.items == again.items


def test_another_seed_draws_another_scene():
    first, other = (make_scene(np.random.default_rng(seed)) for seed in (7, 8))

    assert (first.image != other.image).any()


@pytest.mark.parametrize("seed", range(12))
def test_every_labelled_pixel_belongs_to_an_item(seed):
    scene = make_scene(np.random.default_rng(seed))

    label_map = scene.label_map()

    assert scene.image.shape == (192, 192, 3)
    assert scene.image.dtype == scene.instances.dtype == np.uint8
    assert scene.instances.max() <= len(scene.items)
    for y, x in np.argwhere(label_map > 0)[::997]:
        label = scene.items[scene.instances[y, x] - 1].label
        assert label_map[y, x] == LABEL_IDS[label]


@pytest.mark.parametrize("seed", range(6))
def test_masks_are_disjoint_and_cover_what_is_labelled(seed):
    scene = make_scene(np.random.default_rng(seed))

    masks = scene.masks()

    together = np.sum([mask for mask in masks.values()], axis=0)
    np.testing.assert_array_equal(together, scene.label_map() > 0)
    assert all(mask.any() for mask in masks.values())


@pytest.mark.parametrize("size_hw", [(96, 160), (160, 96), (64, 64)])
def test_a_canvas_may_have_any_shape(size_hw):
    scene = make_scene(np.random.default_rng(3), size_hw=size_hw)

    assert scene.image.shape == (*size_hw, 3)
    assert scene.instances.shape == size_hw


def test_every_label_and_every_layout_turns_up():
    rng, seen = np.random.default_rng(0), set()
    for _ in range(120):
        seen |= {item.label for item in make_scene(rng, 32).items if item.label}

    assert seen == set(LABELS)
    assert set(FREQUENCIES) == set(INDOORS) | set(OUTDOORS)
    assert sum(FREQUENCIES.values()) == pytest.approx(1)


def test_there_are_34_labels_and_each_has_words():
    assert len(LABELS) == 34
    assert set(SYNONYMS) == set(LABELS)
    assert set(TABLE) == set(LABELS[7:])


def test_items_say_what_is_drawn():
    rng, seen = np.random.default_rng(4), []
    for _ in range(60):
        seen += make_scene(rng, 32).items

    assert {item.pattern for item in seen} == {None, *PATTERNS}
    assert {item.hour for item in seen} == {None, *HOURS}
    assert {item.colour for item in seen} <= {None, *COLOURS}
    assert all(item.label in STUFF for item in seen if item.hour)
    assert all(item.label not in STUFF for item in seen if item.pattern or item.colour)


def test_a_thing_is_drawn_in_the_colour_asked_for():
    canvas = Canvas(np.random.default_rng(0), (96, 96))

    number = place(canvas, "ball", 0.5, 0.8, 0.6, colour_word="green")
    drawing = canvas.drawing()
    image = storybook.render(drawing, canvas.rng)

    red, green, blue = image[drawing.instances == number].mean(0)
    assert drawing.items[number - 1].colour == "green"
    assert green > max(red, blue)


def test_a_bold_pattern_is_named_and_seen():
    canvas = Canvas(np.random.default_rng(0), (96, 96))
    number = canvas.new_item("tent", textured=0)
    canvas.polygon(number, [(0, 0), (1, 0), (1, 1), (0, 1)], (120, 120, 120))
    canvas.pattern(number, "striped")

    drawing = canvas.drawing()

    assert drawing.items[number - 1].pattern == "striped"
    assert storybook.render(drawing, canvas.rng).std() > 25
