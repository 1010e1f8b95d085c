"""Tiles are painted from the regions that Label Studio would get."""

import numpy as np
import pytest

from backend import overlay
from backend.labelstudio.label_config import parse
from backend.labelstudio.regions import TAGS
from backend.labelstudio.tasks import Task
from backend.outcomes import combined
from backend.painting import Painted, image_result
from backend.plan import View, vocabularies
from backend.prelabel.tiles import PER_TASK, TILE, Album, Palette, scaled, told_once
from cliper_model import Decision, Segmentation

SIZE_HW = (120, 160)
PINK = (255, 0, 160)


def control(tag: str) -> str:
    labels = f'<Label value="cat" background="rgb{PINK}"/><Label value="dog"/>'
    if tag.endswith("Labels"):
        return f'<{tag} name="seg" toName="image">{labels}</{tag}>'
    return f'<Labels name="w" toName="image">{labels}</Labels><{tag} name="seg" toName="image"/>'


def view_of(inside: str, index: int | None = None) -> View:
    config = parse(f'<View><Image name="image" value="$image"/>{inside}</View>')
    wanted = vocabularies(config, ())
    return View(
        image=wanted[0].control.image, address="a", page=1, index=index, wanted=wanted, labels=""
    )


def hung(view: View, album: Album | None = None):
    """A picture whose left half is a cat, on the wall; and what was found."""
    label_map = np.zeros(SIZE_HW, np.int32)
    label_map[:, :80] = 1
    found = Segmentation(
        labels=("cat", "dog"),
        label_map=label_map,
        confidence=np.array([0.5, 0.0], np.float32),
        presence=np.array([0.8, 0.1], np.float32),
    )
    (one,) = view.wanted
    each = Painted(one=one, segmentation=found, decision=one.decision(Decision()))
    outcome = combined([image_result([each], size_hw=SIZE_HW, index=None, seed="s")], "v")
    album, palette = album or Album(), Palette()
    task = Task(3)
    album.see(task, view, np.full((*SIZE_HW, 3), 90, np.uint8))
    (there,) = album.hang(task, [view], outcome, palette)
    return album, palette, there


@pytest.mark.parametrize("tag", [TAGS[kind] for kind in sorted(TAGS)])
def test_the_config_s_colour_is_where_the_mask_is(tag: str):
    album, palette, (found,) = hung(view_of(control(tag)))

    (tile,) = album.tiles
    assert tile.painted is not None
    assert palette.colour("seg", "cat") == PINK
    assert tile.labels == (("seg", "cat"),)
    assert (tile.task, tile.regions) == (3, 1)
    assert tile.painted.shape == (TILE * 3 // 4, TILE, 3)
    coloured = np.ptp(tile.painted.astype(int), axis=2) > 60
    if tag.startswith("KeyPoint"):
        assert 20 < coloured.sum() < 200  # a dot that can be seen
        assert not coloured[:, TILE // 2 + 6 :].any()
        return
    assert found.area == pytest.approx(0.5, abs=0.13)  # ellipses bulge
    assert coloured[130:140, 60:100].all()
    assert not coloured[:, 270:].any()


def test_a_label_without_a_colour_gets_one_of_ours():
    _, palette, _ = hung(view_of(control("BrushLabels")))

    assert palette.colour("seg", "dog") == overlay.colours(2)[1]


def test_a_picture_nobody_saw_has_no_tile_but_counts():
    view = view_of(control("BrushLabels"), index=PER_TASK)

    album, _, found = hung(view)

    assert album.tiles == []
    assert [one.label for one in found] == ["cat"]


def test_a_wall_has_room_for_so_many_tiles_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("backend.prelabel.tiles.MOST", 1)
    album, _, _ = hung(view_of(control("BrushLabels")))

    hung(view_of(control("BrushLabels")), album)

    assert len(album.tiles) == 1


def test_a_failed_task_hangs_with_its_reason():
    album = Album()
    album.see(Task(5), view_of(control("BrushLabels")), np.zeros((4, 4, 3), np.uint8))

    album.hang_failed(5, "nobody answers")

    (tile,) = album.tiles
    assert (tile.task, tile.picture, tile.reason) == (5, None, "nobody answers")


def test_answers_are_told_with_their_paths():
    regions = [
        {"id": "1", "type": "choices", "from_name": "c", "value": {"choices": ["sun", "rain"]}},
        {"id": "2", "type": "taxonomy", "from_name": "t", "value": {"taxonomy": [["a", "b"]]}},
    ]

    assert [labels for _, labels in told_once(regions)] == [("sun", "rain"), ("a/b",)]


@pytest.mark.parametrize(
    ("size_hw", "expected_hw"),
    [((1, 1), (8, 8)), ((3000, 4000), (270, 360)), ((1, 4000), (1, 360)), ((400, 100), (360, 90))],
)
def test_pictures_of_all_sizes_become_tiles(size_hw: tuple[int, int], expected_hw: tuple[int, int]):
    assert scaled(np.zeros((*size_hw, 3), np.uint8)).shape[:2] == expected_hw
