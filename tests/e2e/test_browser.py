"""What an annotator sees: masks painted where things are, in the colours of their labels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageColor

from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer

from .browser import Browser
from .pictures import TWO_BOXES, brush_config

PAINTS = {"red": "#FFFF00", "blue": "#00FF00"}  # as brush_config gives them out
EDGE = 3  # pixels next to a border, where the screen blends
TOOLS = 290  # column from which the editor's own tools may cover the picture


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "chromium") as window:
        yield window


def opacity(shown: np.ndarray, picture: np.ndarray, paint: str) -> np.ndarray:
    """How much of the paint covers every pixel, from 0 to 1, by the best fit of the blend."""
    towards = np.array(ImageColor.getrgb(paint), float) - picture
    moved = shown.astype(float) - picture
    return (moved * towards).sum(axis=2) / (towards**2).sum(axis=2)


def inner(mask: np.ndarray) -> np.ndarray:
    """The mask without its border."""
    smaller = mask.copy()
    for axis in (0, 1):
        for step in (-EDGE, EDGE):
            smaller &= np.roll(mask, step, axis)
    return smaller


def test_masks_are_painted_where_the_things_are_and_nowhere_else(
    browser: Browser, api: LabelStudioApi, label_studio: LabelStudioServer, service: str
):
    project = api.create_project("to look at", brush_config(tuple(PAINTS)))
    (task,) = api.upload(project, {"two.png": TWO_BOXES.to_png()}).values()
    api.connect(project, service)
    api.retrieve_predictions(project)
    picture = TWO_BOXES.image.astype(float)
    outside = inner(~(TWO_BOXES.truth("red") | TWO_BOXES.truth("blue")))

    account = label_studio.account
    browser.log_in(label_studio.url, account.email, account.password)
    regions = browser.open_prediction(label_studio.url, project, task)
    shown, visible = browser.painted_picture(
        TWO_BOXES.size_hw,
        until=lambda now: all(
            opacity(now, picture, paint)[TWO_BOXES.truth(word)].mean() > 0.3
            for word, paint in PAINTS.items()
        ),
    )

    assert sorted(region["labels"] for region in regions) == [["blue"], ["red"]]
    for word, paint in PAINTS.items():
        inside = inner(TWO_BOXES.truth(word)) & visible
        cover = opacity(shown, picture, paint)[inside]
        assert np.percentile(cover, 2) > 0.3, f"{word} is not painted everywhere"
        blend = picture[inside] + cover[:, None] * (
            np.array(ImageColor.getrgb(paint)) - picture[inside]
        )
        assert np.abs(blend - shown[inside]).max() < 12, f"{word} is painted in another colour"
    outside &= inner(visible)
    outside[:, TOOLS:] = False
    unchanged = np.abs(shown[outside] - picture[outside]).max(axis=1) < 12
    assert unchanged.mean() > 0.999, "something is painted where nothing was found"
