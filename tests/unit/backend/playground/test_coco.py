"""Masks as COCO JSON, read back with COCO's own tools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_masks

from backend.labelstudio.label_config import ConfigLabel
from backend.painting import Part
from backend.playground.coco import document, runs


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of theirs
@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_runs_are_what_cocos_own_tools_read(mask: np.ndarray) -> None:
    told = {"size": list(mask.shape), "counts": runs(mask)}

    packed = coco_masks.frPyObjects(told, *mask.shape)

    np.testing.assert_array_equal(coco_masks.decode(packed).astype(bool), mask)
    assert int(coco_masks.area(packed)) == np.count_nonzero(mask)


@pytest.mark.parametrize("first", [True, False])
def test_runs_begin_with_zeros(first: bool) -> None:
    assert runs(np.full((2, 2), first)) == ([0, 4] if first else [4])


def test_every_region_has_its_box_its_area_and_its_category() -> None:
    mask = np.zeros((5, 8), bool)
    mask[1:3, 2:7] = True
    cat, dog = (ConfigLabel(name=name, result_name=name, words=(name,)) for name in ("cat", "dog"))
    parts = [Part(dog, 10, 0.75, lambda: mask), Part(cat, 10, None, lambda: mask)]

    told = document(parts, ["cat", "dog"], file_name="a.png", size_hw=(5, 8))

    first, second = told["annotations"]
    assert first["category_id"] == 2
    assert first["bbox"] == [2, 1, 5, 2]
    assert first["area"] == 10
    assert first["score"] == 0.75
    assert "score" not in second
    assert told["images"] == [{"id": 1, "file_name": "a.png", "height": 5, "width": 8}]
