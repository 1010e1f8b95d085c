"""Training pictures and label maps: what the values mean, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cliper_model.student.errors import BrokenPicture, NothingToLearn
from cliper_model.student.gallery import Gallery, find_masks, find_pictures
from cliper_model.student.labels import IGNORE, UNLABELLED

from .paint import words


def save(path: Path, values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "pictures" / "deep" / "b.png", np.zeros((2, 4, 3)))
    save(tmp_path / "pictures" / "a.png", np.zeros((2, 4, 3)))
    save(tmp_path / "pictures" / "a__house.png", np.zeros((2, 4)))
    save(tmp_path / "pictures" / "a.labels.png", np.zeros((2, 4)))
    save(tmp_path / "pictures" / ".cache" / "c.png", np.zeros((2, 4, 3)))
    save(tmp_path / "masks" / "deep" / "b.png", [[0, 1, 2, 255], [2, 2, 254, 0]])
    return tmp_path


def gallery(folder: Path, *, background: bool = False, unlabelled: tuple[int, ...] = ()) -> Gallery:
    pictures = find_pictures(folder / "pictures")
    masks = find_masks(folder / "masks", pictures, root=folder / "pictures")
    return Gallery(pictures, masks, words(background=background), unlabelled)


def test_masks_label_maps_and_hidden_files_are_no_pictures(folder: Path) -> None:
    found = [path.name for path in find_pictures(folder / "pictures")]

    assert found == ["a.png", "b.png"]


def test_values_of_a_label_map_become_class_numbers(folder: Path) -> None:
    annotation = gallery(folder, background=True).annotation(1, (2, 4))

    assert annotation.tolist() == [
        [UNLABELLED, 1, 2, IGNORE],
        [2, 2, 0, UNLABELLED],
    ]


def test_without_a_label_map_every_pixel_waits(folder: Path) -> None:
    assert (gallery(folder, background=True).annotation(0, (2, 4)) == UNLABELLED).all()


def test_unlabelled_classes_wait_although_somebody_annotated_them(folder: Path) -> None:
    annotation = gallery(folder, background=True, unlabelled=(2,)).annotation(1, (2, 4))

    assert annotation[0].tolist() == [UNLABELLED, 1, UNLABELLED, IGNORE]


def test_a_pseudo_label_may_be_any_name_or_the_unlabelled_ones(folder: Path) -> None:
    assert gallery(folder, background=True).asked == (1, 2)
    assert gallery(folder, background=True, unlabelled=(2,)).asked == (2,)


def test_a_value_without_a_label_is_refused(folder: Path) -> None:
    with pytest.raises(BrokenPicture, match="value 254 stands for none of the 2 labels"):
        gallery(folder).annotation(1, (2, 4))


def test_a_label_map_of_another_size_is_refused(folder: Path) -> None:
    with pytest.raises(BrokenPicture, match="it is 4 x 2 pixels, its picture 9 x 8"):
        gallery(folder, background=True).annotation(1, (8, 9))


def test_a_label_map_in_colour_is_refused(folder: Path) -> None:
    save(folder / "masks" / "deep" / "b.png", np.zeros((2, 4, 3)))

    with pytest.raises(BrokenPicture, match="one 8-bit channel, not RGB"):
        gallery(folder).annotation(1, (2, 4))


def test_a_broken_picture_is_named(folder: Path) -> None:
    (folder / "pictures" / "a.png").write_bytes(b"\x89PNG nothing")

    with pytest.raises(BrokenPicture, match=r"repair or remove .*a\.png"):
        gallery(folder).picture(0)


def test_folders_without_pictures_or_label_maps_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pictures = find_pictures(folder / "pictures")

    with pytest.raises(NothingToLearn, match="give a folder with pictures"):
        find_pictures(tmp_path / "empty")
    with pytest.raises(NothingToLearn, match=r"is none$"):
        find_pictures(tmp_path / "nowhere")
    with pytest.raises(NothingToLearn, match=r"NAME\.labels\.png or NAME\.png"):
        find_masks(tmp_path / "empty", pictures, root=folder / "pictures")


def test_the_digest_changes_with_the_files(folder: Path) -> None:
    before = gallery(folder).digest
    save(folder / "pictures" / "z.png", np.zeros((3, 3, 3)))

    assert gallery(folder).digest != before
