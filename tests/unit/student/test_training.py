"""Training: phases, schedule, and that a killed training ends as if nothing had happened."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cliper_model.student.checkpoint import Checkpoint
from cliper_model.student.crops import CropConfig
from cliper_model.student.errors import CheckpointDiffers, CheckpointExists, LossNotFinite
from cliper_model.student.gallery import CachedLabels, Gallery, find_pictures
from cliper_model.student.labels import IGNORE
from cliper_model.student.training import (
    Phases,
    Training,
    draw_batch,
    label_loss,
    published_phases,
    to_pixels,
    train,
)

from .paint import BrightnessTeacher, gallery, learn, paint, plan, words

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("pictures"))


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.student.paint", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are added up in the same order as in the process that was killed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(first: Path, second: Path) -> None:
    one, other = Checkpoint.load(first), Checkpoint.load(second)
    assert set(one.weights) == set(other.weights)
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name]), name


@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_goes_on_to_the_same_bits(pictures: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed.student", tmp_path / "whole.student"
    with start(pictures, killed, 9) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("step 5 "))
        process.kill()  # SIGKILL: nobody can tidy up
    stopped_at = Checkpoint.load(killed).step

    learn(pictures, killed, plan(steps=9), resume=True)
    learn(pictures, whole, plan(steps=9))

    assert stopped_at in (3, 6)
    assert Checkpoint.load(killed).finished
    same(killed, whole)
    assert [path.name for path in tmp_path.glob("whole*")] == ["whole.student"]


def test_a_request_to_stop_saves_the_step_and_resuming_ends_the_same(
    pictures: Path, tmp_path: Path
) -> None:
    seen: list[int] = []
    stopped = learn(
        pictures,
        tmp_path / "a",
        report=lambda step, loss: seen.append(step),
        should_stop=lambda: seen[-1] == 2,
    )
    learn(pictures, tmp_path / "a", resume=True, report=lambda step, loss: seen.append(step))
    learn(pictures, tmp_path / "b")

    assert (stopped.step, stopped.finished) == (2, False)
    assert seen == [1, 2, 3, 4, 5, 6]
    same(tmp_path / "a", tmp_path / "b")


def test_another_seed_gives_another_student(pictures: Path, tmp_path: Path) -> None:
    learn(pictures, tmp_path / "a", plan(steps=2))
    learn(pictures, tmp_path / "b", plan(steps=2, seed=1))

    first, second = Checkpoint.load(tmp_path / "a"), Checkpoint.load(tmp_path / "b")
    assert not torch.equal(first.weights["trunk.head.weight"], second.weights["trunk.head.weight"])


def test_training_leaves_the_global_generator_alone(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)

    learn(pictures, tmp_path / "a", plan(steps=1))

    assert torch.equal(torch.rand(3), expected)


def test_a_student_learns_what_its_teacher_sees(pictures: Path, tmp_path: Path) -> None:
    crops = CropConfig(side=24, short_side=24, scales=(1.0, 1.0), photometric=False)
    outcome = learn(pictures, tmp_path / "a", plan(steps=40, batch=4, rate=0.1, crops=crops))
    picture = gallery(pictures).picture(0)
    truth = picture.mean(axis=2) > 127

    with torch.no_grad():
        logits = outcome.student(to_pixels([picture], "cpu"))
    full = torch.nn.functional.interpolate(logits, size=truth.shape, mode="bilinear")
    found = full[0].argmax(dim=0).numpy() == 1

    assert (found == truth).mean() > 0.9


def test_the_text_rows_stay_as_they_are(pictures: Path, tmp_path: Path) -> None:
    outcome = learn(pictures, tmp_path / "a", plan(rate=0.1))

    assert torch.equal(outcome.student.rows, words().rows)


def test_a_background_row_is_learned_and_keeps_unit_length(pictures: Path, tmp_path: Path) -> None:
    seen = Gallery(find_pictures(pictures), {}, words(background=True))
    outcome = train(plan(rate=0.1), seen, BrightnessTeacher(first=0), tmp_path / "a")

    rows = outcome.student.all_rows()
    assert rows.shape == (3, 4)
    assert float(rows[0].detach().norm()) == pytest.approx(1.0)


def test_a_student_is_not_overwritten(pictures: Path, tmp_path: Path) -> None:
    learn(pictures, tmp_path / "a", plan(steps=1))

    with pytest.raises(CheckpointExists, match="go on with --resume or choose another --out"):
        learn(pictures, tmp_path / "a", plan(steps=1))


def test_resuming_with_other_steps_names_the_difference(pictures: Path, tmp_path: Path) -> None:
    learn(pictures, tmp_path / "a", plan(steps=1))

    with pytest.raises(CheckpointDiffers, match=r"same steps .* has 1, this training 2"):
        learn(pictures, tmp_path / "a", plan(steps=2), resume=True)


def test_resuming_a_finished_training_changes_nothing(pictures: Path, tmp_path: Path) -> None:
    learn(pictures, tmp_path / "a", plan(steps=2))
    before = (tmp_path / "a").read_bytes()

    outcome = learn(pictures, tmp_path / "a", plan(steps=2), resume=True)

    assert outcome.finished
    assert (tmp_path / "a").read_bytes() == before


def test_an_infinite_loss_stops_before_it_is_saved(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(LossNotFinite, match="lower learning rate"):
        train(
            plan(steps=30, rate=1e30, least_rate=1e29),
            gallery(pictures),
            BrightnessTeacher(),
            tmp_path / "a",
        )

    values = Checkpoint.load(tmp_path / "a").weights.values()
    assert all(bool(torch.isfinite(value).all()) for value in values)


# -- phases ---------------------------------------------------------------------------


def test_without_annotations_the_teacher_leads_to_the_end() -> None:
    phases = published_phases(2000, annotated=False)

    assert {phases.of(step) for step in (1, 1000, 2000)} == {"guided"}


def test_with_annotations_the_student_teaches_itself_after_a_tenth() -> None:
    phases = published_phases(20000, annotated=True)

    assert [phases.of(step) for step in (1, 1999, 2000, 20000)] == [
        "guided",
        "guided",
        "self",
        "self",
    ]


def test_a_step_between_the_phases_learns_from_annotations_only() -> None:
    assert Phases(guided=(1, 2), self_training=(4, -1)).of(3) == "annotated"


@pytest.mark.parametrize("second", [(5, 9), (1, -1), (3, 5)])
def test_overlapping_phases_are_refused(second: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="let self-training begin after the teacher's last step"):
        Phases(guided=(1, 5), self_training=second)


def test_a_phase_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="a phase goes from step 1"):
        Phases(guided=(3, 2))


def test_in_self_training_the_teacher_is_not_asked(pictures: Path, tmp_path: Path) -> None:
    teacher = BrightnessTeacher()
    phases = Phases(guided=(1, 2), self_training=(3, -1))

    train(plan(phases=phases), gallery(pictures), teacher, tmp_path / "a")

    assert teacher.looks == 2 * plan().batch


# -- schedule, batches, loss ----------------------------------------------------------


def test_the_rate_falls_as_a_power_of_what_is_left() -> None:
    training = Training(steps=100)

    assert training.rate_at(1) == pytest.approx(0.01)
    assert training.rate_at(51) == pytest.approx((0.01 - 1e-4) * 0.5**0.9 + 1e-4)
    assert training.rate_at(100) > 1e-4


def test_every_picture_is_seen_once_per_round(pictures: Path) -> None:
    training = plan(
        batch=5,
        crops=CropConfig(side=36, short_side=24, scales=(1.0, 1.0), flip=0.0, photometric=False),
    )
    rounds = [draw_batch(training, gallery(pictures), step) for step in (1, 2)]

    contents = [sorted(crop.tobytes() for crop in batch.crops) for batch in rounds]
    assert len(set(contents[0])) == 5
    assert contents[0] == contents[1]


def test_a_step_draws_the_same_whenever_it_is_drawn(pictures: Path) -> None:
    first, again = (draw_batch(plan(), gallery(pictures), 4) for _ in range(2))

    assert all(np.array_equal(one, two) for one, two in zip(first.crops, again.crops, strict=True))


def test_the_loss_is_the_mean_over_pixels_that_count() -> None:
    logits = torch.zeros(1, 4, 2, 2)
    labels = torch.tensor([[[0, IGNORE], [IGNORE, 3]]])

    assert float(label_loss(logits, labels)) == pytest.approx(float(np.log(4)))
    assert float(label_loss(logits, torch.full_like(labels, IGNORE))) == 0.0


def test_a_batch_of_one_is_refused_where_the_network_needs_statistics() -> None:
    with pytest.raises(ValueError, match="batch must be at least 2 for resnet50"):
        Training(network="resnet50", batch=1)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"network": "vgg"}, {"rate": 1e-5}])
def test_impossible_trainings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        plan(**wrong)


# -- cached labels --------------------------------------------------------------------


def test_with_cached_labels_the_teacher_sees_each_picture_once(
    pictures: Path, tmp_path: Path
) -> None:
    teacher = BrightnessTeacher()
    labelled: list[int] = []

    train(
        plan(cache_labels=True),
        gallery(pictures),
        teacher,
        tmp_path / "a",
        report_label=labelled.append,
    )

    assert teacher.looks == len(gallery(pictures))
    assert labelled == [1, 2, 3, 4, 5]


def test_a_request_to_stop_while_pictures_are_labelled_keeps_the_labels_so_far(
    pictures: Path, tmp_path: Path
) -> None:
    first, second = BrightnessTeacher(), BrightnessTeacher()
    training = plan(cache_labels=True)
    scenes = gallery(pictures)

    stopped = train(training, scenes, first, tmp_path / "a", should_stop=lambda: first.looks == 2)
    kept = sorted(path.name for path in (tmp_path / "a.labels").glob("*.png"))
    resumed = train(training, scenes, second, tmp_path / "a", resume=True)
    train(training, scenes, BrightnessTeacher(), tmp_path / "b")

    assert (stopped.step, stopped.finished) == (0, False)
    assert kept == ["000000.png", "000001.png"]
    assert (resumed.finished, second.looks) == (True, 3)
    same(tmp_path / "a", tmp_path / "b")


def test_what_a_kill_left_half_written_is_removed_at_the_next_start(
    pictures: Path, tmp_path: Path
) -> None:
    training = plan(steps=1, cache_labels=True)
    learn(pictures, tmp_path / "a", training)
    ours = ["a.123.partial", "a.labels/000001.77.partial", "a.labels/labels.json.77.partial"]
    others = ["a.student.123.partial", "ab.5.partial", "a.partial", "a.x.partial"]
    for name in (*ours, *others):
        (tmp_path / name).write_bytes(b"half")

    with pytest.raises(CheckpointExists):
        learn(pictures, tmp_path / "a", training)
    assert (tmp_path / ours[0]).exists()  # nothing is touched by a start that is refused
    (tmp_path / "a").unlink()
    learn(pictures, tmp_path / "a", training)

    assert [name for name in (*ours, *others) if (tmp_path / name).exists()] == others


def test_cached_labels_are_those_of_the_whole_picture(pictures: Path, tmp_path: Path) -> None:
    cache = CachedLabels(tmp_path / "labels", fingerprint="x")
    cache.fill(gallery(pictures), BrightnessTeacher(), report=lambda done: None)

    bright = gallery(pictures).picture(2).mean(axis=2) > 127
    np.testing.assert_array_equal(cache.labels(2) == 1, bright)


def test_cached_labels_of_another_teacher_are_refused(tmp_path: Path) -> None:
    CachedLabels(tmp_path, fingerprint="one")

    with pytest.raises(
        CheckpointDiffers, match="resume with the same labels, teacher and pictures"
    ):
        CachedLabels(tmp_path, fingerprint="two")
