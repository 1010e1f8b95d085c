"""Scenes by index, from wherever they come."""

import numpy as np
import pytest

from cliper_model.demo.scene_sources import (
    OtherScenes,
    StoredScenes,
    StyledScenes,
    UnusableGenerator,
)
from cliper_model.demo.scene_store import draw_store
from cliper_model.demo.scenes import LABEL_IDS

HALF_SEA = """
import numpy as np

def scene(rng, size=192):
    instances = np.zeros((size, size), np.uint8)
    instances[size // 2:] = 2
    image = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    return image, instances, [(None, None), ("sea", None)]
"""


@pytest.fixture
def generator(tmp_path):
    """Write a generator file."""

    def write(text):
        path = tmp_path / "scenes.py"
        path.write_text(text)
        return OtherScenes(path, seed=0)

    return write


def test_another_generator_draws_pictures_and_label_ids(generator):
    image, truth = generator(HALF_SEA).open()(3)

    assert image.shape == (192, 192, 3)
    assert set(truth[:96].ravel()) == {0}
    assert set(truth[96:].ravel()) == {LABEL_IDS["sea"]}


def test_a_scene_depends_on_its_number_alone(generator):
    draw, again = generator(HALF_SEA).open(), generator(HALF_SEA).open()

    np.testing.assert_array_equal(draw(1)[0], again(1)[0])
    assert (draw(1)[0] != draw(2)[0]).any()


def test_the_checksum_is_that_of_the_file(generator):
    assert generator(HALF_SEA).sha256() != generator(HALF_SEA + "#").sha256()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1", "lacks a function scene"),
        (HALF_SEA.replace('"sea"', '"lava"'), "'lava' is no label of ours"),
        (HALF_SEA.replace("= 2", "= 3"), "instances must number the items"),
        (HALF_SEA.replace(", 3)).astype", ", 4)).astype"), "pictures must be uint8"),
    ],
)
def test_a_file_that_draws_no_scenes_of_ours_is_refused(generator, text, sentence):
    with pytest.raises(UnusableGenerator, match=sentence):
        generator(text).open()(0)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UnusableGenerator, match="there is no file"):
        OtherScenes(tmp_path / "none.py", seed=0).open()


def test_stored_scenes_are_those_of_the_store(tmp_path):
    store = draw_store(tmp_path, count=2, seed=9, workers=1, progress=False)

    image, truth = StoredScenes(tmp_path).open()(1)

    np.testing.assert_array_equal(image, store.images[1])
    np.testing.assert_array_equal(truth, store.label_map(1))


def test_a_style_changes_the_picture():
    plain, flat = (StyledScenes(style, seed=0).open()(0) for style in ("storybook", "flat"))

    assert (plain[0] != flat[0]).any()
    np.testing.assert_array_equal(plain[1], flat[1])
