"""Training crops: where they come from, what they never do."""

from typing import Any

import numpy as np
import pytest

from cliper_model.student.crops import MEAN_COLOUR, CropConfig, distorted, draw_crop, scaled
from cliper_model.student.labels import IGNORE, UNLABELLED

PLAIN: dict[str, Any] = {"scales": (1.0, 1.0), "flip": 0.0, "photometric": False}


def waiting(height: int, width: int) -> np.ndarray:
    return np.full((height, width), UNLABELLED)


def test_the_same_generator_draws_the_same_bytes(picture: Any) -> None:
    image, config = picture(60, 90), CropConfig(side=32, short_side=48)

    def draw(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        crop, labels = draw_crop(image, waiting(60, 90), config=config, rng=rng)
        return crop.tobytes() + labels.tobytes()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_labels_move_with_their_pixels() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (40, 56))
    image = np.repeat(values[..., None], 3, axis=2).astype(np.uint8)
    config = CropConfig(side=24, short_side=40, **{**PLAIN, "flip": 0.5})

    for seed in range(8):  # flipped and not
        crop, labels = draw_crop(image, values, config=config, rng=np.random.default_rng(seed))

        np.testing.assert_array_equal(crop[..., 0], labels)


def test_a_picture_smaller_than_the_crop_is_filled_up_and_never_trained_on() -> None:
    image = np.full((10, 20, 3), 200, np.uint8)
    config = CropConfig(side=16, short_side=10, **PLAIN)

    crop, labels = draw_crop(
        image, np.zeros((10, 20), np.int64), config=config, rng=np.random.default_rng(0)
    )

    assert crop.shape == (16, 16, 3)
    assert (labels[10:] == IGNORE).all()
    assert (labels[:10] == 0).all()
    assert (crop[10:] == MEAN_COLOUR).all()


def test_a_window_of_one_class_only_is_drawn_again() -> None:
    labels = np.zeros((16, 256), np.int64)
    labels[:, 248:] = 1  # few windows see both classes
    image = np.zeros((16, 256, 3), np.uint8)
    config = CropConfig(side=16, short_side=16, **PLAIN)

    def both(limit: float) -> int:
        chosen = CropConfig(**{**config.__dict__, "most_of_one_class": limit})
        draws = (
            draw_crop(image, labels, config=chosen, rng=np.random.default_rng(seed))[1]
            for seed in range(40)
        )
        return sum(len(np.unique(one)) == 2 for one in draws)

    assert both(0.75) > both(1.01)


def test_a_window_of_waiting_pixels_is_not_drawn_again(picture: Any) -> None:
    image, labels = picture(16, 200), waiting(16, 200)

    def draw(limit: float) -> np.ndarray:
        config = CropConfig(side=16, short_side=16, most_of_one_class=limit, **PLAIN)
        return draw_crop(image, labels, config=config, rng=np.random.default_rng(3))[0]

    np.testing.assert_array_equal(draw(0.75), draw(1.01))


def test_scaling_keeps_the_ratio_and_every_label_number() -> None:
    labels = np.array([[0, 7], [IGNORE, UNLABELLED]]).repeat(10, axis=0).repeat(15, axis=1)
    image = np.zeros((20, 30, 3), np.uint8)

    bigger, moved = scaled(
        image, labels, scale=2.0, config=CropConfig(side=8, short_side=20, long_side=999)
    )

    assert bigger.shape == (40, 60, 3)
    np.testing.assert_array_equal(moved, labels.repeat(2, axis=0).repeat(2, axis=1))


def test_a_long_picture_is_held_below_the_longest_side() -> None:
    config = CropConfig(side=8, short_side=20, long_side=50)

    image, labels = scaled(
        np.zeros((10, 100, 3), np.uint8), np.zeros((10, 100), np.int64), scale=1.0, config=config
    )

    assert image.shape == (5, 50, 3)
    assert labels.shape == (5, 50)


def test_distortion_changes_colours_and_nothing_else(picture: Any) -> None:
    image = picture(20, 30)
    before = image.copy()

    changed = [distorted(image, rng=np.random.default_rng(seed)) for seed in range(12)]

    np.testing.assert_array_equal(image, before)
    assert {one.shape for one in changed} == {image.shape}
    assert sum(not np.array_equal(one, image) for one in changed) > 6


def test_grey_stays_grey_under_hue_and_saturation() -> None:
    grey = np.full((4, 4, 3), 90, np.uint8)

    for seed in range(12):
        changed = distorted(grey, rng=np.random.default_rng(seed))

        assert int(changed.max(axis=2).max()) - int(changed.min(axis=2).min()) <= 1


@pytest.mark.parametrize("wrong", [{"side": 0}, {"scales": (2.0, 0.5)}, {"scales": (0.0, 1.0)}])
def test_impossible_crops_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least one pixel|must be positive and rise"):
        CropConfig(**wrong)
