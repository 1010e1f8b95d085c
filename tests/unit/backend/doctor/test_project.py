"""What is said about the project, or about all of them."""

from backend.doctor.findings import FAIL, OK
from backend.doctor.project import project, projects

from ....doubles.json_server import JsonServer
from .conftest import MakeCase

MODEL = {
    "id": 5,
    "title": "CLIPer",
    "url": "http://user:secret@here:9090",
    "state": "CO",
    "readable_state": "Connected",
}


def test_a_project_and_its_models_are_remembered_in_order(make_case: MakeCase, studio: JsonServer):
    studio.routes["GET /api/ml"] = (200, [{**MODEL, "id": 7}, MODEL])
    case = make_case(project=None, connections=None)

    (finding,) = project(case)

    assert finding.state == OK
    assert finding.finding == "3 'Cats', tasks: 2"
    assert [one["id"] for one in case.connections or ()] == [5, 7]


def test_an_unknown_project_fails(make_case: MakeCase):
    case = make_case(project=None, question={"project": 77})

    (finding,) = project(case)

    assert finding.state == FAIL
    assert "no project 77" in finding.finding
    assert case.project is None


def test_a_project_one_may_not_read_is_not_called_missing(make_case: MakeCase, studio: JsonServer):
    studio.routes["GET /api/projects/3"] = (403, {"detail": "no permission"})

    (finding,) = project(make_case(project=None))

    assert "cannot be read (403): no permission" in finding.finding


def test_all_projects_are_listed_with_their_models_and_without_passwords(
    make_case: MakeCase, studio: JsonServer
):
    studio.routes["GET /api/ml"] = (200, [MODEL])

    (finding,) = projects(make_case(question={"project": None}))

    assert finding.lines == ("   3  Cats: CLIPer at http://here:9090 (Connected)",)
    assert "secret" not in f"{finding} {finding.to_json()}"


def test_no_projects_and_more_than_are_listed_are_told(make_case: MakeCase, studio: JsonServer):
    studio.routes["GET /api/projects/"] = (200, {"count": 0, "results": []})
    (none,) = projects(make_case())
    many = {"count": 500, "results": [{"id": 3, "title": "Cats"}]}
    studio.routes["GET /api/projects/"] = (200, many)
    (first,) = projects(make_case())

    assert none.finding == "0 to be seen with this token"
    assert first.finding.startswith("500 to be seen with this token, the first 30")
