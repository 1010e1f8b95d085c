"""`cliper evaluate` on folders, exports and benchmarks, with a model whose words are colours."""

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from backend.__main__ import main
from backend.cli import evaluate
from backend.errors import BadMask, BadRequest
from backend.labelstudio import export, rle
from backend.labelstudio.regions import FORMATS, RegionControl
from cliper_model.evaluation import benchmarks
from cliper_model.evaluation.datasets.table import LAYOUTS

from ...doubles.benchmark_trees import voc
from ...doubles.colours import ColourSegmenter
from ...doubles.pictures import COLOURS

NAMES = ("blue", "green", "red")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ColourSegmenter:
    found = ColourSegmenter()
    monkeypatch.setattr(evaluate, "_load", lambda args, settings, profile: found)
    return found


def cliper(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of colour patches and a truth that is right nearly everywhere."""
    rng = np.random.default_rng(number)
    labels = np.repeat(np.repeat(rng.integers(0, 4, (3, 4)), 5, axis=0), 6, axis=1)
    paint = np.array([(90, 90, 90), *(COLOURS[name] for name in NAMES)], np.uint8)
    truth = labels.copy()
    truth[: number + 2, :7] = number % 3 + 1
    return paint[labels], truth


def plant_folder(root: Path, count: int = 5) -> Path:
    for number in range(count):
        image, truth = scene(number)
        for folder, pixels in (("images", image), ("masks", truth.astype(np.uint8))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    (root / "names.txt").write_text("\n".join(NAMES) + "\n")
    return root


def region(name: str, mask: np.ndarray, kind: str = "brushlabels") -> dict[str, Any]:
    packed = rle.encode(np.where(mask, np.uint8(255), np.uint8(0)))
    return {
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "value": {"format": "rle", "rle": list(packed), kind: [name]},
    }


def plant_export(root: Path, count: int = 5) -> Path:
    """Uploads with Label Studio's prefix; every label in two regions; a cancelled annotation."""
    (root / "media").mkdir(parents=True)
    tasks = []
    for number in range(count):
        image, truth = scene(number)
        Image.fromarray(image).save(root / "media" / f"{number}.png")
        regions: list[dict[str, Any]] = [{"type": "choices", "value": {"choices": ["good"]}}]
        for index, name in enumerate(NAMES, start=1):
            left, right = truth == index, truth == index
            left[:, 12:] = False
            right[:, :12] = False
            regions += [region(name, part) for part in (left, right) if part.any()]
        regions.append(region("Background", truth == 0))
        wrong = [region("red", np.ones_like(truth, bool))]
        tasks.append(
            {
                "id": 100 + number,
                "data": {"image": f"/data/upload/7/deadbeef-{number}.png"},
                "annotations": [
                    {"result": regions, "updated_at": "2025-01-02T00:00:00Z"},
                    {"result": wrong, "updated_at": "2025-01-01T00:00:00Z"},
                    {"result": wrong, "updated_at": "2025-01-03T00:00:00Z", "was_cancelled": True},
                ],
            }
        )
    tasks.append({"id": 999, "data": {"image": "/data/upload/7/x.png"}, "annotations": []})
    (root / "project.json").write_text(json.dumps(tasks))
    return root


def results(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def test_a_folder_gives_figures_tables_and_a_page(
    tmp_path: Path, model: ColourSegmenter, capsys: pytest.CaptureFixture[str]
):
    root, out = plant_folder(tmp_path / "own"), tmp_path / "out"

    assert cliper("--dataset", "folder", "--root", root, "--profile", "fast", "--out", out) == 0

    truths = np.stack([scene(number)[1] for number in range(5)])
    said = np.stack(
        [
            sum(
                (index + 1) * (scene(number)[0] == COLOURS[name]).all(axis=2)
                for index, name in enumerate(NAMES)
            )
            for number in range(5)
        ]
    )
    found = results(out)
    assert found["figures"]["pixel_accuracy"] == pytest.approx(100 * (truths == said).mean())
    assert 50 < found["figures"]["miou"] < 100
    assert found["settings"]["method"]["name"] == "colours"
    assert found["context"]["command"].startswith("cliper ")
    with (out / "classes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["background", *NAMES]
    assert int(rows[3]["truth_pixels"]) == (truths == 3).sum()
    with (out / "images.csv").open() as stream:
        assert [row["name"] for row in csv.DictReader(stream)] == ["0", "1", "2", "3", "4"]
    assert f"mIoU {found['figures']['miou']:.2f} %" in capsys.readouterr().out


def test_the_page_is_well_formed_and_asks_nobody_for_anything(
    tmp_path: Path, model: ColourSegmenter
):
    root, out = plant_folder(tmp_path / "own"), tmp_path / "out"
    (root / "names.txt").write_text("blue\ngreen\nred|red\n")
    (root / "images" / "4.png").rename(root / "images" / "a <b> & 'c'.png")
    (root / "masks" / "4.png").rename(root / "masks" / "a <b> & 'c'.png")

    cliper("--dataset", "folder", "--root", root, "--profile", "fast", "--out", out)

    page = (out / "report.html").read_text(encoding="utf-8")
    tree = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    text = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", page)
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|url\(", text)
    sources = [image.get("src", "") for image in tree.iter("img")]
    assert len(sources) == 1 + 5  # confusion picture and five strips
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "a <b> & 'c': mIoU" in "".join(tree.itertext())
    assert len(list(tree.iter("i"))) == 4  # a bar per label


def test_an_export_with_brush_regions_gives_the_figures_of_the_folder(
    tmp_path: Path, model: ColourSegmenter
):
    own, exported = plant_folder(tmp_path / "own"), plant_export(tmp_path / "export")

    assert (
        cliper("--dataset", "folder", "--root", own, "--profile", "fast", "--out", tmp_path / "a")
        == 0
    )
    assert (
        cliper(
            "--dataset", "labelstudio", "--root", exported, "--profile", "fast",
            "--out", tmp_path / "b",
        )
        == 0
    )  # fmt: skip

    folder, studio = results(tmp_path / "a"), results(tmp_path / "b")
    assert studio["figures"] == folder["figures"]
    assert studio["classes"] == folder["classes"]


def test_unlabelled_pixels_are_left_out_when_asked(tmp_path: Path, model: ColourSegmenter):
    root, out = plant_folder(tmp_path / "own"), tmp_path / "out"

    cliper(
        "--dataset", "folder", "--root", root, "--profile", "fast", "--out", out,
        "--unlabelled", "ignored",
    )  # fmt: skip

    found = results(out)
    labelled = sum((scene(number)[1] > 0).sum() for number in range(5))
    assert found["figures"]["pixels"] == labelled
    assert found["classes"][0]["truth_pixels"] == 0


def test_shards_merge_to_the_results_of_one_run(tmp_path: Path, model: ColourSegmenter):
    root = plant_folder(tmp_path / "own", count=7)
    same = ("--dataset", "folder", "--root", root, "--profile", "fast")
    cliper(*same, "--out", tmp_path / "one")
    parts = [tmp_path / f"part{which}" for which in (1, 2, 3)]
    for which, part in enumerate(parts, start=1):
        assert cliper(*same, "--shard", f"{which}/3", "--out", part) == 0

    assert cliper("--merge", *parts, "--out", tmp_path / "all") == 0

    whole, together = results(tmp_path / "one"), results(tmp_path / "all")
    assert together["figures"] == whole["figures"]
    assert together["classes"] == whole["classes"]
    strips = [
        sorted(p.name for p in (tmp_path / one / "worst").iterdir()) for one in ("one", "all")
    ]
    assert strips[0] == strips[1]
    assert len(strips[0]) == 7


def test_a_picture_that_cannot_be_read_gives_status_1_and_a_sentence(
    tmp_path: Path, model: ColourSegmenter, capsys: pytest.CaptureFixture[str]
):
    root, out = plant_folder(tmp_path / "own"), tmp_path / "out"
    whole = (root / "images" / "2.png").read_bytes()
    (root / "images" / "2.png").write_bytes(whole[: len(whole) // 2])
    same = ("--dataset", "folder", "--root", root, "--profile", "fast", "--out", out)

    assert cliper(*same) == 1
    assert (
        "1 pictures could not be measured and are not in these figures" in capsys.readouterr().err
    )
    assert results(out)["figures"]["failed"] == 1
    assert "could not be measured" in (out / "report.html").read_text()

    (root / "images" / "2.png").write_bytes(whole)
    assert cliper(*same, "--resume") == 0
    assert results(out)["figures"]["images"] == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name a data set and its folder"),
        (("--dataset", "voc21", "--root", "nowhere"), "--root nowhere does not exist"),
        (("--merge", "a"), "name the folder for the joined results with --out"),
        (("--dataset", "folder", "--root", ".", "--limit", "0"), "--limit must be at least 1"),
        (
            ("--merge", "a", "--out", "b", "--dataset", "voc21", "--published"),
            "takes only --out; leave out --dataset, --published",
        ),
    ],
)
def test_options_that_cannot_be_meant_are_one_sentence(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
):
    assert cliper(*arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


OWN_DATA = ("--dataset", "folder", "--root", ".", "--profile", "fast")
STUDIO = ("--dataset", "labelstudio", "--root", ".", "--profile", "fast")
VOC21 = ("--dataset", "voc21", "--root", ".", "--profile", "fast")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((*OWN_DATA, "--published"), "--published restores protocols that belong to benchmarks"),
        ((*STUDIO, "--published"), "leave it out on own data"),
        ((*OWN_DATA, "--side", "224"), "--side picks a published centre crop of benchmarks"),
        ((*STUDIO, "--method", "cliptrase", "--side", "336"), "leave it out on own data"),
        ((*VOC21, "--side", "336"), "--side is for cliptrase only; leave it out with cliper"),
        (
            (*VOC21, "--method", "clip", "--windows"),
            "--windows is for cliper only; leave it out with clip",
        ),
        (
            (*OWN_DATA, "--method", "maskclip", "--no-windows"),
            "--no-windows is for cliper only; leave it out with maskclip",
        ),
        (
            (*STUDIO, "--method", "cliptrase", "--no-refinement"),
            "--no-refinement is for cliper only; leave it out with cliptrase",
        ),
        ((*VOC21, "--unlabelled", "ignored"), "--unlabelled is for folder and labelstudio"),
        ((*VOC21, "--unlabelled", "background"), "leave it out with voc21"),
        ((*OWN_DATA, "--student", "x.safetensors"), "cliper"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused_before_anything_is_read(
    arguments: tuple[str, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(evaluate, "_load", pytest.fail)
    monkeypatch.setattr(evaluate, "open_data", pytest.fail)

    assert cliper(*arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_windows_and_refinement_are_followed_on_own_data(tmp_path: Path):
    root = plant_folder(tmp_path / "own", count=1)
    (root / "names.txt").write_text("sky\nhouse\ntree\n")
    same = ("--dataset", "folder", "--root", root, "--profile", "demo", "--device", "cpu")
    choices = {
        "plain": (),
        "windows": ("--windows",),
        "coarse": ("--no-refinement",),
    }

    for name, choice in choices.items():
        assert cliper(*same, *choice, "--out", tmp_path / name) == 0

    configs = {name: results(tmp_path / name)["settings"]["method"]["config"] for name in choices}
    assert (configs["plain"]["crop"], configs["plain"]["refinement"]) == (0, "SFSA")
    assert configs["windows"] == {**configs["plain"], "crop": configs["plain"]["short_side"]}
    assert configs["coarse"] == {**configs["plain"], "refinement": "none"}


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b"])
def test_a_shard_that_is_none_is_refused(shard: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cliper("--shard", shard)
    assert "a shard is I/N with I from 1 to N" in capsys.readouterr().err


def test_wrong_data_stops_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(evaluate, "_load", pytest.fail)
    root = plant_folder(tmp_path / "own")
    (root / "images").rename(root / "x")
    (root / "masks").rename(root / "images")
    (root / "x").rename(root / "masks")

    assert cliper("--dataset", "folder", "--root", root) == 2
    assert "swapped" in capsys.readouterr().err


def test_a_method_without_the_benchmarks_numbers_is_one_sentence(
    tmp_path: Path, model: ColourSegmenter, capsys: pytest.CaptureFixture[str]
):
    tree = voc(tmp_path / "voc", background=True)

    status = cliper("--dataset", "voc21", "--root", tree.root, "--profile", "fast")

    assert status == 2
    assert (
        "voc21 has no published words and numbers for the method 'colours'; measure it with "
        "--dataset folder" in capsys.readouterr().err
    )


def test_the_command_offers_every_data_set_of_the_table():
    assert set(evaluate.DATASETS) == {*LAYOUTS, "labelstudio"}
    assert set(evaluate.OWN) == {*benchmarks.OWN, "labelstudio"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("no json", "is not JSON; export the project as JSON"),
        ('{"a": 1}', "is not a list of tasks"),
        ("[]", "holds 0 tasks and no annotation"),
        ('[{"id": 1, "data": {"image": "a.png"}}]', "holds 1 tasks and no annotation"),
        (
            '[{"id": 1, "data": {"text": "x"}, "annotations": [{"result": []}]}]',
            "task 1 of .* names no picture file",
        ),
    ],
)
def test_exports_that_cannot_be_measured_get_a_sentence(
    content: str, sentence: str, tmp_path: Path
):
    path = tmp_path / "export.json"
    path.write_text(content)
    with pytest.raises(BadRequest, match=sentence):
        export.read(path)


def test_a_region_of_another_size_or_a_mask_of_an_unknown_type_is_refused():
    mask = np.ones((4, 6), bool)
    task = export.AnnotatedTask(id=7, address="a.png", regions=(region("red", mask),))

    assert export.masks_of(task, (4, 6))["red"].all()
    with pytest.raises(BadMask, match="task 7 was painted on 6 x 4 pixels, its picture has 8 x 8"):
        export.masks_of(task, (8, 8))
    task = export.AnnotatedTask(id=7, address="a.png", regions=(region("red", mask, "newlabels"),))
    with pytest.raises(BadMask, match="task 7 has masks of type 'newlabels', which cannot be read"):
        export.labels_of((task,))


def test_a_picture_that_was_turned_is_refused_by_its_task():
    mask = np.ones((4, 6), bool)
    still = {**region("red", mask), "image_rotation": 0}
    turned = {**region("red", mask), "image_rotation": 90}

    assert export.labels_of((task_of(still),)) == ("red",)
    with pytest.raises(BadMask, match="task 7 was painted on a picture turned by 90 degrees; turn"):
        export.labels_of((task_of(still, turned),))


def task_of(*regions: dict[str, Any]) -> export.AnnotatedTask:
    return export.AnnotatedTask(id=7, address="a.png", regions=regions)


def shape(kind: str, name: str, **value: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "original_width": 6,
        "original_height": 4,
        "image_rotation": 0,
        "value": {"x": 1.0, "y": 2.0, **value, kind: [name]},
    }


def pair_of(name: str, mask: np.ndarray, known_as: str, stroke: str = "brush") -> list[Any]:
    """A stroke and its label as Label Studio stores them: two results with one id."""
    value = region(name, mask)["value"]
    plain = {key: value[key] for key in ("format", "rle")}
    common = {**region(name, mask), "id": known_as}
    return [
        {**common, "type": stroke, "value": plain},
        {**common, "type": "labels", "from_name": "name", "value": {**plain, "labels": [name]}},
    ]


def test_a_stroke_and_the_label_with_its_id_are_one_region():
    left, right = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    left[:, :2], right[:, 4:] = True, True
    rated = {"type": "choices", "id": "a", "value": {"choices": ["good"], "rle": [1]}}
    nameless = pair_of("red", np.ones((4, 6), bool), "c")[0]
    task = task_of(
        *pair_of("red", left, "a"),
        rated,
        nameless,
        *pair_of("blue", right, "b", "magicwand")[::-1],
        region("red", right),
    )

    found = export.masks_of(task, (4, 6))

    assert export.labels_of((task,)) == ("blue", "red")
    assert np.array_equal(found["red"], left | right)
    assert np.array_equal(found["blue"], right)
    assert export.without_mask((task,)) == {}


def test_regions_without_a_mask_are_counted_and_passed_over():
    mask = np.ones((4, 6), bool)
    box = {"id": "r", "type": "rectangle", "value": {"x": 1, "y": 1, "width": 5, "height": 5}}
    named = {"id": "r", "type": "labels", "value": {**box["value"], "labels": ["blue"]}}
    task = task_of(
        shape("keypointlabels", "green", width=0.5),
        region("red", mask),
        shape("keypointlabels", "red", width=0.5),
        shape("ellipselabels", "blue", radiusX=3.0, radiusY=3.0),
        box,
        named,
    )

    assert export.labels_of((task,)) == ("red",)
    assert list(export.masks_of(task, (4, 6))) == ["red"]
    assert export.without_mask((task,)) == {"ellipselabels": 1, "keypointlabels": 2, "rectangle": 1}


def test_bitmasks_polygons_and_closed_vectors_are_read_and_joined_with_strokes():
    def drawn(kind: str, mask: np.ndarray) -> list[dict[str, Any]]:
        control = RegionControl(
            from_name="seg",
            to_name="image",
            kind=kind,
            label="red",
            region_id=kind,
            tolerance=0.0,
        )
        return FORMATS[kind].encode(mask, control)

    quarters = [np.zeros((4, 6), bool) for _ in range(4)]
    for index, mask in enumerate(quarters):
        mask[index, index : index + 3] = True
    polygon, vector = drawn("polygonlabels", quarters[1]), drawn("vectorlabels", quarters[2])
    (open_path,) = drawn("vectorlabels", np.ones((4, 6), bool))
    open_path["value"]["closed"] = False
    task = task_of(
        region("red", quarters[0]),
        *polygon,
        *vector,
        *drawn("bitmasklabels", quarters[3]),
        open_path,
    )

    found = export.masks_of(task, (4, 6))

    assert np.array_equal(found["red"], np.logical_or.reduce(quarters))
    assert export.without_mask((task,)) == {"vectorlabels": 1}


def test_a_polygon_and_the_label_with_its_id_are_one_region():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    control = RegionControl(
        from_name="shape",
        to_name="image",
        kind="polygon",
        label="red",
        labels_name="name",
        region_id="a",
    )
    task = task_of(*FORMATS["polygon"].encode(mask, control))

    assert np.array_equal(export.masks_of(task, (4, 6))["red"], mask)


def test_key_points_left_by_prompting_do_not_stop_a_measurement(
    tmp_path: Path, model: ColourSegmenter, caplog: pytest.LogCaptureFixture
):
    plain, prompted = plant_export(tmp_path / "plain"), plant_export(tmp_path / "prompted")
    tasks = json.loads((prompted / "project.json").read_text())
    for task in tasks[:2]:
        task["annotations"][0]["result"] += [shape("keypointlabels", "red"), shape("x", "red")]
    (prompted / "project.json").write_text(json.dumps(tasks))
    same = ("--dataset", "labelstudio", "--profile", "fast")

    assert cliper(*same, "--root", plain, "--out", tmp_path / "a") == 0
    assert not caplog.messages
    assert cliper(*same, "--root", prompted, "--out", tmp_path / "b") == 0

    without, beside = results(tmp_path / "a"), results(tmp_path / "b")
    assert beside["figures"] == without["figures"]
    assert without["settings"]["regions_without_mask"] == {}
    assert beside["settings"]["regions_without_mask"] == {"keypointlabels": 2}
    (said,) = caplog.messages
    assert "2 regions carry no mask (keypointlabels 2) and are passed over" in said
    assert "2 regions carry no mask" in (tmp_path / "b" / "report.html").read_text()


def test_an_export_that_was_edited_is_not_gone_on_with(
    tmp_path: Path, model: ColourSegmenter, capsys: pytest.CaptureFixture[str]
):
    root, out = plant_export(tmp_path / "export"), tmp_path / "out"
    same = ("--dataset", "labelstudio", "--root", root, "--profile", "fast", "--out", out)
    assert cliper(*same) == 0
    path = root / "project.json"
    assert results(out)["settings"]["truth_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()

    path.write_text(path.read_text() + "\n")

    assert cliper(*same, "--resume") == 2
    assert "truth_sha256 was '" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "names"),
    [
        (
            "/data/upload/3/deadbeef-cat%201.png",
            ("data/upload/3/deadbeef-cat 1.png", "deadbeef-cat 1.png", "cat 1.png"),
        ),
        ("/data/local-files/?d=in/a.png", ("in/a.png", "a.png")),
        ("s3://bucket/x/b.jpg", ("x/b.jpg", "b.jpg")),
    ],
)
def test_a_picture_is_found_by_any_name_label_studio_gives_it(address: str, names: tuple[str, ...]):
    assert export.AnnotatedTask(id=1, address=address, regions=()).file_names == names


def test_a_picture_that_is_missing_or_there_twice_is_refused(
    tmp_path: Path, model: ColourSegmenter, capsys: pytest.CaptureFixture[str]
):
    root = plant_export(tmp_path / "export")
    (root / "more").mkdir()
    (root / "media" / "3.png").rename(root / "more" / "3.png")
    (root / "more" / "1.png").write_bytes((root / "media" / "1.png").read_bytes())

    assert cliper("--dataset", "labelstudio", "--root", root) == 2
    assert "2 pictures are called 1.png" in capsys.readouterr().err
    (root / "more" / "1.png").unlink()
    (root / "more" / "3.png").unlink()
    assert cliper("--dataset", "labelstudio", "--root", root) == 2
    assert "3.png is not below" in capsys.readouterr().err


def test_the_papers_spelling_of_a_data_set_is_understood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("VOC21", "COCO-Object", "ADE20K", "LoveDA"):
        assert main(["evaluate", "--dataset", name, "--root", str(tmp_path / "no")]) == 2

        assert str(tmp_path / "no") in capsys.readouterr().err
