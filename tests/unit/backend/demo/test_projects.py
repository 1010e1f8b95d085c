"""The demonstration's projects: the same for the same seed, and true to their titles."""

import io
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from backend.demo.projects import (
    ABSENT_LABELS,
    ONE_LABEL,
    everything,
    label_colours,
    nothing_there,
    one_label,
)
from cliper_model.demo.scenes import LABELS


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others():
    first, again, other = everything(2, 1), everything(2, 1), everything(2, 2)

    for one, two in zip(first.pictures, again.pictures, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
    assert not np.array_equal(first.pictures[0].image, other.pictures[0].image)


def test_the_full_project_asks_for_all_labels_in_every_picture():
    project = everything(1, 1)

    config = ElementTree.fromstring(project.label_config)

    assert tuple(label.get("value") for label in config.iter("Label")) == LABELS
    assert project.labels == LABELS


def test_half_of_the_pictures_have_the_one_label():
    project = one_label(5, 1)

    assert [ONE_LABEL in picture.truth for picture in project.pictures].count(True) == 2
    assert project.labels == (ONE_LABEL,)


def test_no_picture_has_any_of_the_absent_labels():
    project = nothing_there(4, 1)

    assert all(not set(picture.truth) & set(ABSENT_LABELS) for picture in project.pictures)
    assert set(project.labels) <= set(LABELS)


def test_pictures_of_one_project_have_names_of_their_own():
    names = [picture.name for picture in one_label(6, 1).pictures]

    assert len(set(names)) == len(names)


def test_the_uploaded_file_holds_the_picture_unchanged():
    (picture,) = everything(1, 1).pictures

    read = np.asarray(Image.open(io.BytesIO(picture.to_png())))

    np.testing.assert_array_equal(read, picture.image)


def test_no_two_labels_share_a_colour():
    colours = sorted(label_colours(LABELS).values())

    assert all(one != two for one, two in pairwise(colours))
