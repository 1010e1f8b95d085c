"""Which step fails when the picture of a task cannot be had."""

import base64
from typing import Any

import pytest

from backend.doctor.config import label_config
from backend.doctor.findings import FAIL, OK, SKIP, Finding
from backend.doctor.picture import picture as check
from backend.settings import Settings

from ....doubles.json_server import Asked, JsonServer
from ....doubles.pictures import striped_png
from .conftest import MakeCase

PICTURE = f"data:image/png;base64,{base64.b64encode(striped_png('red', 'blue')).decode()}"


@pytest.fixture
def examined(make_case: MakeCase, studio: JsonServer):
    """`examined(data)`: what is said about one task with this data."""

    def look(data: dict[str, Any]) -> Finding:
        studio.routes["GET /api/tasks"] = (200, {"total": 1, "tasks": [{"id": 8, "data": data}]})
        case = make_case()
        list(label_config(case))
        (finding,) = check(case)
        return finding

    return look


def test_a_good_picture_tells_its_size(examined):
    finding = examined({"image": PICTURE})

    assert finding.state == OK
    assert "task 8: 8 x 6 pixels" in finding.finding
    assert PICTURE not in finding.finding


def status(studio: JsonServer, code: int) -> None:
    studio.routes["GET /data/upload/3/a.png"] = (code, "nothing but a page")


def test_data_without_the_key_of_the_config_is_the_step_key(examined):
    finding = examined({"picture": PICTURE})

    assert (finding.state, finding.details["step"]) == (FAIL, "key")
    assert "'picture'" in finding.finding


@pytest.mark.parametrize(
    ("address", "step"),
    [
        ("http://127.0.0.1:1/a.png", "address"),
        ("ftp://here/a.png", "address"),
        ("data:image/png;base64,AAAA", "decode"),
    ],
)
def test_steps_that_need_no_server(examined, address: str, step: str):
    finding = examined({"image": address})

    assert (finding.state, finding.details["step"]) == (FAIL, step)


@pytest.mark.parametrize(
    ("code", "step"), [(404, "file"), (401, "token"), (500, "status"), (200, "decode")]
)
def test_steps_of_an_upload_in_label_studio(examined, studio: JsonServer, code: int, step: str):
    status(studio, code)

    finding = examined({"image": "/data/upload/3/a.png"})

    assert (finding.state, finding.details["step"]) == (FAIL, step)
    assert finding.mend


def test_an_upload_without_an_address_of_label_studio_is_the_step_reach(make_case: MakeCase):
    case = make_case(settings=Settings(profile="demo"))
    list(label_config(case))

    (finding,) = check(case)

    assert (finding.state, finding.details["step"]) == (FAIL, "reach")
    assert "LABEL_STUDIO_URL" in finding.finding


def test_a_project_without_tasks_is_skipped(make_case: MakeCase, studio: JsonServer):
    studio.routes["GET /api/tasks"] = (200, {"total": 0, "tasks": []})
    case = make_case()
    list(label_config(case))

    (finding,) = check(case)

    assert finding.state == SKIP


def test_the_task_asked_for_is_the_one_looked_at(make_case: MakeCase, studio: JsonServer):
    case = make_case(question={"task": 9})
    list(label_config(case))
    (found,) = check(case)
    other = make_case(question={"task": 77})
    list(label_config(other))
    (missing,) = check(other)

    assert found.details["task"] == 9
    assert missing.state == FAIL
    assert "no task 77" in missing.finding
    asked: list[Asked] = [one for one in studio.asked if one.path == "/api/tasks"]
    assert all(one.query["resolve_uri"] == "false" for one in asked)
