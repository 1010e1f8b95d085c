"""`cliper scenes`: folders of drawn scenes from the command line."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.__main__ import main
from backend.cli import scenes
from cliper_model.demo.scenes import STYLES, make_scene


def first_picture(folder: Path, *more: str) -> np.ndarray:
    assert main(["scenes", "-n", "1", "--seed", "5", "--out", str(folder), *more]) == 0
    return np.asarray(Image.open(folder / "scene-5-0000.png"))


def test_without_a_style_the_storybook_is_drawn(tmp_path):
    found = first_picture(tmp_path)

    np.testing.assert_array_equal(found, make_scene(np.random.default_rng((5, 0))).image)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_can_be_drawn(tmp_path, style):
    found = first_picture(tmp_path, "--style", style)

    wanted = make_scene(np.random.default_rng((5, 0)), style=style)
    np.testing.assert_array_equal(found, wanted.image)


def test_an_unknown_style_ends_as_one_sentence(tmp_path, capsys):
    status = main(["scenes", "--style", "oil", "--out", str(tmp_path / "new")])

    assert status == 2
    assert capsys.readouterr().err == (
        f"cliper: unknown style 'oil'; choose one of: {', '.join(STYLES)}\n"
    )
    assert not (tmp_path / "new").exists()


def test_the_help_names_every_style():
    parser = argparse.ArgumentParser()

    scenes.configure(parser)

    text = " ".join(parser.format_help().split())
    assert all(style in text for style in STYLES)
