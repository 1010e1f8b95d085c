"""Evidence of one task: what it holds, and that it stays small."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backend.errors import BadMask
from backend.labelstudio.regions import FORMATS, RegionControl
from backend.labelstudio.tasks import Task
from backend.learning.annotation import Counting, counting
from backend.learning.evidence import MOST_BYTES, MOST_SAMPLES, Evidence
from backend.learning.making import MOST_PAINTED, AnnotationReading, evidence_of
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


def test_masks_that_cannot_be_read_are_refused_by_their_task() -> None:
    broken = painted("cat", box(0, 0, 5, 10), value={"rle": "x", "brushlabels": ["cat"]})

    with pytest.raises(BadMask, match="task 3 has a mask that cannot be read: "):
        made(counts(broken))
    with pytest.raises(BadMask, match="task 3 has masks of type 'newlabels'"):
        made(counts([unknown("cat")]))


def unknown(label: str) -> dict[str, Any]:
    """A mask of a type from the future."""
    return {
        "id": "n", "type": "newlabels", "from_name": "seg", "to_name": "image",
        "original_width": 40, "original_height": 30, "value": {"newlabels": [label], "rle": [0]},
    }  # fmt: skip


def test_a_stroke_without_a_label_may_be_any_label() -> None:
    bare = painted("cat", box(20, 0, 30, 10), value={"format": "rle", "rle": [0]}, id="bare")
    found = made(counts(painted("cat", box(0, 0, 5, 10)), bare))

    truth = found.samples[0].truths["seg"]
    assert truth.labels == ("cat",)
    assert not truth.rest


def test_a_painted_background_is_kept_as_none_of_the_labels() -> None:
    found = made(counts(painted("cat", box(0, 0, 5, 10)), painted("Background", box(5, 0, 30, 40))))

    truth = found.samples[0].truths["seg"]
    assert set(truth.labels) - set(truth.asked) == {"Background"}
    assert found.samples[0].before["seg"].quality == 0.0  # of the cat alone


@pytest.mark.parametrize("regions", [[], painted("cat", box(0, 0, 5, 10), kind="rectanglelabels")])
def test_controls_of_boxes_say_nothing_even_where_nothing_is(regions: Any) -> None:
    """From empty annotations alone they would learn that nothing is ever there."""
    found = evidence_of(Task(3, {}), counts(regions), [picture(studied(outlines=False))])

    assert isinstance(found, LeftOut)


def test_a_picture_of_a_list_that_nobody_painted_says_nothing() -> None:
    first, second = (replace(picture(), index=number) for number in (0, 1))
    found = made(counts(painted("cat", box(0, 0, 5, 10), item_index=1)), first, second)

    (sample,) = found.samples
    assert sample.truths["seg"].labels == ("cat",)


def test_pictures_beyond_the_first_are_not_asked_for() -> None:
    shown = []

    def pictures() -> Iterator[StudiedPicture]:
        for number in range(9):
            shown.append(number)
            yield picture()

    found = evidence_of(Task(3, {}), counts(), pictures())

    assert isinstance(found, Evidence)
    assert len(found.samples) == len(shown) == MOST_SAMPLES


def test_quality_is_judged_at_the_size_of_our_masks() -> None:
    """Those of large pictures are smaller than the picture."""
    small = np.zeros((15, 20), np.int32)
    small[:5, :5] = 1
    ours = Segmentation(
        labels=("cat",),
        label_map=small,
        confidence=np.ones(1, np.float32),
        presence=np.ones(1, np.float32),
    )
    control = studied(names=("cat",), segmentation=ours)

    found = made(counts(painted("cat", box(0, 0, 10, 20))), picture(control))

    assert found.samples[0].before["seg"].quality == 0.5


def test_labels_beyond_the_largest_are_not_said_to_be_absent() -> None:
    names = tuple(f"label {number}" for number in range(MOST_PAINTED + 1))
    regions = [painted(name, box(0, 0, 1 + (name != "label 0"), 40), id=name) for name in names]

    found = made(counts(*regions), picture(studied(names=names)))

    truth = found.samples[0].truths["seg"]
    assert len(truth.labels) <= MOST_PAINTED
    assert "label 0" not in {*truth.labels, *truth.asked, *found.samples[0].before["seg"].presence}
    assert not truth.rest


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    embed=some.sampled_from([128, 512, 768, 1024]),
    pictures=some.integers(1, 6),
    controls=some.integers(1, 4),
    names=some.sampled_from([0, 1, 40, 1000]),
    long=some.sampled_from([1, 20, 120]),
    used=some.sampled_from([0, 1, 60, 300]),
)
def test_evidence_fits_whatever_there_is(
    embed: int, pictures: int, controls: int, names: int, long: int, used: int
) -> None:
    chance = np.random.default_rng(0)
    known = tuple(f"{noise(number, long)} {number}" for number in range(names))
    every = [f"c{number}" for number in range(controls)]
    regions = [
        painted(name, chance.random(SIZE_HW) < 0.5, from_name=control, id=f"{control} {name}")
        for control in every
        for name in known[: used // controls]
    ]
    shown = [
        picture(
            *(studied(names=known, control=name) for name in every), grid_hw=(21, 25), embed=embed
        )
        for _ in range(pictures)
    ]

    found = made(counts(*regions), *shown)

    assert len(found.to_bytes()) <= MOST_BYTES
    assert 1 <= len(found.samples) <= min(pictures, MOST_SAMPLES)
    for sample in found.samples:
        assert set(sample.truths) == set(sample.before) == set(sample.models)
        for truth in sample.truths.values():
            assert truth.shares.shape == (len(truth.labels), len(sample.cells.left))


def noise(number: int, length: int) -> str:
    """A name that cannot be compressed much."""
    return np.random.default_rng(number).bytes(length).hex()[:length]


@pytest.mark.parametrize("names", [0, 1, 1000])
def test_controls_that_would_never_fit_are_left_out_with_a_sentence(names: int) -> None:
    known = tuple(noise(number, 90) for number in range(names))
    endless = studied(names=known, control=noise(0, 150_000))

    found = evidence_of(Task(3, {}), counts(), [picture(endless)])

    assert isinstance(found, LeftOut)
    assert "more labels than a record can hold" in found.reason


def test_evidence_is_the_same_after_it_was_stored() -> None:
    found = made(counts(painted("cat", box(0, 0, 5, 10))))

    again = Evidence.from_bytes(found.to_bytes())

    assert again.to_bytes() == found.to_bytes()
    np.testing.assert_array_equal(
        again.samples[0].truths["seg"].shares, found.samples[0].truths["seg"].shares
    )
    np.testing.assert_array_equal(again.samples[0].cells.values, found.samples[0].cells.values)


def test_reading_gives_the_evidence_of_what_counts() -> None:
    reading = AnnotationReading()
    said = reading.counting([{"id": 5, "result": []}])

    assert said is not None
    found = reading.evidence(Task(3, {}), said, [picture()])
    assert isinstance(found, Evidence)
    assert found.stamp == said.stamp
