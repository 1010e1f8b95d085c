"""Pictures are kept for a while, and shown as any browser can."""

import io

import numpy as np
import pytest
from PIL import Image

from backend.errors import ImageTooLarge, PictureGone
from backend.labelstudio.tasks import Task
from backend.playground.kept import Shelf, for_browsers


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_picture_is_found_by_its_id() -> None:
    shelf = Shelf()

    kept = shelf.put(b"file", noise(4, 6), name="a.png")

    assert shelf.get(kept.id) is kept
    assert kept.size_hw == (4, 6)


def test_the_same_file_is_another_picture_for_another_task() -> None:
    shelf, pixels = Shelf(), noise(4, 6)

    ids = {
        shelf.put(b"file", pixels, name="a", task=task, project="1.0").id
        for task in (None, Task(1), Task(2), Task(1))
    }

    assert len(ids) == 3


def test_who_was_not_asked_for_the_longest_goes_first() -> None:
    size = len(for_browsers(noise(40, 40))) + 2000
    shelf = Shelf(most_bytes=int(2.5 * size))
    first, second = (shelf.put(bytes([n]), noise(40, 40, n), name="a") for n in (1, 2))
    shelf.get(first.id)

    shelf.put(b"3", noise(40, 40, 3), name="a")

    assert shelf.get(first.id) is first
    with pytest.raises(PictureGone, match="choose it again"):
        shelf.get(second.id)


def test_a_picture_that_does_not_fit_at_all_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="cliper segment"):
        Shelf(most_bytes=100).put(b"file", noise(40, 40), name="a")


def test_small_pictures_are_shown_without_loss() -> None:
    pixels = noise(30, 50)

    shown = Image.open(io.BytesIO(for_browsers(pixels)))

    np.testing.assert_array_equal(np.asarray(shown), pixels)


def test_large_pictures_are_shown_smaller() -> None:
    shown = Image.open(io.BytesIO(for_browsers(np.zeros((300, 8192, 3), np.uint8))))

    assert shown.format == "JPEG"
    assert shown.size == (4096, 150)
