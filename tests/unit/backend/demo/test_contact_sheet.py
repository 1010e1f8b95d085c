"""The contact sheet shows every picture three times, and only labels that matter."""

import numpy as np

from backend.demo.contact_sheet import PANEL, draw, paint
from backend.demo.projects import Picture
from backend.demo.report import Answer

TOP = np.zeros((8, 8), bool)
TOP[:4] = True


def picture(size: int = 8) -> Picture:
    image = np.full((size, size, 3), 90, np.uint8)
    return Picture(name="one.png", image=image, truth={"sky": np.resize(TOP, (size, size))})


def test_only_pixels_of_a_mask_take_its_colour():
    shown = paint(np.full((8, 8, 3), 100, np.uint8), {"sky": TOP}, {"sky": (0, 0, 255)})

    inside, outside = shown[1, 4], shown[6, 4]
    assert inside[2] > inside[0] + 100
    assert outside[0] == outside[1] == outside[2]


def test_painting_leaves_the_picture_itself_alone():
    image = np.full((8, 8, 3), 100, np.uint8)

    paint(image, {"sky": TOP}, {"sky": (0, 0, 255)})

    assert (image == 100).all()


def test_a_sheet_grows_by_rows_of_three_pictures():
    answer = Answer(masks={}, regions=(), model_version="v")

    three = draw(("sky",), [picture()] * 3, [answer] * 3, "three")
    four = draw(("sky",), [picture()] * 4, [answer] * 4, "four")

    assert three.width == four.width
    assert four.height - three.height > PANEL


def test_pictures_of_any_size_fit_on_the_sheet():
    answer = Answer(masks={"sky": np.resize(TOP, (30, 30))}, regions=("sky",), model_version="v")

    sheet = draw(("sky",), [picture(30)], [answer], "one")

    assert sheet.width > 3 * PANEL
