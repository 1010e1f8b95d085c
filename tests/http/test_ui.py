"""`/ui`: the page, who may have it, and what its data says."""

import base64
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from werkzeug.test import TestResponse

from backend.api import ui_guard
from backend.labelstudio import rle

from ..doubles.colours import ColourSegmenter
from ..doubles.pictures import encoded
from ..doubles.studio_server import LEGACY_TOKEN, StudioServer, studio_server
from .conftest import Service, StartService

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="masks" toName="image">'
    '<Label value="red"/><Label value="blue" background="#123456"/></BrushLabels></View>'
)


class Page:
    """A browser that has loaded the page."""

    def __init__(self, service: Service, **headers: str) -> None:
        self.client, self.headers = service.client, headers
        assert self.client.get("/ui/", headers=headers).status_code == 200

    @property
    def token(self) -> str:
        cookie = self.client.get_cookie(ui_guard.COOKIE, path="/ui")
        assert cookie is not None
        return cookie.value

    def post(self, path: str, **sent: Any) -> TestResponse:
        headers = {ui_guard.HEADER: self.token, **self.headers, **sent.pop("headers", {})}
        return self.client.post(f"/ui/{path}", headers=headers, **sent)

    def picture(self, data: bytes, name: str = "mine.png") -> str:
        answer = self.post(f"api/pictures?name={name}", data=data)
        assert answer.status_code == 200, answer.text
        return str(answer.json["id"])

    def pane(self, picture: str, config: str = CONFIG, **more: Any) -> dict[str, Any]:
        answer = self.post("api/panes", json={"picture": picture, "config": config, **more})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json
        return told


@pytest.fixture
def page(service: Service) -> Page:
    return Page(service)


def label_map(told: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(unpacked(told["label_map"]), np.uint8).reshape(told["map_hw"])


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def halves() -> np.ndarray:
    """Red at the left, blue at the right; 40 x 60 pixels."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = (255, 0, 0)
    pixels[:, 30:] = (0, 0, 255)
    return pixels


# -- the page -----------------------------------------------------------------------------


def test_the_page_may_load_nothing_but_its_own_parts(service: Service) -> None:
    answer = service.client.get("/ui/")

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_has_no_script_and_no_style_of_its_own_and_asks_nobody_else(
    service: Service,
) -> None:
    text = service.client.get("/ui/").text

    assert "<style" not in text
    assert " style=" not in text
    assert re.search(r"\son\w+=", text) is None
    assert "//" not in text


def test_everything_the_page_names_is_served(service: Service) -> None:
    text = service.client.get("/ui/").text
    named = {part.split('"')[0] for part in text.split('"static/')[1:]}

    assert {"playground.js", "style.css", "playground.css", "mark.svg"} <= named
    for name in named:
        answer = service.client.get(f"/ui/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "name", ["nothing.js", "playground.html", "..%2fapp.py", "%2e%2e/app.py", "style.css.bak"]
)
def test_nothing_else_is_served(service: Service, name: str) -> None:
    assert service.client.get(f"/ui/static/{name}").status_code == 404


def test_the_address_without_a_slash_leads_to_the_page(service: Service) -> None:
    answer = service.client.get("/ui")

    assert answer.status_code == 302
    assert answer.headers["Location"] == "ui/"


def test_one_setting_turns_the_pages_off(start_service: StartService) -> None:
    service = start_service(ui=False)

    assert service.client.get("/ui/").status_code == 404
    assert service.client.get("/health").status_code == 200


# -- who may -------------------------------------------------------------------------------


def test_with_a_password_the_page_asks_for_it(start_service: StartService) -> None:
    service = start_service(basic_auth=("ann", "secret"))

    answer = service.client.get("/ui/")

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert service.client.get("/ui/", auth=("ann", "secret")).status_code == 200


def test_with_a_token_alone_a_browser_gives_it_as_a_password(start_service: StartService) -> None:
    service = start_service(api_token="0123456789abcdef")

    answer = service.client.get("/ui/")

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert service.client.get("/ui/", auth=("any", "0123456789abcdef")).status_code == 200
    assert service.client.get("/ui/", auth=("any", "0123456789abcdeX")).status_code == 401
    assert service.client.get("/jobs", auth=("any", "0123456789abcdef")).status_code == 401


@pytest.mark.parametrize("path", ["api/pictures", "api/panes", "api/exports/coco"])
def test_a_page_of_another_site_can_make_us_do_nothing(page: Page, path: str) -> None:
    body = {"scene": 0}

    assert page.client.post(f"/ui/{path}", json=body).status_code == 403
    wrong = page.client.post(f"/ui/{path}", json=body, headers={ui_guard.HEADER: "guess"})
    assert wrong.status_code == 403
    assert "load the page again" in wrong.json["error"]


def test_from_elsewhere_scenes_and_files_may_be_tried_but_no_task(page: Page) -> None:
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}

    assert page.post("api/pictures", json={"scene": 0}, **elsewhere).status_code == 200
    refused = page.post("api/pictures", json={"project": 1, "task": 1}, **elsewhere)
    assert refused.status_code == 403
    assert "BASIC_AUTH_USER" in refused.json["error"]
    meta = page.client.get("/ui/api/meta", **elsewhere)
    assert meta.json["projects"] is False


# -- pictures and masks --------------------------------------------------------------------


def test_a_picture_gives_the_masks_that_predict_gives(page: Page, service: Service) -> None:
    data = encoded(halves())

    told = page.pane(page.picture(data))

    predicted = service.predict(
        CONFIG, {"image": "data:image/png;base64," + base64.b64encode(data).decode()}
    ).json["results"][0]
    assert told["version"] == predicted["model_version"]
    regions = {one["value"]["brushlabels"][0]: one for one in predicted["result"]}
    for number, label in enumerate(told["labels"], start=1):
        mask = rle.decode(regions[label["name"]]["value"]["rle"], size_hw=(40, 60)) > 0
        np.testing.assert_array_equal(label_map(told) == number, mask)


def test_labels_have_their_areas_scores_and_colours(page: Page) -> None:
    told = page.pane(page.picture(encoded(halves())))

    red, blue = told["labels"]
    assert (red["name"], blue["name"]) == ("red", "blue")
    assert red["area"] == blue["area"] == 1200
    assert red["share"] == 0.5
    assert blue["colour"] == [0x12, 0x34, 0x56]
    assert red["presence"] > red["needed"]
    assert told["regions"] == 2
    assert told["size_hw"] == [40, 60]


def test_other_words_on_the_same_picture_cost_no_look(
    page: Page, segmenter: ColourSegmenter
) -> None:
    picture = page.picture(encoded(halves()))
    first = page.pane(picture)

    second = page.pane(picture, CONFIG.replace("red", "green"))

    assert first["looked"]
    assert not second["looked"]
    assert len(segmenter.looks) == 1
    assert [label["name"] for label in second["labels"]] == ["green", "blue"]


def test_scores_are_given_for_whoever_points_at_the_picture(page: Page) -> None:
    told = page.pane(page.picture(encoded(halves())))

    high, wide = told["grid_hw"]
    claims = np.frombuffer(unpacked(told["claims"]), np.uint8).reshape(2, high, wide)
    assert claims[0, high // 2, 0] > claims[1, high // 2, 0]
    assert claims[1, high // 2, -1] > claims[0, high // 2, -1]
    assert len(unpacked(told["doubt"])) == high * wide


def test_masks_that_overlap_come_one_by_one(page: Page) -> None:
    config = CONFIG.replace('toName="image">', 'toName="image" model_overlap="true">')

    told = page.pane(page.picture(encoded(halves())), config)

    bits = np.frombuffer(unpacked(told["layers"]), np.uint8).reshape(2, -1)
    layers = np.unpackbits(bits, axis=1)[:, : 40 * 60].reshape(2, 40, 60)
    assert layers[0, :, :30].all()
    assert not layers[0, :, 30:].any()


def test_pieces_apart_have_numbers(page: Page) -> None:
    pixels = halves()
    pixels[:, 10:20] = (255, 255, 255)
    config = CONFIG.replace('toName="image">', 'toName="image" model_instances="true">')

    told = page.pane(page.picture(encoded(pixels)), config)

    pieces = np.frombuffer(unpacked(told["pieces"]), "<u2").reshape(40, 60)
    assert pieces[0, 0] != pieces[0, 25]
    assert told["regions"] == 3
    assert told["labels"][0]["regions"] == 2


def test_a_config_with_several_tags_shows_the_one_that_is_asked_for(page: Page) -> None:
    config = CONFIG.replace(
        "</View>",
        '<PolygonLabels name="outlines" toName="image"><Label value="green"/></PolygonLabels>'
        '<Choices name="all" toName="image" model_fill="true"><Choice value="red"/></Choices>'
        "</View>",
    )
    picture = page.picture(encoded(halves()))

    told = page.pane(picture, config, control="outlines")

    assert told["controls"] == ["masks", "outlines"]
    assert told["control"] == "outlines"
    assert [label["name"] for label in told["labels"]] == ["green"]
    assert page.pane(picture, config, control="gone")["control"] == "masks"


def test_a_scene_is_a_picture_like_any_other(page: Page) -> None:
    told = page.post("api/pictures", json={"scene": 3}).json

    shown = page.client.get(f"/ui/api/pictures/{told['id']}")
    assert shown.mimetype == "image/png"
    assert Image.open(io.BytesIO(shown.data)).size == tuple(reversed(told["size_hw"]))
    scene = page.client.get("/ui/api/scenes/3.png")
    np.testing.assert_array_equal(_pixels(shown.data), _pixels(scene.data))
    assert page.client.get(f"/ui/api/pictures/{told['id']}?about").json["name"] == "scene-03.png"


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# -- tasks of projects ---------------------------------------------------------------------

TWO_PICTURES = (
    '<View><Image name="first" value="$a" model_page="$page"/><Image name="second" value="$b"/>'
    '<BrushLabels name="masks" toName="first"><Label value="red"/><Label value="blue"/>'
    '</BrushLabels><BrushLabels name="others" toName="second"><Label value="green"/></BrushLabels>'
    "</View>"
)


@pytest.fixture
def studio() -> Iterator[StudioServer]:
    with studio_server() as running:
        yield running


@pytest.fixture
def with_projects(start_service: StartService, studio: StudioServer) -> tuple[Page, Service]:
    service = start_service(label_studio_url=studio.url, label_studio_api_key=LEGACY_TOKEN)
    return Page(service), service


def two_pages() -> bytes:
    """A TIFF: green of 20 x 20 pixels, then the halves of 40 x 60."""
    file = io.BytesIO()
    first = Image.fromarray(np.full((20, 20, 3), (0, 255, 0), np.uint8))
    first.save(file, "TIFF", save_all=True, append_images=[Image.fromarray(halves())])
    return file.getvalue()


def test_a_task_opens_with_its_page_its_config_and_what_its_connection_says(
    with_projects: tuple[Page, Service], studio: StudioServer
) -> None:
    page, service = with_projects
    studio.files["/data/upload/1/two.tif"] = two_pages()
    data = {"a": "/data/upload/1/two.tif", "b": "/data/upload/1/none.png", "page": 2}
    number = studio.project(label_config=TWO_PICTURES)
    (task,) = studio.add(number, data)

    kept = page.post("api/pictures", json={"project": number, "task": task}).json
    setup = {
        "schema": TWO_PICTURES,
        "project": kept["project"],
        "extra_params": '{"model_overlap": true}',
    }
    assert service.client.post("/setup", json=setup).status_code == 200
    told = page.pane(kept["id"], kept["config"])

    assert kept["size_hw"] == [40, 60]
    assert told["controls"] == ["masks"]  # the other picture is not the one on screen
    assert [label["area"] for label in told["labels"]] == [1200, 1200]
    assert told["options"]["model_overlap"] == {"value": True, "source": "extra_params"}
    body = {"picture": kept["id"], "config": kept["config"]}
    drawn = _pixels(page.post("api/exports/overlay", json=body).data)
    assert drawn[5, 5, 0] > 200  # red under red, and not the green of the first page
    of_words = page.pane(kept["id"], CONFIG)  # which does not say where pages are named
    assert [label["area"] for label in of_words["labels"]] == [1200, 1200]


@pytest.mark.parametrize(("project", "task"), [(1, 99), (99, 1)])
def test_a_task_that_is_not_there_is_said_so(
    with_projects: tuple[Page, Service], studio: StudioServer, project: int, task: int
) -> None:
    page, _ = with_projects
    assert studio.project(tasks=1) == 1

    answer = page.post("api/pictures", json={"project": project, "task": task})

    assert answer.status_code in (400, 502)
    assert str(99) in answer.json["error"]


def test_a_picture_of_a_task_is_for_the_owner(
    with_projects: tuple[Page, Service], studio: StudioServer
) -> None:
    page, _ = with_projects
    studio.files["/data/upload/1/a.png"] = encoded(halves())
    number = studio.project(label_config=CONFIG)
    (task,) = studio.add(number, {"image": "/data/upload/1/a.png"})
    kept = page.post("api/pictures", json={"project": number, "task": task}).json
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}

    body = {"picture": kept["id"], "config": CONFIG}

    assert page.client.get(f"/ui/api/pictures/{kept['id']}", **elsewhere).status_code == 403
    for path in ("api/panes", "api/exports/coco"):
        assert page.post(path, json=body, **elsewhere).status_code == 403


# -- what others notice --------------------------------------------------------------------


def test_trying_words_gives_out_no_version_and_leaves_nothing_in_the_store(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(storage=f"sqlite:{tmp_path / 'store.sqlite'}")
    page = Page(service)
    picture = page.picture(encoded(halves()))

    for threshold in ("0.1", "0.2", "0.3"):
        config = CONFIG.replace("<BrushLabels", f'<BrushLabels model_score_threshold="{threshold}"')
        page.pane(picture, config)

    assert service.client.get("/versions").json == {"versions": []}
    service.services.close()
    assert b"looks" not in (tmp_path / "store.sqlite").read_bytes()


def test_where_label_studio_would_get_no_masks_the_page_says_so(
    start_service: StartService,
) -> None:
    page = Page(start_service(max_brush_megapixels=0.001))

    told = page.pane(page.picture(encoded(halves())))

    assert len(told["warnings"]) == 1
    assert "MAX_BRUSH_MEGAPIXELS" in told["warnings"][0]


def test_an_attribute_with_a_typing_error_is_warned_of(page: Page) -> None:
    config = CONFIG.replace("<BrushLabels", '<BrushLabels model_backgroud="black"')

    told = page.pane(page.picture(encoded(halves())), config)

    assert any("model_background" in one for one in told["warnings"])


# -- files ---------------------------------------------------------------------------------


def test_the_label_map_is_saved_as_a_picture(page: Page) -> None:
    picture = page.picture(encoded(halves()), "my photo.png")

    answer = page.post("api/exports/labels", json={"picture": picture, "config": CONFIG})

    saved = np.asarray(Image.open(io.BytesIO(answer.data)))
    np.testing.assert_array_equal(saved, label_map(page.pane(picture)))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="my-photo.labels.png"'


def test_the_overlay_is_saved_with_a_legend(page: Page) -> None:
    picture = page.picture(encoded(halves()))

    answer = page.post("api/exports/overlay", json={"picture": picture, "config": CONFIG})

    drawn = Image.open(io.BytesIO(answer.data))
    assert drawn.size[0] > 60  # the legend stands at the right


def test_coco_holds_every_region(page: Page) -> None:
    picture = page.picture(encoded(halves()))

    told = json.loads(
        page.post("api/exports/coco", json={"picture": picture, "config": CONFIG}).data
    )

    assert [one["name"] for one in told["categories"]] == ["red", "blue"]
    assert [one["area"] for one in told["annotations"]] == [1200, 1200]
    assert told["annotations"][1]["bbox"] == [30, 0, 30, 40]
    assert told["annotations"][0]["segmentation"] == {"size": [40, 60], "counts": [0, 1200, 1200]}


# -- what goes wrong -----------------------------------------------------------------------


def test_a_file_that_is_no_picture_is_refused_with_a_sentence(page: Page) -> None:
    answer = page.post("api/pictures?name=a.png", data=b"<html>not a picture</html>")

    assert answer.status_code == 422
    assert "not a picture but a web page" in answer.json["error"]


def test_a_picture_that_is_too_large_says_what_to_set(start_service: StartService) -> None:
    page = Page(start_service(max_image_mb=0.001))
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)

    answer = page.post("api/pictures", data=encoded(noise))

    assert answer.status_code == 422
    assert "MAX_IMAGE_MB" in answer.json["error"]


def test_a_picture_that_is_gone_says_so(page: Page) -> None:
    answer = page.post("api/panes", json={"picture": "unknown", "config": CONFIG})

    assert answer.status_code == 404
    assert "no longer kept" in answer.json["error"]


def test_a_config_nobody_can_read_is_told_as_setup_tells_it(page: Page, service: Service) -> None:
    picture = page.picture(encoded(halves()))

    answer = page.post("api/panes", json={"picture": picture, "config": "<View>"})

    assert answer.status_code == 422
    assert answer.json["error"] == service.setup("<View>").json["error"]


@pytest.mark.parametrize(
    "body", [[], {}, {"picture": 1, "config": CONFIG}, {"picture": "a", "config": None}, "text"]
)
def test_a_request_nobody_can_mean_is_refused(page: Page, body: Any) -> None:
    assert page.post("api/panes", json=body).status_code == 400


@pytest.mark.parametrize("body", [{"scene": -1}, {"scene": 99}, {"scene": "1"}, {"task": 1}, [1]])
def test_a_picture_nobody_can_mean_is_refused(page: Page, body: Any) -> None:
    assert page.post("api/pictures", json=body).status_code == 400


def test_an_unknown_kind_of_file_is_refused(page: Page) -> None:
    picture = page.picture(encoded(halves()))

    answer = page.post("api/exports/svg", json={"picture": picture, "config": CONFIG})

    assert answer.status_code == 400
    assert "overlay, labels, coco" in answer.json["error"]


def test_profiles_without_weights_are_told_apart(
    start_service: StartService, tmp_path: Path
) -> None:
    page = Page(start_service(model_dir=tmp_path))

    told = dict(page.client.get("/ui/api/meta").json["profiles"])

    assert told["demo"]
    assert not told["best"]


def test_the_status_says_how_far_the_model_is(page: Page) -> None:
    assert page.client.get("/ui/api/status").json["state"] == "ready"
