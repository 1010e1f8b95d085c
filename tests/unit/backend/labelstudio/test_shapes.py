"""Outlines, boxes, ellipses and points: what they say of a mask, and what people draw."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon

from backend.errors import BadMask
from backend.labelstudio.regions import (
    RegionControl,
    ellipse,
    fill,
    keypoint,
    outline,
    percent,
    polygon,
    rectangle,
    vector,
)
from backend.labelstudio.regions.pieces import MOST_PIECES, pieces

from ....doubles.smooth_masks import discs, iou, smooth_mask


def told(kind: str, **changes) -> RegionControl:
    facts = {"from_name": "t", "to_name": "image", "label": "Cat", "region_id": "r"}
    return RegionControl(kind=kind, **{**facts, **changes})


def naive_winding(points: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Pixel by pixel: how often the ring runs around its centre; NaN on the ring itself."""
    winding = np.zeros(size_hw)
    for row, column in np.ndindex(*size_hw):
        x, y = column + 0.5, row + 0.5
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if (y0 > y) == (y1 > y):
                continue
            crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            if abs(crossing - x) < 1e-9:
                winding[row, column] = np.nan
            elif crossing < x:
                winding[row, column] += 1 if y1 > y0 else -1
    return winding


# --- pieces


def test_pieces_come_largest_first_and_corners_do_not_join():
    mask = np.zeros((6, 9), bool)
    mask[0, 0] = mask[1, 1] = True
    mask[3:5, 4:8] = True

    found = list(pieces(mask))

    assert [piece.box_xyxy for piece in found] == [(4, 3, 8, 5), (0, 0, 1, 1), (1, 1, 2, 2)]
    assert [piece.crop.sum() for piece in found] == [8, 1, 1]


def test_a_crop_holds_its_own_piece_alone():
    mask = np.zeros((7, 7), bool)
    mask[0], mask[:, 0], mask[3, 3] = True, True, True

    first, second = pieces(mask)

    assert first.crop.sum() == 13
    assert second.box_xyxy == (3, 3, 4, 4)


def test_speckle_is_not_more_than_so_many_pieces():
    mask = np.indices((60, 60)).sum(axis=0) % 2 == 0

    assert len(list(pieces(mask))) == MOST_PIECES
    assert len(list(pieces(mask, most=3))) == 3
    assert list(pieces(np.zeros((4, 5), bool))) == []


# --- filling


@given(
    points=st.lists(st.tuples(st.floats(-4, 12), st.floats(-4, 9)), min_size=3, max_size=9),
)
@settings(max_examples=150, deadline=None)
def test_a_ring_is_filled_where_it_runs_around_the_pixel_s_centre(points: list):
    ring = np.array(points)

    mask, winding = fill.ring(ring, (6, 9)), naive_winding(ring, (6, 9))

    clear = ~np.isnan(winding)
    np.testing.assert_array_equal(mask[clear], winding[clear] != 0)


def test_a_line_there_and_back_paints_nothing():
    assert not fill.ring(np.array([[0, 0], [0, 0], [6.25, 6.25]]), (7, 7)).any()
    assert not fill.ring(np.array([[0.3, 0.1], [8.1, 6.7], [4.2, 3.4]]), (7, 7)).any()


def test_a_star_that_crosses_itself_is_filled_in_its_middle():
    turns = np.arange(5) * 2 * math.tau / 5
    star = np.stack([20 + 18 * np.sin(turns), 20 - 18 * np.cos(turns)], axis=1)

    assert fill.ring(star, (40, 40))[20, 20]


def test_large_rings_are_filled_in_blocks_alike(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(5)
    ring = random.uniform(-5, 45, (30, 2))
    whole = fill.ring(ring, (33, 40))

    monkeypatch.setattr(fill, "BLOCK_PIXELS", 100)
    np.testing.assert_array_equal(fill.ring(ring, (33, 40)), whole)
    monkeypatch.setattr(fill, "BLOCK_CROSSINGS", 40)
    np.testing.assert_array_equal(fill.ring(ring, (33, 40)), whole)


@pytest.mark.parametrize("far", [1e6, 1e300])
def test_a_ring_far_beyond_the_picture_is_cut_at_its_sides(far: float):
    ring = np.array([[-far, -far], [far, -far], [far, far], [-far, far]])

    assert fill.ring(ring, (4, 5)).all()


@pytest.mark.parametrize("points", [[], [[1.0, 1.0]], [[0.0, 0.0], [9.0, 9.0]]])
def test_a_ring_without_an_inside_paints_nothing(points: list):
    assert not fill.ring(np.array(points).reshape(-1, 2), (5, 6)).any()


@given(
    centre=st.tuples(st.floats(-3, 15), st.floats(-3, 12)),
    radii=st.tuples(st.floats(0.2, 12), st.floats(0.2, 12)),
    degrees=st.floats(-400, 400),
)
@settings(max_examples=100, deadline=None)
def test_an_ellipse_is_filled_as_its_equation_says(centre, radii, degrees):
    rows, columns = np.mgrid[:9, :12] + 0.5
    turn = math.radians(degrees)
    across = (columns - centre[0]) * math.cos(turn) + (rows - centre[1]) * math.sin(turn)
    down = (rows - centre[1]) * math.cos(turn) - (columns - centre[0]) * math.sin(turn)
    level = (across / radii[0]) ** 2 + (down / radii[1]) ** 2
    clear = np.abs(level - 1) > 1e-6

    mask = fill.ellipse(centre, radii, degrees, (9, 12))

    np.testing.assert_array_equal(mask[clear], (level <= 1)[clear])


# --- outlines


def rings(mask: np.ndarray, **changes) -> list[np.ndarray]:
    regions = polygon.encode(mask, told("polygonlabels", **changes))
    return [np.array(region["value"]["points"]) for region in regions]


@pytest.mark.parametrize("most", [4, 12, 60, 400])
@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
def test_rings_are_valid_and_of_so_many_points_even_of_noise(share: float, most: int):
    mask = np.random.default_rng(8).random((70, 90)) < share

    for ring in rings(mask, most_points=most):
        assert 3 <= len(ring) <= most
        assert Polygon(ring).is_valid
        assert ring.min() >= 0
        assert ring.max() <= 100


def test_more_points_follow_the_mask_closer():
    mask = smooth_mask((200, 300), 2)

    def met(most: int) -> float:
        back = np.zeros(mask.shape, bool)
        for region in polygon.encode(mask, told("polygonlabels", most_points=most)):
            back |= polygon.decode(region, mask.shape)
        return iou(back, mask)

    assert met(6) < met(20) < met(400)


def test_the_tolerance_is_of_the_picture_as_displayed():
    mask = discs((60, 60), (30, 30, 25))

    small, large = rings(mask), rings(mask, size_hw=(600, 600))

    assert len(small[0]) < len(large[0])


def test_a_hole_smaller_than_the_tolerance_is_closed():
    mask = np.ones((50, 50), bool)
    mask[20:23, 20:23] = False

    open_one, closed_one = rings(mask), rings(mask, tolerance=4.0)

    assert len(open_one[0]) > 8
    assert len(closed_one[0]) <= 8


def test_a_very_large_thing_is_reduced_before_its_outline_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
):
    mask = smooth_mask((300, 410), 6, share=0.8)
    mask[100:200, 0] = True
    monkeypatch.setattr(outline, "MOST_PIXELS", 20_000)

    back = np.zeros(mask.shape, bool)
    for region in polygon.encode(mask, told("polygonlabels")):
        back |= polygon.decode(region, mask.shape)

    assert iou(back, mask) > 0.97


def test_a_thread_across_a_large_picture_is_not_lost_when_reduced(
    monkeypatch: pytest.MonkeyPatch,
):
    mask = np.zeros((200, 200), bool)
    mask[np.arange(200), np.arange(200)] = mask[np.arange(199), np.arange(1, 200)] = True
    monkeypatch.setattr(outline, "MOST_PIXELS", 2_500)

    (region,) = polygon.encode(mask, told("polygonlabels"))

    assert (polygon.decode(region, mask.shape) & mask).sum() > 0.9 * mask.sum()


# --- what people draw


def test_a_polygon_that_crosses_itself_is_read():
    bow = {"points": [[0, 0], [100, 100], [100, 0], [0, 100]], "closed": True}

    mask = polygon.decode({"value": bow}, (40, 40))

    assert mask[20, 2]
    assert mask[20, 37]
    assert not mask[2, 20]


@pytest.mark.parametrize(
    "points",
    [[], [[1, 2, 3]], [[1]], ["ab"], [[None, 1]], {"x": 1}, [[1, 2]] * (percent.MOST_POINTS + 1)],
)
def test_points_that_are_none_are_refused(points: object):
    with pytest.raises(BadMask):
        polygon.decode({"value": {"points": points}}, (4, 5))


def path(*corners: tuple[float, float], closed: bool = True, **changes) -> dict:
    vertices = [
        {"x": x, "y": y, "id": f"p{index}", "prevPointId": f"p{index - 1}" if index else None}
        for index, (x, y) in enumerate(corners)
    ]
    return {"value": {"vertices": vertices, "closed": closed, **changes}}


def test_an_open_path_is_a_line_and_paints_nothing():
    corners = (10, 10), (90, 10), (90, 90)

    assert vector.decode(path(*corners), (20, 20)).any()
    assert not vector.decode(path(*corners, closed=False), (20, 20)).any()


def test_vertices_are_joined_as_their_links_say_not_as_listed():
    square = path((10, 10), (90, 10), (90, 90), (10, 90))
    vertices = square["value"]["vertices"]
    shuffled = {"value": {"closed": True, "vertices": [vertices[i] for i in (0, 2, 1, 3)]}}

    expected = vector.decode(square, (30, 40))

    assert expected.sum() == 24 * 32
    np.testing.assert_array_equal(vector.decode(shuffled, (30, 40)), expected)


def test_vertices_without_links_are_joined_as_listed():
    bare = [{"x": x, "y": y} for x, y in ((10, 10), (90, 10), (90, 90), (10, 90))]

    assert vector.decode({"value": {"vertices": bare, "closed": True}}, (10, 10)).sum() == 64


def test_links_in_circles_do_not_hang():
    vertices = [
        {"x": 0, "y": 0, "id": "a", "prevPointId": "a"},
        {"x": 90, "y": 0, "id": "b", "prevPointId": "c"},
        {"x": 90, "y": 90, "id": "c", "prevPointId": "b"},
    ]

    assert vector.decode({"value": {"vertices": vertices, "closed": True}}, (10, 10)).any()


def test_a_circle_of_curves_is_round():
    k = 40 * 0.5522847498  # the usual control points of a circle of radius 40
    vertices = [
        {
            "x": 50 + 40 * dx,
            "y": 50 + 40 * dy,
            "id": f"q{index}",
            "prevPointId": f"q{(index - 1) % 4}",
            "isBezier": True,
            "controlPoint1": {"x": 50 + 40 * dx + k * dy, "y": 50 + 40 * dy - k * dx},
            "controlPoint2": {"x": 50 + 40 * dx - k * dy, "y": 50 + 40 * dy + k * dx},
        }
        for index, (dx, dy) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1)))
    ]

    mask = vector.decode({"value": {"vertices": vertices, "closed": True}}, (200, 200))

    assert iou(mask, discs((200, 200), (100, 100, 80))) > 0.98


def test_a_curve_to_a_plain_vertex_bends_too():
    bent = path((10, 90), (90, 90), (50, 10))
    bent["value"]["vertices"][0] |= {"isBezier": True, "controlPoint2": {"x": 50, "y": 150}}

    assert (
        vector.decode(bent, (50, 50)).sum()
        > vector.decode(path((10, 90), (90, 90), (50, 10)), (50, 50)).sum() + 50
    )


# --- boxes, ellipses, points


def test_a_box_is_the_box_of_its_piece():
    mask = discs((40, 100), (20, 60, 12))

    (region,) = rectangle.encode(mask, told("rectanglelabels"))

    rows, columns = np.nonzero(mask)
    value = region["value"]
    assert value["x"] == columns.min()
    assert value["y"] == rows.min() / 40 * 100
    assert value["width"] == columns.max() + 1 - columns.min()
    assert value["height"] == (rows.max() + 1 - rows.min()) / 40 * 100
    assert value["rotation"] == 0
    box = np.zeros(mask.shape, bool)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    np.testing.assert_array_equal(rectangle.decode(region, mask.shape), box)


def test_a_box_turns_clockwise_about_its_top_left_corner_in_pixels():
    value = {"x": 50, "y": 20, "width": 20, "height": 20, "rotation": 90}

    mask = rectangle.decode({"value": value}, (100, 200))

    rows, columns = np.nonzero(mask)  # 40 wide and 20 high before: now down and to the left
    assert (rows.min(), rows.max() + 1) == (20, 60)
    assert (columns.min(), columns.max() + 1) == (80, 100)
    assert mask.sum() == 800


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 179])
def test_an_ellipse_is_found_again(degrees: float):
    mask = fill.ellipse((130.0, 90.0), (70.0, 30.0), degrees, (180, 260))

    (region,) = ellipse.encode(mask, told("ellipselabels"))

    value = region["value"]
    assert value["x"] == pytest.approx(50, abs=0.2)
    assert value["y"] == pytest.approx(50, abs=0.2)
    assert iou(ellipse.decode(region, mask.shape), mask) > 0.985


def test_a_radius_is_at_most_half_of_the_picture_and_turned_where_that_helps():
    (whole,) = ellipse.encode(np.ones((30, 40), bool), told("ellipselabels"))
    assert whole["value"]["rotation"] == 0
    assert whole["value"]["radiusX"] == whole["value"]["radiusY"] == 50

    tall = np.zeros((200, 40), bool)
    tall[20:180, 15:25] = True
    (region,) = ellipse.encode(tall, told("ellipselabels"))

    assert region["value"]["radiusX"] < 20
    assert region["value"]["radiusY"] == pytest.approx(46.2, abs=0.1)
    assert region["value"]["rotation"] == 0


def test_moments_are_of_the_picture_as_displayed():
    mask = discs((50, 50), (25, 25, 15))

    (region,) = ellipse.encode(mask, told("ellipselabels", size_hw=(100, 300)))

    wide = ellipse.decode(region, (100, 300))
    rows, columns = np.nonzero(wide)
    assert columns.max() - columns.min() == pytest.approx(180, abs=3)
    assert rows.max() - rows.min() == pytest.approx(60, abs=2)


def test_a_point_lies_innermost():
    mask = discs((60, 90), (30, 30, 20), (30, 60, 8))

    region, second = keypoint.encode(mask, told("keypointlabels"))

    assert second["value"]["x"] > 60
    assert region["value"]["x"] / 100 * 90 == pytest.approx(30, abs=1)
    assert region["value"]["y"] / 100 * 60 == pytest.approx(30, abs=1)


def test_a_point_of_a_ring_lies_on_the_ring():
    mask = discs((80, 80), (40, 40, 35)) & ~discs((80, 80), (40, 40, 20))

    (region,) = keypoint.encode(mask, told("keypointlabels"))

    back = keypoint.decode(region, mask.shape)
    assert back.any()
    assert not (back & ~mask).any()


def test_a_point_is_the_disc_the_editor_draws_and_never_nothing():
    disc = {"value": {"x": 50, "y": 50, "width": 10}}

    assert iou(keypoint.decode(disc, (100, 200)), discs((100, 200), (50, 100, 20))) == 1
    for x, y in ((0, 0), (100, 100), (37, 12)):
        assert keypoint.decode({"value": {"x": x, "y": y, "width": 0}}, (7, 9)).sum() == 1
    assert not keypoint.decode({"value": {"x": 300, "y": 50, "width": 1}}, (7, 9)).any()


# --- numbers nobody draws


@pytest.mark.parametrize("wild", [1e308, -1e308, 10**400, math.inf, math.nan, 1e7])
def test_numbers_that_cannot_be_reckoned_with_are_refused(wild: float):
    with pytest.raises(BadMask, match="is not a number"):
        rectangle.decode({"value": {"x": wild, "y": 1, "width": 2, "height": 2}}, (5, 5))
    with pytest.raises(BadMask, match="not a pair of numbers"):
        polygon.decode({"value": {"points": [[0, 0], [wild, 1], [2, 2]]}}, (5, 5))


@pytest.mark.parametrize("thin", [1e-320, 5e-324, 1e-200])
def test_an_ellipse_thinner_than_anything_covers_nothing(thin: float):
    value = {"x": 50, "y": 50, "radiusX": thin, "radiusY": 20, "rotation": 30}

    assert not ellipse.decode({"value": value}, (8, 8)).any()
