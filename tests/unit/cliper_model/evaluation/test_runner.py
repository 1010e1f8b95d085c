"""A measurement from the folders to the figures, against a plain metric of its own."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cliper_model.errors import BadImage
from cliper_model.evaluation import benchmarks, check, records, report, runner, views
from cliper_model.evaluation.datasets.base import DataSet, Layout, Sample
from cliper_model.evaluation.errors import BadDataset, CannotMerge, RunDiffers
from cliper_model.evaluation.gallery import Gallery, worst_of
from cliper_model.evaluation.runner import Prediction, Protocol

from ....doubles import naive_metrics
from ....doubles.benchmark_trees import TREES, Tree, voc
from ....doubles.mistaken import by_content, mistaken, predictions

ROOT = Path(__file__).parents[4]
SETTINGS = {"method": {"name": "mistaken"}}


def measured(data: DataSet, tree: Tree, out: Path, **options: Any) -> runner.Measured:
    return runner.run(data, mistaken(tree), out=out, settings=SETTINGS, **options)


def figures(found: runner.Measured) -> dict[str, Any]:
    return report.figures_of(found)


@pytest.fixture
def small(tmp_path: Path) -> tuple[DataSet, Tree]:
    tree = voc(tmp_path / "data", background=True)
    return benchmarks.open_data("voc21", tree.root), tree


@pytest.mark.parametrize("layout", TREES)
def test_every_layout_gives_the_figures_of_an_independent_metric(layout: str, tmp_path: Path):
    name, plant = TREES[layout]
    tree = plant(tmp_path / "data")
    data = benchmarks.open_data(name, tree.root)
    labels = tree.classes + 1

    check.check(data)
    found = measured(data, tree, tmp_path / "out")

    pairs = list(zip(tree.truths, predictions(tree), strict=True))
    expected = naive_metrics.region_figures(pairs, labels)
    wholes = figures(found)
    assert data.labels == labels
    assert wholes["images"] == len(pairs)
    for key in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert wholes[key] == pytest.approx(expected[key], abs=1e-6)
        assert 5 < wholes[key] < 99
    per_class = report.class_rows(found, [str(label) for label in range(labels)])
    for row in per_class:
        if f"iou of {row['label']}" in expected:
            assert row["iou"] == pytest.approx(expected[f"iou of {row['label']}"], abs=1e-6)
        else:
            assert np.isnan(row["iou"])
    for key, value in naive_metrics.presence_figures(pairs, labels).items():
        assert wholes[key] == pytest.approx(value, abs=1e-6)
    whole_truths = [(truth, said) for truth, said in pairs if (truth >= 0).all()]
    if len(whole_truths) == len(pairs):
        expected_f = naive_metrics.boundary_f(whole_truths, labels)
        assert wholes["boundary_f"] == pytest.approx(expected_f, abs=1e-6)


def test_boundary_f_of_a_run_is_that_of_the_independent_metric(tmp_path: Path):
    tree = voc(tmp_path / "data", background=True)
    full = Tree(tree.root, 20, tree.pictures, [np.maximum(truth, 0) for truth in tree.truths])
    for path in (tree.root / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids == 255, 0, ids).astype(np.uint8)).save(path)
    data = benchmarks.open_data("voc21", tree.root)

    found = measured(data, full, tmp_path / "out")

    pairs = list(zip(full.truths, predictions(full), strict=True))
    expected = naive_metrics.boundary_f(pairs, 21)
    assert figures(found)["boundary_f"] == pytest.approx(expected, abs=1e-6)
    assert 10 < expected < 95


def test_three_shards_merge_to_exactly_the_figures_of_one_run(small: Any, tmp_path: Path):
    data, tree = small
    whole = measured(data, tree, tmp_path / "one")

    parts = []
    for which in (3, 1, 2):
        parts.append(tmp_path / f"part{which}")
        measured(data, tree, parts[-1], protocol=Protocol(shard=(which, 3)))
    header, found = records.merge(parts)

    together = runner.Measured(
        header=header, records=found, matrix=runner.sum_of(found.values(), labels=21)
    )
    assert list(found) == list(range(5))
    assert np.array_equal(together.matrix, whole.matrix)
    assert figures(together) == figures(whole)
    assert header == whole.header


def killed_script(tree: Tree, out: Path, after: int) -> str:
    return f"""
import os, signal
from pathlib import Path
from cliper_model.evaluation import benchmarks, runner
from tests.doubles.benchmark_trees import voc
from tests.doubles.mistaken import mistaken

tree = voc(Path({str(tree.root)!r}), background=True)
know, seen = mistaken(tree), []

def segment(image):
    seen.append(1)
    if len(seen) > {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return know(image)

data = benchmarks.open_data("voc21", tree.root)
runner.run(data, segment, out=Path({str(out)!r}), settings={SETTINGS!r})
"""


def test_a_killed_run_goes_on_where_it_stopped_with_the_same_figures(small: Any, tmp_path: Path):
    data, tree = small
    whole = measured(data, tree, tmp_path / "one")
    out = tmp_path / "two"

    ended = subprocess.run(
        [sys.executable, "-c", killed_script(tree, out, after=3)], cwd=ROOT, check=False
    )
    with (out / records.FILE).open("a") as stream:
        stream.write('{"index":3,"name":"2011_x","confu')  # as a crash of the machine leaves it
    again: list[int] = []
    know = mistaken(tree)

    def segment(image: np.ndarray) -> Prediction:
        again.append(1)
        return know(image)

    resumed = runner.run(data, segment, out=out, settings=SETTINGS, resume=True)

    assert ended.returncode == -9
    assert len(again) == 2
    assert figures(resumed) == figures(whole)
    assert np.array_equal(resumed.matrix, whole.matrix)
    lines = (out / records.FILE).read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines[1:]] == [0, 1, 2, 3, 4]


def test_resume_refuses_other_settings_and_says_which(small: Any, tmp_path: Path):
    data, tree = small
    out = tmp_path / "out"
    measured(data, tree, out)

    with pytest.raises(RunDiffers, match=r"method\.name was 'mistaken', now 'other'"):
        runner.run(
            data, mistaken(tree), out=out, settings={"method": {"name": "other"}}, resume=True
        )
    with pytest.raises(RunDiffers, match=r"limit was None, now 2"):
        measured(data, tree, out, protocol=Protocol(limit=2), resume=True)
    with pytest.raises(RunDiffers, match="already holds a measurement; add --resume"):
        measured(data, tree, out)


def test_another_precision_or_device_is_neither_resumed_nor_merged(small: Any, tmp_path: Path):
    data, tree = small

    def measure(part: str, which: int, device: str, dtype: str, **options: Any) -> None:
        account = {"method": {"name": "mistaken", "device": device, "dtype": dtype}}
        protocol = Protocol(shard=(which, 2))
        out = tmp_path / part
        runner.run(data, mistaken(tree), out=out, settings=account, protocol=protocol, **options)

    measure("a", 1, "cpu", "float32")
    measure("b", 2, "cuda", "bfloat16")

    with pytest.raises(RunDiffers, match=r"method\.dtype was 'float32', now 'bfloat16'"):
        measure("a", 1, "cpu", "bfloat16", resume=True)
    with pytest.raises(
        CannotMerge,
        match=r"method\.device was 'cpu', now 'cuda'; method\.dtype was 'float32', now 'bfloat16'",
    ):
        records.merge([tmp_path / "a", tmp_path / "b"])


def test_changed_masks_are_neither_resumed_nor_merged(small: Any, tmp_path: Path):
    data, tree = small
    measured(data, tree, tmp_path / "a", protocol=Protocol(shard=(1, 2)))
    path = tree.root / "VOCdevkit/VOC2012/SegmentationClass/2011_x.png"
    with Image.open(path) as mask:
        ids, palette = np.array(mask), mask.getpalette()
    ids[0, 0] = 3 if ids[0, 0] != 3 else 4
    changed = Image.fromarray(ids)
    if palette is not None:
        changed.putpalette(palette)
    changed.save(path)
    measured(data, tree, tmp_path / "b", protocol=Protocol(shard=(2, 2)))

    with pytest.raises(RunDiffers, match=r"cannot go on with .*: truth_sha256 was '"):
        measured(data, tree, tmp_path / "a", protocol=Protocol(shard=(1, 2)), resume=True)
    with pytest.raises(CannotMerge, match="not parts of one measurement: truth_sha256 was '"):
        records.merge([tmp_path / "a", tmp_path / "b"])
    before, after = (
        runner.header_of(data, Protocol(limit=limit), SETTINGS).settings["truth_sha256"]
        for limit in (3, 4)
    )
    assert before != after  # 2011_x is the fourth
    assert records.read(tmp_path / "a")[0].settings["truth_sha256"] != after


def test_the_truth_of_one_file_is_known_by_that_files_own_sum(tmp_path: Path):
    truth = tmp_path / "export.json"
    truth.write_bytes(b"[]")
    samples = tuple(Sample(name=name, image=tmp_path, truth=truth) for name in "ab")
    data = DataSet(
        name="x", classes=("a",), background=True, layout=Layout(samples=samples, ids=None)
    )

    assert data.truth_sha256() == hashlib.sha256(b"[]").hexdigest()
    truth.unlink()
    assert data.truth_sha256() == "unreadable"


@pytest.mark.parametrize("layout", TREES)
def test_every_mask_of_every_layout_is_part_of_the_sum(layout: str, tmp_path: Path):
    name, plant = TREES[layout]
    tree = plant(tmp_path / "data")
    data = benchmarks.open_data(name, tree.root)
    known = {data.truth_sha256()}

    for sample in data.samples:
        sample.truth.write_bytes(sample.truth.read_bytes() + b"\0")
        known.add(data.truth_sha256())

    assert len(known) == 1 + len(data.samples)


def test_resume_into_an_empty_folder_starts_a_measurement(small: Any, tmp_path: Path):
    data, tree = small

    found = measured(data, tree, tmp_path / "out", resume=True)

    assert len(found.counted) == 5


def test_a_run_killed_in_its_first_line_starts_anew(small: Any, tmp_path: Path):
    data, tree = small
    out = tmp_path / "out"
    out.mkdir()
    (out / records.FILE).write_text('{"format":1,"cou')

    assert len(measured(data, tree, out, resume=True).counted) == 5
    with pytest.raises(RunDiffers, match="already holds a measurement"):
        measured(data, tree, out)


def test_a_damaged_line_in_the_middle_stops_the_resume(small: Any, tmp_path: Path):
    data, tree = small
    out = tmp_path / "out"
    measured(data, tree, out)
    lines = (out / records.FILE).read_text().splitlines(keepends=True)
    lines[2] = lines[2][:30] + "\n"
    (out / records.FILE).write_text("".join(lines))

    with pytest.raises(RunDiffers, match=r"line 3 of .* is damaged; delete"):
        measured(data, tree, out, resume=True)


def test_a_missing_a_double_and_a_foreign_shard_cannot_be_merged(small: Any, tmp_path: Path):
    data, tree = small
    for which in (1, 2):
        measured(data, tree, tmp_path / f"p{which}", protocol=Protocol(shard=(which, 3)))
    other = runner.run(
        data,
        mistaken(tree),
        out=tmp_path / "x3",
        settings={"method": {"name": "other"}},
        protocol=Protocol(shard=(3, 3)),
    )
    shutil.copytree(tmp_path / "p1", tmp_path / "copy")
    first, second = tmp_path / "p1", tmp_path / "p2"

    assert other.header.shard == (3, 3)
    with pytest.raises(CannotMerge, match="shard 3 of 3 is missing; name its folder too"):
        records.merge([first, second])
    with pytest.raises(CannotMerge, match="are both shard 1; name each once"):
        records.merge([first, second, tmp_path / "copy"])
    with pytest.raises(CannotMerge, match=r"method\.name was 'mistaken', now 'other'"):
        records.merge([first, second, tmp_path / "x3"])


def test_an_unfinished_shard_cannot_be_merged(small: Any, tmp_path: Path):
    data, tree = small
    for which in (1, 2):
        measured(data, tree, tmp_path / f"p{which}", protocol=Protocol(shard=(which, 2)))
    path = tmp_path / "p2" / records.FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))

    with pytest.raises(CannotMerge, match=r"1 of 5 pictures are not done; finish shard 2"):
        records.merge([tmp_path / "p1", tmp_path / "p2"])


def test_a_broken_picture_is_reported_and_tried_again_later(small: Any, tmp_path: Path):
    data, tree = small
    whole = measured(data, tree, tmp_path / "one")
    broken = tree.pictures[2]
    good = broken.read_bytes()
    broken.write_bytes(good[: len(good) // 2])

    out = tmp_path / "two"
    check.check(data)
    found = runner.run(data, know_of(tree, whole_but=2), out=out, settings=SETTINGS)
    broken.write_bytes(good)
    mended = measured(data, tree, out, resume=True)

    assert [one.name for one in found.failed] == ["2010_c"]
    assert "truncated" in str(found.failed[0].failed).lower()
    assert figures(found)["failed"] == 1
    assert figures(found)["images"] == 4
    assert figures(mended) == figures(whole)


def know_of(tree: Tree, *, whole_but: int) -> Callable[[np.ndarray], Prediction]:
    kept = [number for number in range(len(tree.pictures)) if number != whole_but]
    answers = predictions(tree)
    return by_content(
        [np.asarray(Image.open(tree.pictures[number]).convert("RGB")) for number in kept],
        [answers[number] for number in kept],
    )


@pytest.mark.parametrize(
    "lost", [MemoryError(), RuntimeError("CUDA out of memory. Tried"), BadImage("a line")]
)
def test_a_picture_the_model_cannot_take_is_lost_alone(lost: Exception, small: Any, tmp_path: Path):
    data, tree = small
    know, seen = mistaken(tree), []

    def segment(image: np.ndarray) -> Prediction:
        seen.append(1)
        if len(seen) == 2:
            raise lost
        return know(image)

    found = runner.run(data, segment, out=tmp_path / "out", settings=SETTINGS)

    assert len(found.failed) == 1
    assert len(found.counted) == 4


def test_a_fault_of_the_program_stops_the_run(small: Any, tmp_path: Path):
    data, _ = small

    def segment(image: np.ndarray) -> Prediction:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        runner.run(data, segment, out=tmp_path / "out", settings=SETTINGS)


def test_halves_of_a_picture_are_counted_like_the_whole(tmp_path: Path):
    tree = TREES["cityscapes"][1](tmp_path / "data")
    data = benchmarks.open_data("cityscapes", tree.root)
    whole = measured(data, tree, tmp_path / "one")
    images, answers = [], []
    for path, answer in zip(tree.pictures, predictions(tree), strict=True):
        image = np.asarray(Image.open(path))
        middle = image.shape[1] // 2
        for part in (slice(middle, None), slice(None, middle)):
            images.append(np.ascontiguousarray(image[:, part]))
            answers.append(answer[:, part])

    found = runner.run(
        data,
        by_content(images, answers),
        out=tmp_path / "two",
        settings=SETTINGS,
        protocol=Protocol(view_of=views.HALVES),
    )

    assert [one.name for one in found.counted][:2] == [
        "a/a1_leftImg8bit#right",
        "a/a1_leftImg8bit#left",
    ]
    assert np.array_equal(found.matrix, whole.matrix)


def test_a_limit_measures_the_first_pictures(small: Any, tmp_path: Path):
    data, tree = small

    found = measured(data, tree, tmp_path / "out", protocol=Protocol(limit=2))

    assert [one.name for one in found.counted] == ["2007_b", "2007_a"]


def test_ignored_pixels_can_be_background_and_background_can_be_ignored(small: Any, tmp_path: Path):
    data, tree = small

    as_background = measured(
        data, tree, tmp_path / "a", protocol=Protocol(ignored_is_background=True)
    )
    not_counted = measured(
        data, tree, tmp_path / "b", protocol=Protocol(background_is_ignored=True)
    )

    sizes = sum(truth.size for truth in tree.truths)
    assert as_background.matrix.sum() == sizes
    assert not_counted.matrix.sum() == sum((truth > 0).sum() for truth in tree.truths)
    assert not_counted.matrix[0].sum() == 0


def test_the_checks_find_a_mask_of_the_wrong_size_in_the_run_too(tmp_path: Path):
    tree = voc(tmp_path / "data", background=True)
    data = benchmarks.open_data("voc21", tree.root)
    mask = next((tree.root / "VOCdevkit/VOC2012/SegmentationClass").glob("2007_b.png"))
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(mask)

    with pytest.raises(BadDataset, match="2007_b: the picture is 19 x 14 pixels, its mask 5 x 5"):
        check.check(data)
    found = measured(data, tree, tmp_path / "out")

    assert [one.name for one in found.failed] == ["2007_b"]


def record(index: int, right: int) -> records.Record:
    """Ten pixels of class 1, `right` of them found."""
    pairs = [[1, 0, 10 - right], [1, 1, right]]
    return records.Record(index=index, name=str(index), confusion=pairs)


def test_the_gallery_keeps_the_worst_pictures_whatever_the_order(tmp_path: Path):
    image, truth = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), int)
    found = [record(index, right) for index, right in enumerate((5, 3, 9, 3, 1, 8, 3))]

    for name, order in (("a", found), ("b", found[::-1]), ("c", found[3:] + found[:3])):
        (tmp_path / name).mkdir()
        kept = Gallery(tmp_path / name, 2, most=3)
        for one in order:
            kept.offer(one, image, truth, truth)

    strips = [sorted(path.stem for path in (tmp_path / name / "worst").iterdir()) for name in "abc"]
    assert strips == [["000001", "000003", "000004"]] * 3
    assert [index for _, index in worst_of(found, most=3)] == [4, 1, 3]


def test_a_gallery_taken_up_again_ends_like_one_that_never_stopped(tmp_path: Path):
    image, truth = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), int)
    found = [record(index, right) for index, right in enumerate((5, 3, 9, 3, 1, 8, 2))]
    first = Gallery(tmp_path, 2, most=3)
    for one in found[:4]:
        first.offer(one, image, truth, truth)

    second = Gallery(tmp_path, 2, most=3)
    second.begin(found[:4])
    for one in found[4:]:
        second.offer(one, image, truth, truth)

    assert sorted(path.stem for path in (tmp_path / "worst").iterdir()) == [
        "000001", "000004", "000006",
    ]  # fmt: skip
