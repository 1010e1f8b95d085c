"""Tasks and pictures from a Label Studio, and from an export beside a folder."""

import base64
from pathlib import Path

import numpy as np
import pytest

from backend.errors import BadRequest, BudgetSpent, ImageMissing
from backend.images.decode import decode
from backend.labelstudio.tasks import Task
from backend.report.comparing import Name, Place
from backend.report.making import Asked, report
from backend.report.reading import Told
from backend.report.sources import (
    ALL_PICTURES_SECONDS,
    ExportSource,
    Gallery,
    ProjectSource,
)
from backend.studio.project import StudioProject

from ....doubles.corrections import PICTURE, address, annotated, columns, corrected, painted, write
from ....doubles.moments import Moments
from ....doubles.pictures import encoded
from ....doubles.studio_server import StudioServer
from ..studio.conftest import make_studio, moments, server, studio  # noqa: F401

IMAGE = Place("image", None)
TEN = columns(0, 10)
CONFIG = (
    '<View><Image name="image" value="$photo"/><BrushLabels name="seg" toName="image">'
    '<Label value="red" background="#ff0000"/></BrushLabels></View>'
)


class Fetched:
    """Implements Pictures over one address and data URLs; `asked` are the addresses."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        self.asked.append(address)
        if address.startswith("data:"):
            return base64.b64decode(address.partition(",")[2])
        if address != "a.png":
            raise ImageMissing("there is nothing at the address")
        return encoded(PICTURE)

    def server(self, address: str) -> str | None:
        return None

    def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
        return decode(data, max_pixels=1000, page=page)


@pytest.fixture
def source(server: StudioServer, studio) -> ProjectSource:  # noqa: F811
    """Three tasks: corrected, skipped, and untouched by anybody."""
    number = server.project(label_config=CONFIG)
    first, second, _ = server.add(number, *({"photo": "a.png"} for _ in range(3)))
    made = server.predict(first, "v1", result=painted("red", columns(0, 8)))
    done = server.annotate(first, made)
    server.annotations[done].update(annotated(painted("red", TEN), parent=made, id=done))
    server.annotate(second, skip=True)
    return ProjectSource(StudioProject(studio, number), Gallery(Fetched()))


def test_a_project_tells_what_was_corrected_and_how_much_is_left(source: ProjectSource):
    (only,) = source.tasks()

    assert (source.corrected, source.open_tasks) == (1, 2)
    assert len(only.annotations) == len(only.predictions) == 1
    assert dict(source.colours) == {Name("seg", "red"): "#ff0000"}
    assert (
        source.link(only)
        == f"{source._project.studio.url}/projects/{source.project}/data?task={only.id}"
    )


def test_a_report_reads_and_never_writes(source: ProjectSource, server: StudioServer):  # noqa: F811
    seen = report(source, Asked(), made="")

    assert [one.quality for one in seen.lines] == pytest.approx([0.8])
    assert seen.worst[0].panels is not None
    assert seen.sampled == 1
    assert {one.method for one in server.calls} == {"GET"}


def test_a_task_without_prediction_is_not_asked_for_any(
    source: ProjectSource,
    server: StudioServer,  # noqa: F811
):
    bare = server.ids(source.project or 0)[2]
    server.annotate(bare)

    list(source.tasks())

    assert not [
        one for one in server.asked("GET /api/predictions") if one.query["task"] == str(bare)
    ]
    assert not server.asked(r"GET /api/tasks/\d+/$")


def test_many_tasks_come_page_by_page(server: StudioServer, studio):  # noqa: F811
    server.largest_page = 2
    number = server.project(tasks=5)
    for task in server.ids(number):
        server.annotate(task)
    found = ProjectSource(StudioProject(studio, number), Gallery(Fetched()))

    assert [one.id for one in found.tasks()] == server.ids(number)
    assert [one.id for one in found.again(server.ids(number)[3:])] == server.ids(number)[3:]


def test_a_picture_is_where_the_label_config_says(source: ProjectSource):
    (only,) = source.tasks()

    np.testing.assert_array_equal(source.picture(only, IMAGE), PICTURE)
    with pytest.raises(ImageMissing, match="no picture number 3"):
        source.picture(only, Place("image", 2))


def test_a_config_without_masks_has_no_colours(server: StudioServer, studio):  # noqa: F811
    number = server.project(label_config="<View/>")

    assert ProjectSource(StudioProject(studio, number), Gallery(Fetched())).colours == {}


def test_an_export_finds_its_pictures_in_a_folder(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scene.png").write_bytes(encoded(PICTURE))
    task = Told(
        id=1,
        task=Task(1, {"image": "/data/upload/3/0a1b2c3d-scene.png"}),
        annotations=[],
        predictions=[],
    )
    fetched = Fetched()
    found = ExportSource(tmp_path / "e.json", Gallery(fetched, tmp_path / "in"))

    np.testing.assert_array_equal(found.picture(task, IMAGE), PICTURE)
    assert fetched.asked == []
    with pytest.raises(BadRequest, match="is not below"):
        found.picture(
            Told(id=2, task=Task(2, {"image": "other.png"}), annotations=[], predictions=[]), IMAGE
        )


def test_a_list_of_pictures_is_read_by_its_place(tmp_path: Path):
    task = Told(
        id=1,
        task=Task(1, {"pages": ["a.png", address(PICTURE[:, ::-1])]}),
        annotations=[],
        predictions=[],
    )
    found = ExportSource(tmp_path / "e.json", Gallery(Fetched()))

    np.testing.assert_array_equal(found.picture(task, Place("image", 0)), PICTURE)
    with pytest.raises(ImageMissing):
        found.picture(task, Place("image", 7))


def test_an_export_links_to_the_label_studio_it_is_from(tmp_path: Path):
    path = write(tmp_path / "e.json", [corrected(4, TEN, TEN)])
    known = ExportSource(path, Gallery(Fetched()), "http://studio.test/")
    (task,) = known.tasks()

    assert known.link(task) == "http://studio.test/projects/7/data?task=4"
    assert ExportSource(path, Gallery(Fetched())).link(task) is None


def test_an_export_can_be_read_twice(tmp_path: Path):
    tasks = [corrected(number, TEN, columns(0, 8)) for number in (3, 1, 2)]
    found = ExportSource(write(tmp_path / "e.json", tasks), Gallery(Fetched()))

    assert [one.id for one in found.tasks()] == [3, 1, 2]
    assert [one.id for one in found.again([1, 2])] == [1, 2]


def test_time_for_pictures_counts_from_the_first_of_them(moments: Moments):  # noqa: F811
    gallery = Gallery(Fetched(), clock=moments)
    task = Told(id=1, task=Task(1, {}), annotations=[], predictions=[])

    moments.pause(2 * ALL_PICTURES_SECONDS)
    gallery.get(task, "a.png", 1)

    moments.pause(2 * ALL_PICTURES_SECONDS)
    with pytest.raises(BudgetSpent):
        gallery.get(task, "a.png", 1)
