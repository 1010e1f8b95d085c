"""Evidence of one task: what it holds, and that it stays small."""

from typing import Any

import numpy as np
import pytest

from backend.errors import BadMask
from backend.labelstudio.regions import FORMATS, RegionControl
from backend.labelstudio.tasks import Task
from backend.learning.annotation import Counting, counting
from backend.learning.evidence import (
    MOST_BYTES,
    MOST_CELLS,
    Cells,
    Evidence,
    area_means,
    covered,
    pooled_hw,
)
from backend.learning.making import AnnotationReading, evidence_of
from backend.learning.records import LeftOut
from backend.studying import Studied, StudiedPicture
from cliper_model import Segmentation

SIZE_HW = (30, 40)


def painted(label: str, mask: np.ndarray, kind: str = "brushlabels", **changes: Any) -> Any:
    control = RegionControl(
        from_name="seg",
        to_name="image",
        kind=kind,
        label=label,
        labels_name=None,
        region_id=f"r-{label}",
        score=None,
        size_hw=(mask.shape[0], mask.shape[1]),
        item_index=None,
    )
    return [{**one, **changes} for one in FORMATS[kind].encode(mask, control)]


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE_HW, bool)
    mask[top:bottom, left:right] = True
    return mask


def studied(*found: np.ndarray, names: tuple[str, ...] = ("cat", "dog"), **changes: Any) -> Studied:
    """Our own masks of the first labels."""
    label_map = np.zeros(SIZE_HW, np.int32)
    for number, mask in enumerate(found):
        label_map[mask] = number + 1
    segmentation = Segmentation(
        labels=names,
        label_map=label_map,
        confidence=np.ones(len(names), np.float32),
        presence=np.full(len(names), 0.7, np.float32),
    )
    values = {
        "control": "seg", "model": "m", "names": names, "background": True,
        "segmentation": segmentation, "agreement": 0.9,
    }  # fmt: skip
    return Studied(**{**values, **changes})


def picture(*controls: Studied, grid_hw: tuple[int, int] = (6, 8), embed: int = 16) -> Any:
    cells = np.random.default_rng(0).normal(size=(*grid_hw, embed)).astype(np.float32)
    return StudiedPicture(
        image="image", index=None, size_hw=SIZE_HW, cells=cells, controls=controls or (studied(),)
    )


def counts(*regions: Any) -> Counting:
    found = counting([{"id": 5, "result": [one for part in regions for one in part]}])
    assert found is not None
    return found


def made(said: Counting, *pictures: StudiedPicture) -> Evidence:
    found = evidence_of(Task(3, {}), said, pictures or (picture(),))
    assert isinstance(found, Evidence)
    return found


def test_what_was_painted_is_kept_as_shares_of_places() -> None:
    found = made(counts(painted("cat", box(0, 0, 5, 10))))

    (sample,) = found.samples
    truth = sample.truths["seg"]
    assert truth.labels == ("cat",)
    assert truth.asked == ("cat", "dog")
    assert truth.rest
    np.testing.assert_array_equal(truth.shares.reshape(6, 8)[0], [255, 255, 0, 0, 0, 0, 0, 0])
    assert truth.shares.reshape(6, 8)[1:].sum() == 0
    assert (found.task, found.annotation, found.weight) == (3, 5, 1.0)


def test_regions_of_one_label_are_joined() -> None:
    found = made(
        counts(painted("cat", box(0, 0, 5, 5)), painted("cat", box(0, 5, 5, 10), id="other"))
    )

    assert found.samples[0].truths["seg"].shares.reshape(6, 8)[0, :2].tolist() == [255, 255]


def test_an_empty_annotation_says_that_nothing_is_there() -> None:
    truth = made(counts()).samples[0].truths["seg"]

    assert truth.labels == ()
    assert truth.shares.shape == (0, 48)
    assert truth.rest


def test_with_the_background_off_what_nobody_painted_says_nothing() -> None:
    found = made(counts(painted("cat", box(0, 0, 5, 10))), picture(studied(background=False)))

    assert not found.samples[0].truths["seg"].rest


def test_a_control_nobody_used_says_nothing_where_another_was() -> None:
    both = picture(studied(), studied(control="other"))
    found = made(counts(painted("cat", box(0, 0, 5, 10))), both)

    assert set(found.samples[0].truths) == {"seg"}


def test_boxes_say_nothing_about_pixels() -> None:
    boxes = painted("cat", box(0, 0, 5, 10), kind="rectanglelabels")

    found = evidence_of(Task(3, {}), counts(boxes), [picture()])

    assert isinstance(found, LeftOut)
    assert "do not say which pixels" in found.reason


def test_a_method_that_cannot_learn_is_named() -> None:
    bare = StudiedPicture(
        image="image", index=None, size_hw=SIZE_HW, cells=np.zeros((0, 0, 0)), controls=()
    )

    found = evidence_of(Task(3, {}), counts(), [bare])

    assert isinstance(found, LeftOut)
    assert "none of its controls can learn" in found.reason


def test_a_picture_without_a_control_that_learns_says_nothing_and_hinders_nobody() -> None:
    bare = StudiedPicture(
        image="b", index=None, size_hw=(0, 0), cells=np.zeros((0, 0, 0), np.float32), controls=()
    )

    assert len(made(counts(), bare, picture()).samples) == 1


def test_features_that_are_no_numbers_leave_the_task_out() -> None:
    broken = picture()
    broken.cells[0, 0, 0] = np.nan

    found = evidence_of(Task(3, {}), counts(), [broken])

    assert isinstance(found, LeftOut)
    assert "no finite numbers" in found.reason


def test_names_that_alone_fill_a_record_do_not_hold_anybody_up() -> None:
    many = tuple(f"ярлык {number} {number**5}" * 3 for number in range(3000))
    shown = picture(studied(names=many), studied(names=many, control="other"))

    found = evidence_of(Task(3, {}), counts(), [shown])

    assert isinstance(found, LeftOut) or len(found.to_bytes()) <= MOST_BYTES


def test_what_another_control_writes_is_no_mistake() -> None:
    ours = studied(box(0, 0, 10, 10), box(20, 0, 30, 10), taken=frozenset({"dog"}))

    found = made(counts(painted("cat", box(0, 0, 10, 10))), picture(ours))

    assert found.samples[0].before["seg"].quality == 1.0


def test_quality_is_the_mean_iou_over_labels_painted_or_predicted() -> None:
    ours = studied(box(0, 0, 10, 10), box(20, 0, 30, 10))  # a cat, and a dog that is not there
    found = made(counts(painted("cat", box(0, 0, 10, 20))), picture(ours))

    before = found.samples[0].before["seg"]
    assert before.quality == pytest.approx((0.5 + 0.0) / 2)
    assert before.agreement == 0.9
    assert before.presence == {"cat": 0.7, "dog": 0.7}


def test_where_both_find_nothing_quality_is_whole() -> None:
    assert made(counts()).samples[0].before["seg"].quality == 1.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"original_width": 41}, "task 3 was painted on 41 x 30 pixels, its picture has 40 x 30"),
        ({"image_rotation": 90}, "turned by 90 degrees"),
    ],
)
def test_masks_that_do_not_fit_the_picture_are_refused_in_a_sentence(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadMask, match=says):
        made(counts(painted("cat", box(0, 0, 5, 10), **changes)))


@pytest.mark.parametrize(("embed", "pictures"), [(16, 4), (128, 1), (768, 1), (1024, 4)])
def test_evidence_never_grows_beyond_its_bound(embed: int, pictures: int) -> None:
    many = tuple(f"label {number}" for number in range(150))
    chance = np.random.default_rng(1)
    regions = [painted(name, chance.random(SIZE_HW) < 0.5) for name in many]
    shown = [picture(studied(names=many), grid_hw=(30, 31), embed=embed) for _ in range(pictures)]

    found = made(counts(*regions), *shown)

    assert len(found.to_bytes()) <= MOST_BYTES
    assert 1 <= len(found.samples) <= pictures


def test_evidence_is_the_same_after_it_was_stored() -> None:
    found = made(counts(painted("cat", box(0, 0, 5, 10))))

    again = Evidence.from_bytes(found.to_bytes())

    assert again.to_bytes() == found.to_bytes()
    np.testing.assert_array_equal(
        again.samples[0].truths["seg"].shares, found.samples[0].truths["seg"].shares
    )
    np.testing.assert_array_equal(again.samples[0].cells.values, found.samples[0].cells.values)


@pytest.mark.parametrize("data", [b"", b"\x05\0\0\0junk", b"\x02\0\0\0{}", b"\xff\xff\xff\xff"])
def test_bytes_that_are_no_evidence_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="evidence"):
        Evidence.from_bytes(data)


def test_features_survive_at_reduced_rank() -> None:
    chance = np.random.default_rng(0)
    smooth = chance.normal(size=(400, 20)) @ chance.normal(size=(20, 512)) + 3.0

    kept = Cells.of(smooth.astype(np.float32), most_bytes=40_000)

    error = np.abs(kept.values - smooth).max() / np.abs(smooth).max()
    assert error < 0.02
    assert kept.left.nbytes + kept.right.nbytes < 40_000


def test_a_grid_of_many_places_is_made_coarser_in_proportion() -> None:
    assert pooled_hw((20, 20)) == (20, 20)
    height, width = pooled_hw((30, 60))
    assert height * width <= MOST_CELLS
    assert 1.8 < width / height < 2.2
    assert pooled_hw((1, 1000)) == (1, 400)
    assert pooled_hw((1000, 1)) == (400, 1)


@pytest.mark.parametrize(("size_hw", "grid_hw"), [((7, 5), (3, 2)), ((30, 40), (6, 8))])
def test_shares_add_up_whatever_the_grid(
    size_hw: tuple[int, int], grid_hw: tuple[int, int]
) -> None:
    mask = np.random.default_rng(0).random(size_hw) < 0.4

    means = area_means(mask.astype(np.float32), grid_hw)

    assert means.mean() == pytest.approx(mask.mean(), abs=1e-6)
    np.testing.assert_allclose(covered(mask, grid_hw), means.ravel() * 255, atol=0.5)


def test_reading_gives_the_evidence_of_what_counts() -> None:
    reading = AnnotationReading()
    said = reading.counting([{"id": 5, "result": []}])

    assert said is not None
    found = reading.evidence(Task(3, {}), said, [picture()])
    assert isinstance(found, Evidence)
    assert found.stamp == said.stamp
