"""Rows into Label Studio: each once, however often and however it is interrupted."""

import json
from collections.abc import Sequence

import pytest

from backend.dataset.rows import Row
from backend.dataset.upload import Wish, upload
from backend.errors import BadRequest, StudioAway
from backend.prelabel.progress import Progress
from backend.studio.project import StudioProject

from ....doubles.pictures import brush_config
from ....doubles.studio_server import StudioServer
from ..studio.conftest import make_studio, moments, server, studio  # noqa: F401

VERSION = "demo-cliper-12345678"
REGION = (
    '[{"id":"r","from_name":"seg","to_name":"image","type":"brushlabels",'
    '"value":{"format":"rle","rle":[1],"brushlabels":["red"]}}]'
)


def row(number: int | None, id: str = "", **fields: object) -> Row:
    made: dict[str, object] = {
        "id": id or str(number),
        "number": number,
        "data": f'{{"image": "{id or number}"}}',
        "model_version": VERSION,
        "score": 0.5,
        "result": REGION,
        "regions": 1,
        **fields,
    }
    return Row(**made)  # type: ignore[arg-type]


@pytest.fixture
def project(server: StudioServer, studio: object) -> StudioProject:  # noqa: F811
    """Five tasks, whose pictures are called 0 to 4."""
    number = server.project(tasks=5, label_config=brush_config(("red", "green")))
    return StudioProject(studio, number)  # type: ignore[arg-type]


def uploaded(project: StudioProject, rows: Sequence[Row], **wish: bool) -> Progress:
    progress = Progress()
    upload(rows, project, Wish(**wish), progress)
    return progress


def of(server: StudioServer, tasks: Sequence[int]) -> list[Row]:  # noqa: F811
    """Rows of these tasks, with their pictures."""
    return [
        row(task, data=json.dumps({"image": server.tasks[task]["data"]["image"]})) for task in tasks
    ]


def predictions(server: StudioServer) -> list[tuple[int, str]]:  # noqa: F811
    return sorted((one["task"], one["model_version"]) for one in server.predictions.values())


def test_a_row_with_a_number_goes_to_its_task_once(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    tasks = sorted(server.tasks)
    rows = of(server, tasks)

    first = uploaded(project, rows)
    second = uploaded(project, rows)

    assert predictions(server) == [(task, VERSION) for task in tasks]
    assert (first["written"], second["written"]) == (5, 5)  # there, is what counts


def test_a_row_without_a_number_finds_its_task_by_the_picture(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    progress = uploaded(project, [row(None, "3"), row(None, "9")])

    (task,) = [one["id"] for one in server.tasks.values() if one["data"]["image"] == "3"]
    assert predictions(server) == [(task, VERSION)]
    assert progress.failures["not in the project"].count == 1


def test_tasks_are_made_for_pictures_that_the_project_does_not_have_and_only_once(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    rows = [row(None, "new/a.png"), row(None, "new/b.png"), row(None, "2")]

    uploaded(project, rows, make_tasks=True)
    uploaded(project, rows, make_tasks=True)

    assert len(server.tasks) == 7
    assert len(predictions(server)) == 3


def test_a_broken_connection_while_tasks_are_made_makes_none_twice(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    server.fail(only=r"POST /api/projects/\d+/import$", drop=True, done=True)

    uploaded(project, [row(None, "new/a.png"), row(None, "new/b.png")], make_tasks=True)

    assert len(server.tasks) == 7
    assert len(predictions(server)) == 2


def test_tasks_that_people_touched_are_left_alone(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    done, begun, free, *_ = sorted(server.tasks)
    server.annotate(done)
    server.draft(begun)

    progress = uploaded(project, of(server, [done, begun, free]))

    assert predictions(server) == [(free, VERSION)]
    assert (progress["annotated"], progress["drafted"]) == (1, 1)


def test_annotated_tasks_are_written_to_where_that_is_wished(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    done = min(server.tasks)
    server.annotate(done)

    uploaded(project, of(server, [done]), include_annotated=True)

    assert predictions(server) == [(done, VERSION)]


def test_failed_rows_and_tasks_that_are_gone_are_counted(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    failed = row(None, "x", result=None, kind="image broken", reason="too short")

    progress = uploaded(project, [*of(server, [min(server.tasks)]), failed, row(99_999)])

    assert progress["gone"] == 1
    assert progress.failures["image broken"].sentence == "too short"


def test_rows_of_two_versions_are_refused(project: StudioProject) -> None:
    with pytest.raises(BadRequest, match="upload one run at a time"):
        uploaded(project, [row(1), row(2, model_version="demo-cliper-00000000")])


def test_rows_without_any_prediction_are_refused(project: StudioProject) -> None:
    with pytest.raises(BadRequest, match="no prediction in these rows"):
        uploaded(project, [row(1, result=None, kind="x", reason="y")])


def test_rows_without_numbers_cannot_go_to_tasks_with_several_pictures(
    server: StudioServer,  # noqa: F811
    studio: object,  # noqa: F811
) -> None:
    config = brush_config(("red",)).replace('value="$image"', 'valueList="$image"')
    number = server.project(tasks=1, label_config=config)

    with pytest.raises(BadRequest, match="several pictures"):
        uploaded(StudioProject(studio, number), [row(None, "a")])  # type: ignore[arg-type]


def test_a_label_studio_that_stays_away_ends_the_upload_and_the_next_one_goes_on(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    rows = of(server, sorted(server.tasks))
    server.fail(times=100_000, only="import/predictions", status=503)
    with pytest.raises(StudioAway):
        uploaded(project, rows)
    server.faults.clear()

    uploaded(project, rows)

    assert len(predictions(server)) == 5


def test_a_number_that_is_another_picture_s_task_is_not_written_to(
    server: StudioServer,  # noqa: F811
    project: StudioProject,
) -> None:
    task = min(server.tasks)

    progress = uploaded(project, [row(task, data='{"image": "somebody else"}')])

    assert predictions(server) == []
    assert "has another picture" in progress.failures["not in the project"].sentence
