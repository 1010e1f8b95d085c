"""A card holds when every figure comes out again, and the text follows from the figures."""

import json
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from cliper_model.backbones.diffusion_weights import load_demo_diffusion
from cliper_model.demo import verify as module
from cliper_model.demo.controls import NOISE_ONLY, Networks
from cliper_model.demo.evaluation import Inference
from cliper_model.demo.figures import run_jobs
from cliper_model.demo.model_card import training_times
from cliper_model.demo.papers import card_text, read_papers, write_papers
from cliper_model.demo.verify import Row, report, verify
from cliper_model.errors import WeightsMismatch, WeightsMissing


@pytest.fixture
def weights(trained, tmp_path):
    """A copy that may be spoiled."""
    return shutil.copytree(trained / "weights", tmp_path / "weights")


@pytest.fixture
def remembered(monkeypatch, trained):
    """Stand in for the measurement: it says what the training measured."""
    figures, _ = read_papers(trained / "weights")
    monkeypatch.setattr(module, "recompute", lambda *given, **options: figures)
    return figures


def test_figures_come_out_again_from_the_files_alone(trained):
    verdict = verify(trained / "weights", processes=1, progress=False)

    assert verdict.problems == ()
    assert len(verdict.rows) > 300
    assert max(row.difference for row in verdict.rows) == 0


def test_a_changed_figure_is_named(weights, remembered):
    figures, about = read_papers(weights)
    figures["given"] = {**figures["given"], "mIoU": figures["given"]["mIoU"] + 0.4}
    write_papers(weights, figures, about, logs=weights)

    verdict = verify(weights)

    assert verdict.problems == ("1 figures differ from the card: given: mIoU",)
    assert any("given: mIoU" in line and "differs" in line for line in report(verdict))


def test_a_small_difference_is_allowed(weights, remembered):
    figures, about = read_papers(weights)
    figures["given"] = {**figures["given"], "mIoU": figures["given"]["mIoU"] + 0.14}
    write_papers(weights, figures, about, logs=weights)

    assert verify(weights).problems == ()


def test_a_card_that_was_touched_is_found(weights, remembered):
    card = weights / "MODEL_CARD.md"
    card.write_text(card.read_text().replace("storybook", "photographed"))

    assert verify(weights).problems == (
        "MODEL_CARD.md is not what figures.json and train-clip.log and train-diffusion.log say",
    )


def test_a_figure_that_nobody_measures_is_found(weights, remembered):
    figures, about = read_papers(weights)
    write_papers(weights, {**figures, "praise": {"stars": 5.0}}, about, logs=weights)

    assert verify(weights).problems == (
        "praise: stars is in figures.json, but nothing measures it",
    )


def test_a_log_that_is_missing_is_an_error(weights, remembered):
    (weights / "train-clip.log").unlink()

    with pytest.raises(WeightsMissing, match=r"train-clip\.log"):
        verify(weights)


def test_figures_of_an_older_training_are_refused(weights):
    (weights / "figures.json").write_text(json.dumps({"given": {"mIoU": 60.0}}))

    with pytest.raises(WeightsMismatch, match="does not say how it was measured"):
        verify(weights)


@pytest.mark.parametrize(
    ("figure", "card", "now", "agrees"),
    [
        ("given: mIoU", 70.04, 70.26, False),  # printed 70.0 and 70.3
        ("given: mIoU", 70.04, 70.24, True),
        ("presence: false labels per image", 0.301, 0.313, True),
        ("presence: false labels per image", 0.30, 0.33, False),
    ],
)
def test_figures_are_compared_as_they_are_printed(figure, card, now, agrees):
    tolerance = module.PER_IMAGE if "per image" in figure else module.POINTS

    assert Row(figure, card, now, tolerance).agrees is agrees


def test_the_card_follows_from_the_folder(weights):
    text = card_text(weights, *read_papers(weights))

    assert text == (weights / "MODEL_CARD.md").read_text()
    for row in ("untrained", "noise prediction only", "pencil", "duck, asked for as 'yellow bird'"):
        assert f"| {row} |" in text


def test_logs_tell_how_long_was_trained():
    log = (
        "config {}\nstep 50/200 30 s 400 crops 13 crops/s\nstep 100/200 60 s 800 crops\n"
        "resumed at step 100\nstep 200/200 50 s 700 crops 14 crops/s\n"
    )

    (clip,) = training_times([log])

    assert (clip.part, clip.steps, clip.seconds) == ("CLIP half", 200, 110)
    assert (clip.crops, clip.resumed) == (1500, 1)


def test_the_control_is_read_back_from_its_file(trained):
    weights = trained / "weights"

    control, shipped = (
        Networks(weights, Inference(short_side=96, diffusion_size=128), *name).sight()
        for name in ((NOISE_ONLY,), ())
    )

    one, other = (sight.method.diffusion.unet.state_dict() for sight in (control, shipped))
    assert set(one) == set(other)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_exported_unet_holds_what_is_read_and_no_more(trained):
    stored = load_file(trained / "weights" / "unet.safetensors")

    assert set(stored) == set(load_demo_diffusion(trained / "weights").unet.state_dict())


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_back_by_group_and_in_order(processes):
    jobs = {"tens": [partial(int, "10"), partial(int, "20")], "none": [], "one": [partial(int, 1)]}

    results = run_jobs(jobs, processes=processes, progress=False)

    assert results == {"tens": [10, 20], "none": [], "one": [1]}
