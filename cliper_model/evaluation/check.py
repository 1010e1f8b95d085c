"""Is this the data set it should be? Asked once, before the first picture is segmented."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image as PilImage

from .datasets.base import DataSet, Sample, not_a_mask
from .errors import BadDataset

MOST_MASKS: Final = 200  # masks decoded beforehand, spread evenly; all are checked in the run
ORIENTATION: Final = 0x0112  # EXIF tag
TURNED: Final = (5, 6, 7, 8)  # its values for pictures stored on their side


def check(data: DataSet, *, most_masks: int = MOST_MASKS) -> None:
    """Pairs, sizes and label ranges. Raises BadDataset with one sentence.

    A picture that is there but broken is no reason to stop: the run reports it and goes on.
    """
    if not data.samples:
        raise BadDataset(f"{data.name} has no pictures under --root")
    if data.layout.read_truth is None:
        _check_pairs(data.samples)
        _check_kinds_and_sizes(data.samples, upright=data.layout.upright)
    step = max(1, len(data.samples) // most_masks)
    seen = set[int]()
    for sample in data.samples[::step]:
        try:
            labels = data.truth(sample)
        except OSError:
            continue
        except BadDataset as wrong:
            raise BadDataset(f"{sample.name}: {wrong}") from None
        seen |= set(np.unique(labels).tolist())
    if not any(label >= 0 for label in seen):
        raise BadDataset(
            f"no mask of {data.name} holds anything that is counted; --root seems to name the "
            "wrong masks"
        )


def _check_pairs(samples: Sequence[Sample]) -> None:
    for what, paths in (
        ("picture", [sample.image for sample in samples]),
        ("mask", [sample.truth for sample in samples]),
    ):
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise BadDataset(
                f"{len(missing)} of {len(paths)} {what}s are missing, the first is {missing[0]}; "
                "complete the data set, or check that its folders are not swapped"
            )


def _check_kinds_and_sizes(samples: Sequence[Sample], *, upright: bool) -> None:
    for sample in samples:
        try:
            with PilImage.open(sample.image) as image:
                lying = upright and image.getexif().get(ORIENTATION) in TURNED
                size_wh = image.size[::-1] if lying else image.size
            with PilImage.open(sample.truth) as truth:
                mask_wh = truth.size
                coloured = len(truth.getbands()) > 1
                if coloured:
                    raise BadDataset(not_a_mask(sample.truth, np.asarray(truth.convert("RGB"))))
        except BadDataset:
            raise
        except OSError:
            continue
        if size_wh != mask_wh:
            raise BadDataset(
                f"{sample.name}: the picture is {size_wh[0]} x {size_wh[1]} pixels, its mask "
                f"{mask_wh[0]} x {mask_wh[1]}; masks must have the size of their picture"
            )
