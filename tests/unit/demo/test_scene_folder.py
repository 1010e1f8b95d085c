"""A folder of scenes that a labelling project can be made from."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from cliper_model.demo.scene_folder import label_config, write_scene_folder
from cliper_model.demo.scenes import LABELS, UnknownStyle


def test_a_folder_holds_pictures_masks_tasks_and_config(tmp_path):
    pictures = write_scene_folder(2, 5, tmp_path, size_hw=(64, 96))

    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [path.name for path in pictures]
    for picture, task in zip(pictures, tasks, strict=True):
        assert np.asarray(Image.open(picture)).shape == (64, 96, 3)
        masks = sorted(tmp_path.glob(f"{picture.stem}__*.png"))
        assert sorted(task["meta"]["labels"]) == [path.stem.split("__")[1] for path in masks]
        for path in masks:
            mask = np.asarray(Image.open(path))
            assert mask.shape == (64, 96)
            assert set(np.unique(mask)) <= {0, 255}
            assert mask.any()


def test_the_config_lists_every_label_with_its_own_colour():
    tree = ElementTree.fromstring(label_config())

    labels = tree.findall("./BrushLabels/Label")
    assert tree.find("Image").attrib == {"name": "image", "value": "$image"}
    assert tree.find("BrushLabels").attrib == {"name": "label", "toName": "image"}
    assert [label.get("value") for label in labels] == list(LABELS)
    assert len({label.get("background") for label in labels}) == len(LABELS)


def test_a_longer_folder_begins_like_a_shorter_one(tmp_path):
    (short,) = write_scene_folder(1, 5, tmp_path / "short", size_hw=(48, 48))
    long, _ = write_scene_folder(2, 5, tmp_path / "long", size_hw=(48, 48))

    assert short.read_bytes() == long.read_bytes()


def test_no_scene_is_an_empty_project(tmp_path):
    assert write_scene_folder(0, 1, tmp_path) == []
    assert json.loads((tmp_path / "tasks.json").read_text()) == []


def test_a_negative_number_of_scenes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        write_scene_folder(-1, 1, tmp_path)


def test_another_style_has_the_same_names_and_masks_but_other_pictures(tmp_path):
    (usual,) = write_scene_folder(1, 5, tmp_path / "usual", size_hw=(64, 64))
    (drawn,) = write_scene_folder(1, 5, tmp_path / "pencil", size_hw=(64, 64), style="pencil")

    masks = sorted(path.name for path in usual.parent.glob("*__*.png"))
    assert drawn.name == usual.name
    assert drawn.read_bytes() != usual.read_bytes()
    assert sorted(path.name for path in drawn.parent.glob("*__*.png")) == masks
    for name in masks:
        assert (drawn.parent / name).read_bytes() == (usual.parent / name).read_bytes()


def test_an_unknown_style_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UnknownStyle, match="unknown style 'oil'"):
        write_scene_folder(1, 1, tmp_path / "new", style="oil")

    assert not (tmp_path / "new").exists()
