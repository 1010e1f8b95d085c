"""`cliper train-demo`: options that cannot be meant, and what a verification ends with."""

import shutil

import pytest

from backend.__main__ import main
from cliper_model.demo import verify as module
from cliper_model.demo.figures import Bench
from cliper_model.demo.model_card import About
from cliper_model.demo.papers import CARD, write_papers
from cliper_model.profiles import demo_folder

FIGURES = {
    "given": {"mIoU": 70.0, "accuracy": 90.0, "outline mIoU": 50.0, "small mIoU": 60.0},
    "presence": {"precision": 95.0, "recall": 91.0, "false labels per image": 0.31},
    "presence as shipped": {"precision": 94.0, "recall": 90.0, "false labels per image": 0.35},
    "absent": {"empty": 97.0, "false labels per image": 0.03},
}
OTHER = {f"other: {row}": FIGURES[row] for row in ("given", "presence", "presence as shipped")}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The shipped files with a card of their own; measuring them gives `FIGURES`."""
    folder = shutil.copytree(demo_folder(), tmp_path / "weights")
    about = About(date="2026-01-01", machine="a bench", bench=Bench(), generator="0" * 64)
    write_papers(folder, {**FIGURES, **OTHER}, about, logs=folder)
    monkeypatch.setattr(module, "recompute", lambda *given, **options: FIGURES)
    return folder


def test_a_card_that_holds_ends_well_and_says_what_was_left_out(weights, capsys):
    assert main(["train-demo", "--verify", "--weights", str(weights)]) == 0

    said = capsys.readouterr().out
    assert "given: mIoU" in said
    assert "every figure and the model card hold" in said
    assert "were not checked: give it with --generator" in said


def test_a_card_that_does_not_hold_ends_with_one_sentence(weights, capsys):
    card = weights / CARD
    card.write_text(card.read_text().replace("70.0", "75.0"))

    assert main(["train-demo", "--verify", "--weights", str(weights)]) == 1

    (sentence,) = capsys.readouterr().err.splitlines()
    assert "does not hold what its card says: MODEL_CARD.md is not what" in sentence


def test_another_file_than_the_generator_of_the_card_is_refused(weights, tmp_path, capsys):
    other = tmp_path / "scenes.py"
    other.write_text("def scene(rng, size): ...")

    asked = ["train-demo", "--verify", "--weights", str(weights), "--generator", str(other)]
    assert main(asked) == 2

    assert "is not the generator of the card" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give a folder to write to with --out, or --verify"),
        (["--verify", "--steps", "2"], "--verify trains nothing"),
        (["--verify", "--half", "clip"], "--verify trains nothing"),
        (["--out", "x", "--weights", "y"], "--weights names weights to verify"),
        (["--verify", "--weights", "nowhere"], "give the folder that training wrote"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, sentence, capsys):
    assert main(["train-demo", *options]) == 2

    assert sentence in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused_before_anything_is_drawn(tmp_path, capsys):
    out = tmp_path / "out"

    assert main(["train-demo", "--out", str(out), "--device", "cuda:77"]) == 2

    assert "no device 'cuda:77' is found here" in capsys.readouterr().err
    assert not out.exists()
