"""Every kind of picture and of address, through a real Label Studio and our service."""

import base64
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import numpy as np
import pytest
import tifffile
from PIL import Image

from backend.demo.annotate import answer_of, decode
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment
from tests.doubles.pictures import encoded

from .conftest import StartService
from .pictures import ORIENTATION, TWO_BOXES, ColourPicture, brush_config

WORDS = ("red", "blue", "green")
BLACK_AND_WHITE = ColourPicture(
    size_hw=(120, 160), boxes={"black": (10, 20, 60, 90), "white": (90, 30, 150, 100)}
)
KEYS = {"aws_access_key_id": "reader", "aws_secret_access_key": "not-a-secret"}
REGION = "eu-central-1"

Undo = Image.Transpose
STORED = {  # EXIF orientation -> how the upright picture is laid down for it
    1: None,
    2: Undo.FLIP_LEFT_RIGHT,
    3: Undo.ROTATE_180,
    4: Undo.FLIP_TOP_BOTTOM,
    5: Undo.TRANSPOSE,
    6: Undo.ROTATE_90,
    7: Undo.TRANSVERSE,
    8: Undo.ROTATE_270,
}


def predicted(
    api: LabelStudioApi, service: str, files: Mapping[str, bytes]
) -> dict[str, dict[str, Any]]:
    """Upload into a new project and retrieve; file name -> its only prediction."""
    project = api.create_project("anywhere", brush_config(WORDS))
    tasks = api.upload(project, files)
    api.connect(project, service)
    found = retrieved(api, project)
    return {name: found[task] for name, task in tasks.items()}


def retrieved(api: LabelStudioApi, project: int) -> dict[int, dict[str, Any]]:
    """Task id -> its prediction, after retrieving them all."""
    api.retrieve_predictions(project)
    return {found["task"]: found for found in api.predictions(project)}


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def sizes(found: Mapping[str, Any]) -> set[tuple[int, int]]:
    return {(region["original_height"], region["original_width"]) for region in found["result"]}


@pytest.fixture(scope="module")
def by_orientation(
    label_studio: LabelStudioServer, start_colour_service: StartService
) -> dict[int, dict[str, Any]]:
    """EXIF orientation -> the prediction of a picture stored with it; all in one project."""
    api = LabelStudioApi(label_studio.url, label_studio.account.token)
    files = {}
    for orientation, step in STORED.items():
        upright = Image.fromarray(TWO_BOXES.image)
        stored = upright if step is None else upright.transpose(step)
        exif = stored.getexif()
        exif[ORIENTATION] = orientation
        files[f"turned{orientation}.jpg"] = encoded(
            stored, "JPEG", exif=exif, quality=95, subsampling=0
        )
    found = predicted(api, start_colour_service(label_studio), files)
    api.close()
    return {orientation: found[f"turned{orientation}.jpg"] for orientation in STORED}


@pytest.mark.parametrize("orientation", STORED)
def test_masks_lie_where_the_picture_shows_its_boxes_however_it_is_stored(
    by_orientation: Mapping[int, Mapping[str, Any]], orientation: int
):
    found = by_orientation[orientation]

    assert sizes(found) == {TWO_BOXES.size_hw}
    for region in found["result"]:
        (word,) = region["value"]["brushlabels"]
        assert overlap(decode(region), TWO_BOXES.truth(word)) > 0.95
    assert len(found["result"]) == 2


def address_of(data: bytes) -> str:
    """A picture that travels inside the task."""
    return f"data:image/any;base64,{base64.b64encode(data).decode()}"


def deep_grey(picture: ColourPicture) -> bytes:
    """16 bits per pixel, of which the picture uses a few thousand values."""
    grey = np.asarray(Image.fromarray(picture.image).convert("L"))
    return encoded(Image.fromarray(grey.astype(np.uint16) * 14 + 300))


def translucent(picture: ColourPicture) -> bytes:
    """Blue is all there is; where the picture is not blue the file is fully transparent."""
    layer = np.zeros((*picture.size_hw, 4), np.uint8)
    layer[..., :3] = (255, 0, 0)
    layer[picture.truth("blue")] = (0, 0, 255, 255)
    return encoded(Image.fromarray(layer))


def geotiff(picture: ColourPicture) -> bytes:
    """Five bands of 12 bits, tiled; the first three are colours."""
    bands = np.zeros((*picture.size_hw, 5), np.uint16)
    bands[..., :3] = picture.image.astype(np.uint16) * 16
    file = io.BytesIO()
    tifffile.imwrite(file, bands, photometric="rgb", tile=(64, 64), planarconfig="contig")
    return file.getvalue()


KINDS: Mapping[str, tuple[Callable[[ColourPicture], bytes], ColourPicture, tuple[str, ...]]] = {
    "deep.png": (deep_grey, BLACK_AND_WHITE, ("black", "white")),
    "palette.png": (
        lambda picture: encoded(Image.fromarray(picture.image).quantize(16)),
        TWO_BOXES,
        ("red", "blue"),
    ),
    "palette.gif": (
        lambda picture: encoded(Image.fromarray(picture.image).quantize(16), "GIF"),
        TWO_BOXES,
        ("red", "blue"),
    ),
    "print.jpg": (
        lambda picture: encoded(
            Image.fromarray(picture.image).convert("CMYK"), "JPEG", quality=100, subsampling=0
        ),
        TWO_BOXES,
        ("red", "blue"),
    ),
    "alpha.png": (translucent, TWO_BOXES, ("blue",)),
    "lossless.webp": (
        lambda picture: encoded(picture.image, "WEBP", lossless=True),
        TWO_BOXES,
        ("red", "blue"),
    ),
    "fine.avif": (
        lambda picture: encoded(picture.image, "AVIF", quality=100, subsampling="4:4:4"),
        TWO_BOXES,
        ("red", "blue"),
    ),
    "bands.tif": (geotiff, TWO_BOXES, ("red", "blue")),
}


@pytest.fixture(scope="module")
def by_kind(
    label_studio: LabelStudioServer, start_colour_service: StartService
) -> dict[str, dict[str, Any]]:
    """Name -> the prediction of a picture of that kind; all in one project.

    They travel inside the tasks: Label Studio takes no TIFF and no AVIF as uploads.
    """
    api = LabelStudioApi(label_studio.url, label_studio.account.token)
    project = api.create_project("kinds", brush_config(("red", "blue", "black", "white")))
    made = {name: make(picture) for name, (make, picture, _) in KINDS.items()}
    api.import_tasks(
        project,
        [{"data": {"image": address_of(data), "name": name}} for name, data in made.items()],
    )
    tasks = {task["data"]["name"]: task["id"] for task in api.tasks(project)}
    api.connect(project, start_colour_service(label_studio))
    found = retrieved(api, project)
    api.close()
    return {name: found[task] for name, task in tasks.items()}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_inside_a_task_gets_its_masks(
    by_kind: Mapping[str, Mapping[str, Any]], name: str
):
    _, picture, words = KINDS[name]

    masks = answer_of(by_kind[name]).masks

    assert sizes(by_kind[name]) == {picture.size_hw}
    for word in words:
        assert overlap(masks[word], picture.truth(word)) > 0.98, word
    assert set(masks) == {*words, *({"white"} if name == "alpha.png" else ())}  # paper


def test_transparent_pixels_are_white_paper(by_kind: Mapping[str, Mapping[str, Any]]):
    masks = answer_of(by_kind["alpha.png"]).masks

    np.testing.assert_array_equal(masks["white"], ~TWO_BOXES.truth("blue"))


# -- a store ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an object store of our own with one picture in the bucket `shots`."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    server = Server(
        "the object store",
        [sys.executable, "-m", "moto.server", "--host", LOOPBACK, "--port", str(port)],
        environment=plain_environment(),
        health=f"{url}/moto-api/",
        log=tmp_path_factory.mktemp("store") / "store.log",
    )
    with server:
        client = boto3.client("s3", endpoint_url=url, region_name=REGION, **KEYS)
        client.create_bucket(
            Bucket="shots", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        client.put_object(Bucket="shots", Key="two boxes/1.png", Body=TWO_BOXES.to_png())
        client.close()
        yield url


def project_on_store(api: LabelStudioApi, store: str, *, presign: bool) -> int:
    """A project whose tasks come from the bucket; returns its id."""
    project = api.create_project("store", brush_config(WORDS))
    storage = api.call(
        "POST",
        "/api/storages/s3",
        json={
            "project": project,
            "bucket": "shots",
            "prefix": "two boxes",
            "regex_filter": r".*\.png",
            "use_blob_urls": True,
            "presign": presign,
            "region_name": REGION,
            "s3_endpoint": store,
            **KEYS,
        },
    )
    api.call("POST", f"/api/storages/s3/{storage['id']}/sync")
    return project


@pytest.mark.parametrize("presign", [True, False], ids=["signed", "handed-on"])
def test_pictures_of_a_store_are_found(
    api: LabelStudioApi,
    label_studio: LabelStudioServer,
    start_colour_service: StartService,
    store: str,
    presign: bool,
):
    host = store.removeprefix("http://")
    service = start_colour_service(label_studio, **({"PRIVATE_HOSTS": host} if presign else {}))
    project = project_on_store(api, store, presign=presign)
    (task,) = api.tasks(project)
    relative = {"image": f"/tasks/{task['id']}/resolve/?fileuri={fileuri('two boxes/1.png')}"}
    absolute = {"image": label_studio.url + relative["image"]}
    project_wide = {
        "image": relative["image"].replace(f"tasks/{task['id']}", f"projects/{project}")
    }
    given = [{"image": "s3://shots/two boxes/1.png"}, relative, absolute, project_wide]
    api.import_tasks(project, [{"data": data} for data in given])
    api.connect(project, service)

    found = retrieved(api, project)

    assert len(found) == len(given) + 1
    for prediction in found.values():
        np.testing.assert_array_equal(answer_of(prediction).masks["blue"], TWO_BOXES.truth("blue"))


def fileuri(key: str) -> str:
    return base64.urlsafe_b64encode(f"s3://shots/{key}".encode()).decode()


def test_a_store_on_a_private_address_that_is_not_named_is_not_visited(
    api: LabelStudioApi, service: str, store: str
):
    project = project_on_store(api, store, presign=True)
    api.connect(project, service)

    assert retrieved(api, project) == {}


def test_what_the_store_does_not_have_is_not_predicted_and_hinders_nobody(
    api: LabelStudioApi,
    label_studio: LabelStudioServer,
    start_colour_service: StartService,
    store: str,
):
    service = start_colour_service(label_studio, PRIVATE_HOSTS=store.removeprefix("http://"))
    project = project_on_store(api, store, presign=True)
    (good,) = api.tasks(project)
    missing = ("s3://shots/two boxes/2.png", "s3://unknown/1.png", "gs://shots/1.png")
    api.import_tasks(project, [{"data": {"image": address}} for address in missing])
    api.connect(project, service)

    assert set(retrieved(api, project)) == {good["id"]}
