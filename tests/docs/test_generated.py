"""Pages and figures that programs make are what those programs make today."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import record

from .commands import script
from .pages import ROOT

FIGURES = script("write_figures")
COMPARED_ON = ("voc21", "coco-object", "ade20k", "cityscapes")
MOST_DIFFERENT = 0.001  # share of pixels; other processors round otherwise


@pytest.mark.parametrize("name", ["write_python_docs", "write_profile_docs", "write_word_docs"])
def test_a_page_is_what_its_program_writes(name: str):
    """Made anew with `python scripts/NAME.py`."""
    made = script(name)

    assert made.PAGE.read_text(encoding="utf-8") == made.page()


def test_the_figures_are_what_the_code_draws():
    """Made anew with `python scripts/write_figures.py`."""
    drawn = FIGURES.figures()

    assert len(drawn) >= 4
    for name, figure in drawn.items():
        kept = np.asarray(Image.open(FIGURES.FOLDER / name).convert("RGB"))
        new = np.asarray(figure)
        assert kept.shape == new.shape, name
        assert (kept != new).any(axis=-1).mean() <= MOST_DIFFERENT, name


def test_figures_are_small_and_shown():
    page = (ROOT / "docs" / "how-cliper-works.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\(images/(how-[\w-]+\.png)\)", page))

    assert shown == {path.name for path in FIGURES.FOLDER.glob("how-*.png")}
    for name in shown:
        assert (FIGURES.FOLDER / name).stat().st_size <= FIGURES.MOST_BYTES


def test_the_figures_beside_other_tools_are_those_of_the_profiles():
    profiles = script("write_profile_docs")
    published = dict(re.findall(r"^\| (\S.*?) \|(.*)\|$", profiles.quality(), re.MULTILINE))
    columns = [published[profiles.SETS[name]].split("|") for name in COMPARED_ON]
    text = (ROOT / "docs" / "compared.md").read_text(encoding="utf-8")

    for index, profile in enumerate(profiles.ROWS):
        (row,) = re.findall(rf"^\| CLIPer.*\(`{profile}`\) \|.*$", text, re.MULTILINE)
        shown = [cell.strip() for cell in row.strip("|").split("|")][2:]
        assert shown == [column[index].strip() for column in columns], profile


def test_two_places_of_different_strength_get_different_colours():
    values = np.linspace(0, 1, FIGURES.LEVELS)[None]

    assert len(np.unique(FIGURES.heat(values)[0], axis=0)) == FIGURES.LEVELS


def test_every_public_name_is_on_the_python_page():
    import cliper_model

    page = script("write_python_docs").PAGE.read_text(encoding="utf-8")

    for name in cliper_model.__all__:
        assert f"\n### {name}\n" in page


def test_the_words_page_rests_on_scenes_no_weight_was_chosen_on():
    from benchmarks import demo_accuracy, wording

    figures = json.loads((record.RESULTS / "wording.json").read_text(encoding="utf-8"))

    assert wording.TEST_SEED == demo_accuracy.TEST_SEED
    assert figures["scenes"] >= 50
    assert "benchmarks.wording" in figures["command"]
