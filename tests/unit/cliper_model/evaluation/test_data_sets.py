"""Wrong folders, lists and masks each get one sentence, before the first picture is looked at."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cliper_model.evaluation import benchmarks, check
from cliper_model.evaluation.datasets.table import LAYOUTS
from cliper_model.evaluation.errors import BadDataset, NoSuchNumbers, UnknownDataset

from ....doubles.benchmark_trees import TREES, ade20k, ade_full, context459, folder, voc

THIRTEEN = tuple(name for name in LAYOUTS if name != "folder")


def refused(name: str, root: Path) -> str:
    with pytest.raises(BadDataset) as caught:
        check.check(benchmarks.open_data(name, root))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_thirteen_benchmarks_are_known_and_each_has_a_tree():
    assert len(THIRTEEN) == 13
    assert {name for name, _ in TREES.values()} == set(LAYOUTS)


@pytest.mark.parametrize("name", THIRTEEN)
def test_a_folder_that_is_no_data_set_is_refused_with_what_is_missing(name: str, tmp_path: Path):
    (tmp_path / "somewhere").mkdir()

    assert "point --root at the folder" in refused(name, tmp_path)


def test_the_masks_of_voc_are_palette_pictures_and_their_indices_count(tmp_path: Path):
    tree = voc(tmp_path / "data", background=True)
    data = benchmarks.open_data("voc21", tree.root)

    for sample, truth in zip(data.samples, tree.truths, strict=True):
        with Image.open(sample.truth) as mask:
            assert mask.mode == "P"
            colours = np.asarray(mask.convert("RGB"))
        assert (colours[truth == -1] == (224, 224, 192)).all()  # the devkit's colour of 255
        assert np.array_equal(data.truth(sample), truth)


def test_an_unknown_data_set_lists_those_there_are(tmp_path: Path):
    with pytest.raises(UnknownDataset, match="unknown data set 'kitti'; choose one of: voc21"):
        benchmarks.open_data("kitti", tmp_path)


def test_swapped_folders_are_named_in_one_sentence(tmp_path: Path):
    tree = folder(tmp_path / "data")
    (tree.root / "images").rename(tree.root / "x")
    (tree.root / "masks").rename(tree.root / "images")
    (tree.root / "x").rename(tree.root / "masks")

    sentence = refused("folder", tree.root)

    assert "three channels and" in sentence
    assert "distinct colours" in sentence
    assert "swapped" in sentence


def test_masks_in_colours_instead_of_ids_are_refused(tmp_path: Path):
    tree = ade20k(tmp_path / "data")
    for path in (tree.root / "ADEChallengeData2016/annotations/validation").glob("*.png"):
        Image.open(path).convert("RGB").save(path)

    assert "should be one channel of label ids" in refused("ade20k", tree.root)


def test_ids_outside_the_range_are_found_before_the_run(tmp_path: Path):
    tree = voc(tmp_path / "data", background=True)
    path = tree.root / "VOCdevkit/VOC2012/SegmentationClass/2010_c.png"
    ids = np.array(Image.open(path))
    ids[3, 3], ids[4, 4] = 21, 200
    Image.fromarray(ids).save(path)

    sentence = refused("voc21", tree.root)

    assert sentence.startswith("2010_c: ")
    assert "ids that the data set does not define: 21, 200" in sentence
    assert "known are 0-20, not counted 255" in sentence


def test_a_missing_mask_is_counted_and_named(tmp_path: Path):
    tree = voc(tmp_path / "data", background=True)
    for name in ("2010_c", "2011_x"):
        (tree.root / f"VOCdevkit/VOC2012/SegmentationClass/{name}.png").unlink()

    sentence = refused("voc21", tree.root)

    assert "2 of 5 masks are missing, the first is" in sentence
    assert "2010_c.png" in sentence


def test_a_missing_picture_is_counted_and_named(tmp_path: Path):
    tree = voc(tmp_path / "data", background=True)
    tree.pictures[4].unlink()

    assert "1 of 5 pictures are missing" in refused("voc21", tree.root)


def test_a_mask_of_another_size_is_refused(tmp_path: Path):
    tree = folder(tmp_path / "data")
    Image.fromarray(np.ones((3, 4), np.uint8)).save(tree.root / "masks" / "c3.png")

    assert "c3: the picture is 17 x 17 pixels, its mask 4 x 3" in refused("folder", tree.root)


def test_a_phone_picture_stored_on_its_side_is_turned_like_its_mask(tmp_path: Path):
    tree = folder(tmp_path / "data")
    path = tree.root / "images" / "d4.png"
    upright = np.asarray(Image.open(path))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right to see it upright
    Image.fromarray(np.rot90(upright)).save(path, exif=exif)

    data = benchmarks.open_data("folder", tree.root)

    check.check(data)
    assert np.array_equal(data.image(data.samples[3]), upright)


def test_an_empty_list_and_an_empty_folder_are_refused(tmp_path: Path):
    tree = voc(tmp_path / "data", background=True)
    (tree.root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("\n\n")
    other = folder(tmp_path / "own")
    shutil.rmtree(other.root / "images")
    (other.root / "images").mkdir()

    assert "lists no picture" in refused("voc21", tree.root)
    assert "there is no picture in" in refused("folder", other.root)


def test_masks_that_hold_nothing_counted_are_refused(tmp_path: Path):
    tree = voc(tmp_path / "data", background=False)
    for path in (tree.root / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        ids = np.array(Image.open(path))
        Image.fromarray(np.zeros_like(ids)).save(path)

    assert "no mask of voc20 holds anything that is counted" in refused("voc20", tree.root)


def test_names_that_come_with_the_data_set_are_counted(tmp_path: Path):
    full, many = ade_full(tmp_path / "a"), context459(tmp_path / "b")
    assert benchmarks.open_data("ade-full", full.root).classes[1] == "building, edifice"
    assert benchmarks.open_data("context459", many.root).classes[458] == "thing number 459"

    (full.root / "names.txt").write_text("".join(f"object {n}\n" for n in range(847)))
    assert benchmarks.open_data("ade-full", full.root).classes[846] == "object 846"
    (full.root / "names.txt").write_text("wall\n")
    assert "names 1 classes; the masks have 847" in refused("ade-full", full.root)
    (many.root / "labels.txt").write_text("1: accordion\n")
    assert "names 1 classes, not 1 to 459" in refused("context459", many.root)
    (many.root / "labels.txt").unlink()
    assert "has no labels.txt" in refused("context459", many.root)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("", "must name a class on every line"),
        ("a\n\nb\n", "must name a class on every line"),
        ("a\nb\na|c\n", "names 'a' twice"),
        ("\n".join(str(n) for n in range(255)), "names 255 classes; at most 254 fit"),
    ],
)
def test_class_names_of_a_folder_that_cannot_be_meant_are_refused(
    lines: str, sentence: str, tmp_path: Path
):
    tree = folder(tmp_path / "data")
    (tree.root / "names.txt").write_text(lines)

    assert sentence in refused("folder", tree.root)


def test_a_mask_per_label_beside_the_picture_is_a_folder_too(tmp_path: Path):
    Image.new("RGB", (6, 4)).save(tmp_path / "one.png")
    sky, sea = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    sky[:2], sea[1:3] = 255, 255
    Image.fromarray(sky).save(tmp_path / "one__sky.png")
    Image.fromarray(sea).save(tmp_path / "one__sea.png")

    data = benchmarks.open_data("folder", tmp_path)

    check.check(data)
    assert data.classes == ("sea", "sky")
    assert data.truth(data.samples[0])[:, 0].tolist() == [2, -1, 1, 0]


def plant_mask_per_label(root: Path, *pictures: str) -> None:
    for number, name in enumerate(pictures):
        Image.new("RGB", (6, 4)).save(root / name)
        sky = np.zeros((4, 6), np.uint8)
        sky[: number + 1] = 255
        Image.fromarray(sky).save(root / f"{Path(name).stem}__sky.png")


def test_a_picture_whose_name_looks_like_a_pattern_keeps_its_masks(tmp_path: Path):
    plant_mask_per_label(tmp_path, "pic[1].png", "pic1.png", "a*.png")

    data = benchmarks.open_data("folder", tmp_path)

    check.check(data)
    shown = {one.name: int((data.truth(one) == 1).sum()) for one in data.samples}
    assert shown == {"pic[1]": 6, "pic1": 12, "a*": 18}
    before = data.truth_sha256()
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "pic[1]__sky.png")
    assert data.truth_sha256() != before


def test_two_pictures_with_one_stem_are_refused(tmp_path: Path):
    tree, beside = folder(tmp_path / "data"), tmp_path / "beside"
    Image.open(tree.root / "images" / "c3.png").save(tree.root / "images" / "c3.jpg")
    beside.mkdir()
    plant_mask_per_label(beside, "a.png")
    Image.new("RGB", (6, 4)).save(beside / "a.jpg")

    assert "c3.jpg and c3.png in" in refused("folder", tree.root)
    assert "have the same stem, so one mask would belong to both; rename one" in refused(
        "folder", beside
    )


def test_a_picture_without_masks_and_masks_without_a_picture_are_refused(tmp_path: Path):
    plant_mask_per_label(tmp_path, "a.png", "b.png")
    (tmp_path / "b__sky.png").rename(tmp_path / "c__sky.png")
    assert "1 of 2 pictures in" in refused("folder", tmp_path)
    assert "have no mask, the first is b; add b__LABEL.png" in refused("folder", tmp_path)

    (tmp_path / "b.png").unlink()
    assert "have no picture, the first is c__*.png; add c.png" in refused("folder", tmp_path)


@pytest.mark.parametrize("name", THIRTEEN)
def test_every_data_file_is_whole(name: str):
    found = benchmarks.get(name)

    assert found.source == ("ours" if name in ("loveda", "vaihingen", "isaid") else "published")
    assert not found.published or found.source == "published"
    shown = found.classes or ("a thing",) * 3
    assert len(set(shown)) == len(shown) or found.classes is None
    for method in benchmarks.FAMILIES:
        words = found.words_of(method, shown)
        assert len(words.classes) == len(shown)
        assert words.source
    for clip in ("ViT-B-16-quickgelu", "ViT-L-14-quickgelu"):
        numbers = found.numbers_of("cliper", clip)
        assert numbers["source"].split(":")[0] in ("published", "ours")
        assert numbers["select_layer"] < 0
    with pytest.raises(NoSuchNumbers, match="not for 'ViT-H-14'; choose another profile"):
        found.numbers_of("cliper", "ViT-H-14")


@pytest.mark.parametrize(
    ("name", "clip", "expected"),
    [
        ("voc21", "ViT-B-16-quickgelu", (336, -1, 100, 0.1, 0.7, 0.6, True, "15")),
        ("voc20", "ViT-L-14-quickgelu", (336, -1, 70, 0.2, 0.1, 0.0001, False, "15")),
        ("coco-stuff", "ViT-L-14-quickgelu", (336, -2, 50, 0.2, 0.2, 0.2, False, "80")),
        ("cityscapes", "ViT-B-16-quickgelu", (560, -1, 100, 0.35, 0, 0.0001, False, "80")),
    ],
)
def test_the_numbers_are_those_of_the_specification(
    name: str, clip: str, expected: tuple[object, ...]
):
    found = benchmarks.get(name).numbers_of("cliper", clip)

    keys = (
        "short_side", "select_layer", "logit_scale", "attention_floor", "score_threshold",
        "background_threshold", "normalise", "templates",
    )  # fmt: skip
    assert tuple(found[key] for key in keys) == expected


def test_published_words_keep_their_quirks():
    voc21, stuff = benchmarks.get("voc21"), benchmarks.get("coco-stuff")

    assert voc21.words_of("cliper", ()).classes[14] == "person with clothes, people, human"
    assert len(voc21.words_of("cliper", ()).background) == 25
    assert len(voc21.words_of("proxyclip", ()).background) == 26
    assert "beachhill" in voc21.words_of("cliptrase", ("x",)).background
    assert len(benchmarks.get("coco-object").words_of("cliptrase", ("x",)).background) == 107
    assert stuff.classes is not None
    assert stuff.classes[9] == "trafficlight"
    assert len(stuff.classes) == 171
