"""Masks as COCO JSON: one annotation per region, run-length encoded.

Source: the COCO data format (https://cocodataset.org/#format-data); runs go down the columns and
begin with zeros.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from ..labelstudio.regions.brush import enlarged
from ..painting import Part


def document(
    parts: Sequence[Part], names: Sequence[str], *, file_name: str, size_hw: tuple[int, int]
) -> dict[str, Any]:
    """A data set of one picture; categories are numbered from 1 in the order of `names`.

    `size_hw`: of the picture, and of every mask.
    """
    numbers = {name: number for number, name in enumerate(names, start=1)}
    return {
        "info": {"description": "CLIPer", "version": "1.0"},
        "images": [{"id": 1, "file_name": file_name, "height": size_hw[0], "width": size_hw[1]}],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [
            _annotation(part, number, numbers[part.label.result_name], size_hw)
            for number, part in enumerate(parts, start=1)
        ],
    }


def runs(mask: Bool[np.ndarray, "height width"]) -> list[int]:
    """Lengths of runs down the columns, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(length) for length in np.diff(np.concatenate([[0], turns, [mask.size]]))]


def _annotation(part: Part, number: int, category: int, size_hw: tuple[int, int]) -> dict[str, Any]:
    mask = part.paint()
    if mask.shape != size_hw:
        mask = enlarged(mask, size_hw)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    told = {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "segmentation": {"size": list(mask.shape), "counts": runs(mask)},
        "area": int(np.count_nonzero(mask)),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "iscrowd": 0,
    }
    return told if part.score is None else {**told, "score": part.score}
