"""Styles: other pictures with the same exact masks, and none of them in the training."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

from cliper_model import demo
from cliper_model.demo.scene_store import draw_store
from cliper_model.demo.scenes import LABEL_IDS, STYLES, Scene, UnknownStyle, make_scene
from cliper_model.demo.scenes.canvas import SUPERSAMPLING, Canvas, Drawing
from cliper_model.demo.scenes.names import STUFF
from cliper_model.demo.scenes.palette import GLASS
from cliper_model.demo.scenes.styles import aerial, flat, from_above, geometry, night
from cliper_model.demo.scenes.things import place

RENDERED = ("flat", "pencil", "night", "palette")


def drawn(seed: int, style: str, size: int = 96) -> Scene:
    return make_scene(np.random.default_rng(seed), size, style=style)


def one_thing(label: str) -> Drawing:
    canvas = Canvas(np.random.default_rng(0), (96, 96))
    ground = canvas.new_item("grass", textured=0)
    canvas.polygon(ground, [(0, 0), (1, 0), (1, 1), (0, 1)], (95, 180, 80))
    place(canvas, label, 0.5, 0.8, 0.6)
    return canvas.drawing()


def hues(pixels: np.ndarray) -> np.ndarray:
    """Mean colour `[3]` less its grey part."""
    mean = pixels.reshape(-1, 3).mean(0)
    return np.asarray(mean - mean.min())


def test_these_are_the_styles():
    assert tuple(STYLES) == ("storybook", "flat", "pencil", "night", "aerial", "palette")


@pytest.mark.parametrize("seed", range(4))
def test_the_storybook_is_what_is_drawn_unless_told_otherwise(seed):
    told, untold = drawn(seed, "storybook"), make_scene(np.random.default_rng(seed), 96)

    assert told.image.tobytes() == untold.image.tobytes()
    assert told.instances.tobytes() == untold.instances.tobytes()
    assert told.items == untold.items


@pytest.mark.parametrize("style", STYLES)
def test_the_same_seed_draws_the_same_bytes_in_every_style(style):
    first, again = drawn(7, style), drawn(7, style)

    assert first.image.tobytes() == again.image.tobytes()
    assert first.instances.tobytes() == again.instances.tobytes()
    assert first.items == again.items


@pytest.mark.parametrize("style", RENDERED)
@pytest.mark.parametrize("seed", range(8))
def test_masks_and_items_of_a_seed_are_those_of_the_storybook(style, seed):
    scene, usual = drawn(seed, style), drawn(seed, "storybook")

    np.testing.assert_array_equal(scene.instances, usual.instances)
    assert scene.items == usual.items
    assert np.abs(scene.image.astype(int) - usual.image).mean() > 5


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size_hw", [(64, 64), (48, 96), (96, 48), (33, 200)])
def test_every_style_may_have_any_shape(style, size_hw):
    scene = make_scene(np.random.default_rng(3), size_hw=size_hw, style=style)

    assert scene.image.shape == (*size_hw, 3)
    assert scene.image.dtype == scene.instances.dtype == np.uint8
    assert scene.instances.shape == size_hw
    assert scene.instances.max() <= len(scene.items)


def test_an_unknown_style_is_refused_with_the_names_of_all():
    with pytest.raises(UnknownStyle) as refused:
        drawn(0, "oil")

    assert str(refused.value) == (
        "unknown style 'oil'; choose one of: storybook, flat, pencil, night, aerial, palette"
    )


def test_a_poster_has_one_colour_per_band_and_nothing_uneven():
    drawing = one_thing("snowman")

    image = flat.render(drawing, np.random.default_rng(0))

    grass = image[drawing.instances == 1]
    assert len(np.unique(grass[:, 1])) < 40  # all from the soft outline of the snowman
    assert (grass == np.median(grass, axis=0)).all(1).mean() > 0.9


def test_a_pencil_drawing_is_grey_and_darkest_along_outlines():
    scene = drawn(2, "pencil", 192)
    image, numbers = scene.image.astype(int), scene.instances.astype(int)

    edge = np.zeros(numbers.shape, bool)
    edge[:, 1:] |= np.diff(numbers, axis=1) != 0
    edge[1:] |= np.diff(numbers, axis=0) != 0

    assert (image.max(-1) - image.min(-1)).max() < 16
    assert image[edge].mean() < image[~edge].mean() - 40


def test_a_darker_ground_is_hatched_more():
    canvas = Canvas(np.random.default_rng(0), (96, 96))
    for top, colour in ((0.0, (240, 240, 240)), (0.33, (150, 150, 150)), (0.66, (60, 60, 60))):
        item = canvas.new_item("road", textured=0)
        canvas.polygon(item, [(0, top), (1, top), (1, 1), (0, 1)], colour)
    drawing = canvas.drawing()

    image = STYLES["pencil"].render(drawing, canvas.rng)

    light, middle, dark = (image[drawing.instances == k].mean() for k in (1, 2, 3))
    assert light > middle + 8 > dark + 16


def test_at_night_it_is_dark_and_bluish_but_windows_are_not():
    drawing = one_thing("house")

    image = night.render(drawing, np.random.default_rng(0))

    fine = (drawing.colours == GLASS).all(-1)
    window = fine[::SUPERSAMPLING, ::SUPERSAMPLING] & fine[1::SUPERSAMPLING, 1::SUPERSAMPLING]
    corner = image[:20, :20].reshape(-1, 3).mean(0)
    assert window.any()
    assert image[window].mean() > 150
    assert corner.mean() < 90
    assert corner[2] > 1.2 * corner[0]


@pytest.mark.parametrize("label", ["moon", "star", "lamp"])
def test_what_shines_at_night_stays_bright(label):
    drawing = one_thing(label)

    image = night.render(drawing, np.random.default_rng(0))

    inside, outside = image[drawing.instances == 2], image[drawing.instances == 1]
    assert np.quantile(inside.max(-1), 0.9) > 200
    assert outside.mean() < 110


def test_no_grass_is_green_in_another_palette():
    seen = 0
    for seed in range(40):
        scene, usual = drawn(seed, "palette", 64), drawn(seed, "storybook", 64)
        grass = usual.masks().get("grass")
        if grass is None or grass.sum() < 200:
            continue
        seen += 1
        before, after = hues(usual.image[grass]), hues(scene.image[grass])
        assert before.argmax() == 1
        assert after[1] < 1.02 * after.max()
        assert after[1] < after[[0, 2]].max() + 3
    assert seen > 8


@pytest.mark.parametrize("seed", range(6))
def test_from_above_every_pixel_belongs_to_a_labelled_item(seed):
    scene = drawn(seed, "aerial", 128)

    assert scene.instances.min() >= 1
    assert scene.instances.max() <= len(scene.items) <= 255
    assert (scene.label_map() > 0).all()
    assert "sky" not in scene.masks()


def test_from_above_all_that_is_offered_turns_up_and_is_small():
    seen: set[str | None] = set()
    for seed in range(30):
        scene = drawn(seed, "aerial", 128)
        seen |= {item.label for item in scene.items}
        for number, item in enumerate(scene.items, 1):
            if item.label not in STUFF:
                assert (scene.instances == number).mean() < 0.12

    assert seen == {"grass", "sand", "snow", "sea", "road", *from_above.TABLE}
    assert seen <= set(LABEL_IDS)


def test_from_above_things_cast_shadows_to_one_side():
    canvas = Canvas(np.random.default_rng(0), (96, 96))
    ground = canvas.new_item("snow", textured=0)
    canvas.polygon(ground, [(0, 0), (1, 0), (1, 1), (0, 1)], (200, 200, 200))
    place(canvas, "tree", 0.5, 0.7, 0.4, table=from_above.TABLE)
    drawing = canvas.drawing()

    image = aerial.render(drawing, canvas.rng).mean(-1)

    shadow = geometry.moved(drawing.instances == 2, 1) & (drawing.instances == 1)
    assert image[shadow].mean() < 0.8 * image[:20, :20].mean()


def test_a_cut_polygon_keeps_its_area():
    square = [(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (0.0, 1.0)]

    left, right = geometry.cut(square, (0.5, 0.5), np.pi / 2)

    assert sorted([geometry.area(left), geometry.area(right)]) == pytest.approx([0.5, 1.5])


def test_a_line_beside_the_piece_cuts_nothing_off():
    square = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]

    parts = geometry.cut(square, (3.0, 0.5), np.pi / 2)

    assert sorted(len(part) for part in parts) == [0, 4]


def test_stores_of_training_validation_and_test_are_storybook_only(tmp_path):
    store = draw_store(tmp_path, count=2, seed=11, size=48, workers=1, progress=False)

    rng = np.random.default_rng((11, 0))
    for index in range(2):
        scene = make_scene(rng, 48, style="storybook")
        np.testing.assert_array_equal(store.images[index], scene.image)
        np.testing.assert_array_equal(store.instances[index], scene.instances)
    assert "style" not in inspect.signature(draw_store).parameters


TRAINING = [
    "clip_batches", "clip_training", "coarse_maps", "scene_store", "unet_training", "vae_training",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAINING)
def test_no_module_of_the_training_names_a_style(name):
    module = Path(demo.__file__).with_name(f"{name}.py")

    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.keyword) and node.arg == "style")
        assert not (isinstance(node, ast.ImportFrom) and "styles" in (node.module or ""))
        assert not (isinstance(node, ast.alias) and node.name in ("styles", "StyledScenes"))
