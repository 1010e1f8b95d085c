"""Options of the label config, seen in what comes back."""

import io
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from backend.labelstudio.regions import FORMATS
from backend.looking import for_masks
from cliper_model import Decision, Label, Scores

from ..doubles.colours import ColourSegmenter, Seen, colour_source
from ..doubles.label_studio import FileServer
from ..doubles.pictures import COLOURS, brush_config, encoded, striped_png, stripes
from .conftest import Service, StartService

ADDRESS = "/data/upload/1/a.png"
SIZE = (60, 100)


def scene() -> bytes:
    """A large red thing with a hole, a small one, a speck, and a blue thing."""
    pixels = np.full((*SIZE, 3), 120, np.uint8)
    pixels[5:45, 5:45] = COLOURS["red"]
    pixels[20:24, 20:24] = 120  # a hole of 16 pixels
    pixels[10:20, 60:75] = COLOURS["red"]
    pixels[50, 90] = COLOURS["red"]  # one pixel
    pixels[40:55, 60:80] = COLOURS["blue"]
    return encoded(pixels)


@pytest.fixture
def picture(files: FileServer) -> str:
    files.put(ADDRESS, scene())
    return ADDRESS


def regions(service: Service, config: str) -> list[dict]:
    (entry,) = service.predict(config, {"image": ADDRESS}).get_json()["results"]
    return entry["result"]


def painted(found: list[dict], label: str = "red") -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    for region in found:
        if region["value"][region["type"]] == [label]:
            mask |= FORMATS[region["type"]].decode(region, SIZE)
    return mask


@pytest.mark.parametrize(
    ("attributes", "speck", "hole"),
    [
        ("", False, False),
        ('model_min_area="0"', True, False),
        ('model_holes="1%"', False, True),
        ('model_holes="true"', False, True),
        ('model_holes="false" model_min_area="0.02%"', False, False),
    ],
)
def test_specks_and_holes_go_as_the_numbers_say(
    service: Service, picture: str, attributes: str, speck: bool, hole: bool
):
    mask = painted(regions(service, brush_config(["red"], attributes)))

    assert bool(mask[50, 90]) is speck
    assert bool(mask[21, 21]) is hole
    assert mask[10, 10]


@pytest.mark.parametrize(("instances", "count"), [("false", 1), ("true", 2)])
def test_instances_are_regions_of_their_own(
    service: Service, picture: str, instances: str, count: int
):
    found = regions(service, brush_config(["red"], f'model_instances="{instances}"'))

    assert len(found) == count
    assert len({region["id"] for region in found}) == count


def test_a_label_may_be_in_pieces_where_the_tag_is_not(service: Service, picture: str):
    config = brush_config(["red", "blue"]).replace(
        'value="red"', 'value="red" model_instances="true"'
    )

    found = [region["value"]["brushlabels"][0] for region in regions(service, config)]

    assert sorted(found) == ["blue", "red", "red"]


def test_of_too_many_regions_the_largest_are_kept(service: Service, picture: str):
    config = brush_config(["red", "blue"], 'model_instances="true" model_max_regions="2"')

    found = regions(service, config)

    assert len(found) == 2
    assert painted(found)[10, 10]
    assert painted(found, "blue")[45, 65]


def test_a_skipped_label_never_comes_back(service: Service, picture: str):
    config = brush_config(["red", "blue"]).replace('value="red"', 'value="red" model_skip="true"')

    assert [region["value"]["brushlabels"] for region in regions(service, config)] == [["blue"]]


def test_extra_params_of_the_connection_hold_for_the_project(service: Service, picture: str):
    config = brush_config(["red"])
    data = {"tasks": [{"id": 1, "data": {"image": ADDRESS}}], "label_config": config}
    plain = service.client.post("/setup", json={"schema": config, "project": "7.5"}).get_json()
    told = service.client.post(
        "/setup",
        json={
            "schema": config,
            "project": "7.5",
            "extra_params": '{"model_instances": true, "of_somebody_else": 1}',
        },
    ).get_json()

    mine = service.client.post("/predict", json={**data, "project": "7.5"}).get_json()["results"]
    other = service.client.post("/predict", json={**data, "project": "8.1"}).get_json()["results"]

    assert told["model_version"] != plain["model_version"]
    assert (len(mine[0]["result"]), mine[0]["model_version"]) == (2, told["model_version"])
    assert (len(other[0]["result"]), other[0]["model_version"]) == (1, plain["model_version"])


def test_extra_params_that_cannot_be_meant_are_named_in_the_dialog(service: Service):
    body = {"schema": brush_config(), "project": "1.1", "extra_params": {"model_smooth": "much"}}

    answer = service.client.post("/setup", json=body)

    assert answer.status == (
        "422 model_smooth of 'extra_params' must be a radius from 0 to 50 in whole pixels, "
        "not 'much'"
    )


def test_the_environment_sets_defaults_for_all_projects(start_service: StartService, picture: str):
    service = start_service(options={"model_instances": True})

    assert len(regions(service, brush_config(["red"]))) == 2
    assert len(regions(service, brush_config(["red"], 'model_instances="false"'))) == 1


def test_a_picture_too_large_for_brush_is_refused_with_what_to_use_instead(
    start_service: StartService, picture: str, files: FileServer
):
    service = start_service(max_brush_megapixels=0.005)

    answer = service.predict(brush_config(["red"]), {"image": ADDRESS})

    assert answer.status == (
        "422 a brush mask of 100 x 60 pixels is too much for the editor (over 0.005 megapixels, "
        "MAX_BRUSH_MEGAPIXELS); use BitmaskLabels or PolygonLabels"
    )


def test_one_picture_too_large_for_brush_costs_no_other_its_masks(
    start_service: StartService, picture: str, files: FileServer
):
    service = start_service(max_brush_megapixels=0.005)
    files.put("/data/upload/1/small.png", striped_png("red"))

    large, small = service.predict(
        brush_config(["red"]), {"image": ADDRESS}, {"image": "/data/upload/1/small.png"}
    ).get_json()["results"]

    assert "use BitmaskLabels or PolygonLabels" in large["error"]
    assert small["result"]


def test_outlines_have_no_such_limit(start_service: StartService, picture: str):
    service = start_service(max_brush_megapixels=0.005)
    config = brush_config(["red"]).replace("BrushLabels", "PolygonLabels")

    assert regions(service, config)


def test_a_tag_with_another_model_gets_that_model_s_masks(
    start_service: StartService, picture: str
):
    service = start_service()
    config = brush_config(["red"], 'model_method="maskclip"')
    version = service.setup(config)
    ((_, host),) = service.services.models.others
    host.join()

    assert version.status_code == 200
    assert regions(service, config)
    assert service.client.get("/health").get_json()["other_models"] == [
        {"method": "maskclip", "profile": None, "state": "ready"}
    ]


def test_words_the_model_hardly_reads_are_named_on_the_log(
    start_service: StartService, picture: str, caplog: pytest.LogCaptureFixture
):
    class Reader(ColourSegmenter):
        def read(self, labels, *, background=None, preset=None):
            alike = [Label(label.name, ("red",)) for label in labels]
            return super().read(alike, background=background, preset=preset)

    source = replace(colour_source(Reader()), check_words=lambda profile, labels: None)
    service = start_service(source)

    expected = (
        "hardly reads 'Straßenbahnhaltestelle'",
        "'cls_3' is a code, not a word; give English words in predicted_values",
        "'Straßenbahnhaltestelle' and 'cls_3' mean nearly the same",
    )
    with caplog.at_level("WARNING"):
        service.setup(brush_config(["Straßenbahnhaltestelle", "cls_3"]))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            said = "\n".join(record.getMessage() for record in caplog.records)
            if all(sentence in said for sentence in expected):
                break
            time.sleep(0.05)

    assert [sentence for sentence in expected if sentence not in said] == []


DYNAMIC = """<View><Image name="image" value="$image"/>
  <BrushLabels name="seg" toName="image" value="$labels"/></View>"""


def test_labels_of_a_task_are_its_own_and_a_bad_list_costs_no_other_task(
    service: Service, picture: str
):
    lists = [["red"], [{"value": "blue", "alias": "b"}], None, ["unicorn"], ["red"]]
    data = [{"image": ADDRESS, "labels": labels} for labels in lists]

    entries = service.predict(DYNAMIC, *data).get_json()["results"]

    labels = [
        [region["value"]["brushlabels"] for region in entry.get("result", ())] for entry in entries
    ]
    assert labels == [[["red"]], [["b"]], [], [], [["red"]]]
    assert "the task has no such list" in entries[2]["error"]
    assert "does not know 'unicorn'" in entries[3]["error"]


def test_every_picture_of_a_list_is_predicted_and_numbered(service: Service, files: FileServer):
    config = brush_config(["red"]).replace('value="$image"', 'valueList="$pages"')
    files.put("/data/upload/1/one.png", striped_png("red", "blue"))
    files.put("/data/upload/1/two.png", striped_png("blue", "blue", "red"))
    pages = ["/data/upload/1/one.png", "/data/upload/1/two.png", "/data/upload/1/one.png"]

    (entry,) = service.predict(config, {"pages": pages}).get_json()["results"]

    found = [(region["item_index"], region["original_width"]) for region in entry["result"]]
    assert found == [(0, 8), (1, 12), (2, 8)]
    assert len({region["id"] for region in entry["result"]}) == 3


def test_a_page_of_a_file_with_several_is_chosen_by_the_task(service: Service, files: FileServer):
    pages = [Image.fromarray(stripes(name)) for name in ("blue", "red")]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    files.put("/data/upload/1/pages.tif", buffer.getvalue())
    config = brush_config(["red"]).replace('value="$image"', 'value="$image" model_page="$page"')
    data = [{"image": "/data/upload/1/pages.tif", "page": page} for page in (1, 2, 3)]

    first, second, third = service.predict(config, *data).get_json()["results"]

    assert first["result"] == []
    assert len(second["result"]) == 1
    assert "result" not in third


def test_a_long_list_of_pictures_is_never_in_memory_as_a_whole(
    start_service: StartService, files: FileServer
):
    alive, most = set(), [0]

    class Counting(ColourSegmenter):
        def observe(self, image):
            most[0] = max(most[0], len(alive))
            pixels = torch.from_numpy(image.copy())
            return Seen(size_hw=(image.shape[0], image.shape[1]), pixels=pixels)

    service = start_service(colour_source(Counting()), result_cache_mb=0.0, state_cache_mb=0.0)
    pictures = service.services.predictor._fetching._pictures
    decode = pictures.decode

    def counted(data: bytes, *, page: int = 1) -> np.ndarray:
        pixels = decode(data, page=page)
        alive.add(id(pixels))
        weakref.finalize(pixels, alive.discard, id(pixels))
        return pixels

    object.__setattr__(pictures, "decode", counted)
    names = [f"/data/upload/1/{number}.png" for number in range(12)]
    for number, name in enumerate(names):
        files.put(name, encoded(stripes("red", width=4 + number)))
    config = brush_config(["red"]).replace('value="$image"', 'valueList="$pages"')

    (entry,) = service.predict(config, {"pages": names}).get_json()["results"]

    assert len(entry["result"]) == 12
    assert most[0] <= 4


def test_a_model_for_every_tag_of_too_many_is_refused_at_once(start_service: StartService):
    service = start_service()
    config = """<View><Image name="i" value="$image"/>
      <BrushLabels name="a" toName="i" model_method="maskclip"><Label value="red"/></BrushLabels>
      <BrushLabels name="b" toName="i" model_method="proxyclip"><Label value="blue"/></BrushLabels>
      </View>"""

    answer = service.setup(config)

    assert answer.status.startswith("422 the config names 2 models beside the service's own")
    assert service.services.models.others == ()


def test_a_radius_in_pixels_means_those_of_the_picture_also_on_smaller_masks():
    scores = Scores(
        labels=("a",),
        maps=np.zeros((1, 4, 4), np.float32),
        strength=np.zeros(1, np.float32),
        presence=np.zeros(1, np.float32),
        size_hw=(50, 100),
    )

    assert for_masks(Decision(smooth=10), scores, (100, 200)).smooth == 5
    assert for_masks(Decision(smooth=10), scores, (50, 100)).smooth == 10
