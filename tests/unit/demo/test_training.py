"""Three steps of every training: they run, they resume, they export what the package loads."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cliper_model.demo import pipeline
from cliper_model.demo.clip_batches import Catalogue, draw_batch
from cliper_model.demo.clip_training import (
    ClipTraining,
    DemoClip,
    clip_losses,
    missed_items,
    train_clip,
)
from cliper_model.demo.export import read_clip, size_in_bytes
from cliper_model.demo.figures import Bench
from cliper_model.demo.pipeline import Plan, run
from cliper_model.demo.pipeline import test_figures as figures_of
from cliper_model.demo.scene_store import draw_store, open_store
from cliper_model.demo.scenes import LABELS, Item
from cliper_model.demo.schedule import learning_rate, load_checkpoint
from cliper_model.demo.vae_training import VaeTraining, train_vae
from cliper_model.profiles import demo_folder

from ...doubles.scene_stores import store_of

TINY = ClipTraining(steps=2, scenes=4, processes=1, batch=2, save_every=1)
TINY_VAE = VaeTraining(steps=2, scenes=4, processes=1, batch=2, save_every=1)


def test_a_quick_trial_leaves_weights_figures_and_logs(trained):
    weights = trained / "weights"

    names = {path.name for path in weights.iterdir()}
    assert names == {
        "MODEL_CARD.md",
        "train-clip.log",
        "train-diffusion.log",
        "clip.safetensors",
        "constants.safetensors",
        "control-noise-only.safetensors",
        "demo.json",
        "figures.json",
        "unet.safetensors",
        "vae.safetensors",
    }
    assert size_in_bytes(weights) < 12e6
    assert (trained / "train-clip.log").read_text().startswith("config ")
    assert "U-Net 2/2" in (trained / "train-diffusion.log").read_text()
    figures = json.loads((weights / "figures.json").read_text())
    assert "| noise prediction only |" in (weights / "MODEL_CARD.md").read_text()
    assert {"given", "all", "given refined", "all refined", "presence", "absent"} < set(figures)


def test_only_trained_token_rows_are_stored(trained):
    tensors = load_file(trained / "weights" / "clip.safetensors")

    ids, rows = tensors["token_embedding.used_ids"], tensors["token_embedding.used_rows"]
    table = read_clip(trained / "weights").token_embedding.weight
    assert ids.dtype == torch.int64
    assert "token_embedding.weight" not in tensors
    assert len(rows) == len(ids) < 300
    assert int((table.abs().sum(1) > 0).sum()) == len(ids)


def test_the_card_names_words_and_choices(trained):
    card = json.loads((trained / "weights" / "demo.json").read_text())

    assert len(card["labels"]) == 34
    assert {"sky", "balloon", "red"} <= set(card["words"])
    assert {"short_side", "logit_scale", "attention_threshold"} <= set(card["inference"])
    assert card["clip"]["vision_cfg"]["patch_size"] == 8


@pytest.mark.parametrize(
    ("train", "config", "name"),
    [(train_clip, TINY, "clip.ckpt"), (train_vae, TINY_VAE, "vae.ckpt")],
)
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, train, config, name):
    train(config, tmp_path / "straight", progress=False)
    train(replace(config, steps=1), tmp_path / "halted", progress=False)
    set_total(tmp_path / "halted" / name)
    train(config, tmp_path / "halted", resume=True, progress=False)

    straight = load_checkpoint(tmp_path / "straight" / name)
    resumed = load_checkpoint(tmp_path / "halted" / name)
    assert straight["step"] == resumed["step"] == 2
    for key, value in straight["model"].items():
        torch.testing.assert_close(resumed["model"][key], value, rtol=0, atol=0)


def set_total(checkpoint):
    """The halted run must have stopped after its first step."""
    assert load_checkpoint(checkpoint)["step"] == 1


def test_the_item_that_fits_must_be_above_its_rivals_alone():
    scores = torch.tensor([[2.0, 9.0], [0.0, 9.0], [1.0, 9.0], [9.0, 9.0]])
    fits = torch.tensor([[True, True], [False, False], [True, False], [False, False]])
    rivals = torch.tensor([[False, False], [True, False], [False, False], [False, False]])

    missed = missed_items(scores, fits, rivals)  # the second description has no rivals

    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert missed.item() == pytest.approx(expected, abs=1e-6)
    assert missed_items(scores, ~fits & False, rivals).item() == 0


def test_crops_that_no_text_may_describe_have_finite_losses():
    blue = store_of((Item("car", "blue"), Item("boat", "red")))
    batch = draw_batch(Catalogue(blue), np.random.default_rng(0), size=64, count=2)
    assert batch.searches.masks.shape[-1] == 0
    assert batch.searches.prompts

    losses = clip_losses(DemoClip(), batch, TINY, np.random.default_rng(0))

    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["found"] > 0


def test_an_unknown_half_is_refused(tmp_path):
    with pytest.raises(ValueError, match="half must be one of clip, diffusion, all"):
        run(Plan.of(2), "text", tmp_path)


def test_the_rate_rises_stays_and_falls():
    rates = [learning_rate(step, 1000, peak=2.0, warm_up=10) for step in (0, 9, 499, 999)]

    assert rates[0] == pytest.approx(0.2)
    assert rates[1] == rates[2] == pytest.approx(2.0)
    assert rates[3] < 0.05


def test_a_store_is_reused_and_holds_what_was_drawn(tmp_path):
    first = draw_store(tmp_path, count=3, seed=5, size=48, workers=1, progress=False)
    written = (tmp_path / "images.npy").stat().st_mtime_ns
    again = draw_store(tmp_path, count=3, seed=5, size=48, workers=1, progress=False)

    assert (tmp_path / "images.npy").stat().st_mtime_ns == written
    assert len(again) == len(open_store(tmp_path)) == 3
    assert (first.label_map(0) > 0).any()


def test_the_shipped_plan_keeps_its_seeds_apart():
    plan = Plan()

    seeds = {plan.clip.scene_seed, pipeline.VALIDATION_SEED, pipeline.TEST_SEED}
    assert len(seeds) == 3
    assert plan.vae.scene_seed == plan.clip.scene_seed


def test_the_shipped_files_are_small_and_reach_their_figures():
    folder = demo_folder()
    figures = json.loads((folder / "figures.json").read_text())

    assert size_in_bytes(folder) < 12e6
    assert figures["given"]["mIoU"] >= 66
    assert figures["all"]["mIoU"] >= 57
    assert min(figures["given: IoU per label"].values()) >= 30
    assert min(figures["all: IoU per label"].values()) >= 30
    gained = figures["refinement: given"]
    assert gained["gain of mIoU"] >= 4
    assert gained["gain of outline mIoU"] >= 8
    assert gained["largest loss of a label by refinement"] <= 1
    assert figures["described"]["higher score, refined"] >= 85
    for rows in ("presence", "presence as shipped", "other: presence"):
        assert figures[rows]["precision"] >= 90
        assert figures[rows]["recall"] >= 90
        assert figures[rows]["false labels per image"] <= 0.4
    for label in LABELS:
        assert label in json.loads((folder / "demo.json").read_text())["labels"]


def test_the_shipped_weights_segment_fresh_scenes(tmp_path):
    plan = replace(Plan(), bench=Bench(test_scenes=2))
    figures = figures_of(plan, tmp_path, demo_folder())

    assert figures["given refined"]["accuracy"] > 80
    assert figures["presence"]["precision"] > 60


def test_an_accelerator_takes_every_crop_in_one_process(monkeypatch):
    monkeypatch.setattr(pipeline, "known_device", lambda device: device)
    plan = Plan()

    there = plan.on("cuda")

    assert plan.on("cpu") is plan
    assert (there.clip.processes, there.clip.batch) == (1, 2 * plan.clip.batch)
    assert (there.unet.processes, there.unet.crops) == (1, 2 * plan.unet.crops)
    assert there.vae.processes == 1
