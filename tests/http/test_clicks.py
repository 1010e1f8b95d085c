"""A click or a box of a smart tool, through `/predict`."""

import numpy as np
import pytest

from backend.labelstudio.regions import FORMATS

from ..doubles.colours import ColourSegmenter
from ..doubles.label_studio import FileServer
from ..doubles.pictures import COLOURS, encoded
from ..unit.backend.test_prompting import box, point
from .conftest import Service, StartService

CONFIG = """<View><Image name="photo" value="$image"/>
  <{tag} name="masks" toName="photo"><Label value="red"/><Label value="blue"/></{tag}>
  <KeyPointLabels name="tips" toName="photo" smart="true"><Label value="red"/></KeyPointLabels>
  <RectangleLabels name="boxes" toName="photo" smart="true"><Label value="red"/></RectangleLabels>
  </View>"""
ADDRESS = "/data/upload/1/two.png"
SIZE = (40, 100)
TAGS = ("BrushLabels", "BitmaskLabels", "PolygonLabels", "VectorLabels")


def two_red_things() -> bytes:
    pixels = np.full((*SIZE, 3), 120, np.uint8)
    pixels[10:30, 10:30] = COLOURS["red"]
    pixels[10:30, 60:90] = COLOURS["red"]
    return encoded(pixels)


def left() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:30] = True
    return mask


@pytest.fixture
def picture(files: FileServer) -> str:
    files.put(ADDRESS, two_red_things())
    return ADDRESS


def clicked(service: Service, *prompts: dict, tag: str = "BrushLabels") -> np.ndarray:
    answer = service.predict(
        CONFIG.format(tag=tag), {"image": ADDRESS}, context={"result": list(prompts)}
    )
    assert answer.status_code == 200, answer.status
    (entry,) = answer.get_json()["results"]
    mask = np.zeros(SIZE, bool)
    for region in entry["result"]:
        assert (region["from_name"], region["type"]) == ("masks", tag.lower())
        assert region["value"][tag.lower()] == ["red"]
        mask |= FORMATS[region["type"]].decode(region, SIZE)
    return mask


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max((one | other).sum(), 1)


@pytest.mark.parametrize("tag", TAGS)
def test_a_click_selects_the_piece_it_hits_in_the_format_of_the_control(
    service: Service, picture: str, tag: str
):
    mask = clicked(service, point(20, 50), tag=tag)

    assert overlap(mask, left()) > 0.95


def test_a_second_click_adds_and_a_negative_one_takes_away(service: Service, picture: str):
    both = clicked(service, point(20, 50), point(75, 50))
    without = clicked(service, point(20, 50), point(75, 50), point(76, 50, is_positive=False))

    assert both[20, 20]
    assert both[20, 75]
    assert without[20, 20]
    assert not without[20, 76]


def test_a_box_limits(service: Service, picture: str):
    mask = clicked(service, box(5, 10, 30, 80))

    assert overlap(mask, left()) > 0.95


def test_clicks_on_a_picture_look_at_it_once_and_fetch_it_once(
    service: Service, picture: str, files: FileServer, segmenter: ColourSegmenter
):
    service.predict(CONFIG.format(tag="BrushLabels"), {"image": ADDRESS})
    asked = len(files.asked)

    for x in (15, 20, 25):
        clicked(service, point(x, 50))

    assert len(segmenter.looks) == 1
    assert len(files.asked) == asked


def test_a_predicted_picture_is_not_scored_again_for_clicks(
    service: Service, picture: str, segmenter: ColourSegmenter, monkeypatch: pytest.MonkeyPatch
):
    scored = []
    score = segmenter.score
    monkeypatch.setattr(segmenter, "score", lambda *given: scored.append(given) or score(*given))

    service.predict(CONFIG.format(tag="BrushLabels"), {"image": ADDRESS})
    masks = [clicked(service, point(x, 50)) for x in (15, 20, 75)]

    assert len(scored) == 1
    assert [overlap(mask, left()) > 0.95 for mask in masks] == [True, True, False]


def test_without_a_cache_of_looks_a_click_works_too(
    start_service: StartService, picture: str, segmenter: ColourSegmenter
):
    service = start_service(state_cache_mb=0.0, storage_blobs_mb=0.0)
    clicked(service, point(20, 50))

    assert overlap(clicked(service, point(20, 50)), left()) > 0.95
    assert len(segmenter.looks) == 2


@pytest.mark.parametrize(
    "prompts", [[], [{}], [point(20, 50, "green")], [point(20, 50, to_name="x")]]
)
def test_where_nobody_can_answer_the_answer_is_empty(
    service: Service, picture: str, prompts: list[dict]
):
    assert not clicked(service, *prompts).any()


def test_a_click_on_a_picture_that_cannot_be_had_is_an_entry_without_result(service: Service):
    answer = service.predict(
        CONFIG.format(tag="BrushLabels"),
        {"image": "/data/upload/1/gone.png"},
        context={"result": [point(20, 50)]},
    )

    (entry,) = answer.get_json()["results"]
    assert "result" not in entry
    assert "nothing at" in entry["error"]
