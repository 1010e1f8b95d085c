"""Pictures of the difference."""

import numpy as np

from backend.report.comparing import Name, sides_of
from backend.report.panels import ADD, REMOVE, SWAP, Palette, panels

from ....doubles.corrections import PICTURE, columns, painted

RED, BLUE = Name("seg", "red"), Name("seg", "blue")


def shown(truth, predicted, image=PICTURE):
    (labels,) = sides_of(1, truth, predicted).values()
    found = panels(image, labels, Palette({}))
    assert found is not None
    return found


def colour_at(picture: np.ndarray, column: float) -> np.ndarray:
    height, width = picture.shape[:2]
    return picture[height // 2, int(width * (column + 0.5) / 20)].astype(int)


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether it is tinted so: masks are laid over grey."""
    tint = pixel - pixel.mean()
    wanted = np.array(colour) - np.mean(colour)
    return float((tint * wanted).sum()) > 0.8 * np.linalg.norm(tint) * np.linalg.norm(wanted)


def test_green_is_to_be_added_and_red_to_be_removed():
    found = shown(painted("red", columns(0, 10)), painted("red", columns(5, 15)))

    assert near(colour_at(found.difference, 2), ADD)
    assert near(colour_at(found.difference, 12), REMOVE)
    untouched = colour_at(found.difference, 7)
    assert np.ptp(untouched) < 3


def test_yellow_had_another_label():
    found = shown(painted("red", columns(0, 10)), painted("blue", columns(0, 10)))

    assert near(colour_at(found.difference, 4), SWAP)


def test_without_the_picture_masks_lie_on_grey():
    found = shown(painted("red", columns(0, 10)), [], image=None)

    assert found.picture is None
    assert near(colour_at(found.difference, 4), ADD)


def test_nothing_to_paint_is_no_panel():
    assert panels(None, {}, Palette({})) is None


def test_colours_are_the_configs_where_it_has_any_that_can_be_read():
    palette = Palette({RED: "#ff0000", BLUE: "no colour"})

    assert palette.colour(RED) == (255, 0, 0)
    assert palette.colour(BLUE) not in ((255, 0, 0), (0, 0, 0))
    assert palette.colour(BLUE) == palette.colour(BLUE)
