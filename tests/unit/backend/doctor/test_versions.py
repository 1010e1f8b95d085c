"""What is said about versions, predictions and the score column; what --fix changes."""

import json
from typing import Any

import pytest

from backend.doctor.case import Case, Counts
from backend.doctor.findings import FAIL, OK, SKIP, WARN
from backend.doctor.versions import predictions, score_column, version

from ....doubles.json_server import VERSION, Answer, Asked, JsonServer
from .conftest import MakeCase

# -- version


def test_the_service_is_asked_as_label_studio_asks_but_for_no_project(
    make_case: MakeCase, service: JsonServer
):
    """Without its number the service keeps nothing of what doctor tells it."""
    case = make_case(connections=[{"id": 1, "extra_params": '{"model_smooth": 1}'}])

    (finding,) = version(case)

    assert (finding.state, case.version) == (OK, VERSION)
    (body,) = service.bodies("POST /setup")
    assert body["extra_params"] == {"model_smooth": 1}
    assert body.keys() == {"schema", "extra_params"}


def test_a_model_on_its_way_is_a_warning_and_a_refused_config_fails(
    make_case: MakeCase, service: JsonServer
):
    service.routes["POST /setup"] = (503, {"error": "Model is loading (43 %)"})
    loading = make_case()
    (waiting,) = version(loading)
    service.routes["POST /setup"] = (422, {"error": "a word nobody knows"})
    refused = make_case()
    (failed,) = version(refused)

    assert (waiting.state, loading.version) == (WARN, None)
    assert "43 %" in waiting.finding
    assert (failed.state, refused.version) == (FAIL, None)
    assert "a word nobody knows" in failed.finding


def test_a_model_that_failed_is_not_told_twice(make_case: MakeCase, service: JsonServer):
    service.routes["POST /setup"] = (503, {"error": "Model could not be loaded: no weights"})

    (finding,) = version(make_case(failed={"service"}))

    assert (finding.state, finding.finding) == (SKIP, "there is no model, see service")


# -- predictions


def counted(studio: JsonServer, tasks: int, predicted: int, present: int) -> None:
    def answer(asked: Asked) -> Answer:
        rules = json.loads(asked.query["query"])["filters"]["items"]
        columns = [one["filter"] for one in rules]
        if not columns:
            return 200, {"total": tasks, "tasks": []}
        if columns == ["filter:tasks:total_predictions"]:
            return 200, {"total": predicted, "tasks": []}
        assert rules[0]["value"] == [VERSION]
        return 200, {"total": present, "tasks": []}

    studio.routes["GET /api/tasks"] = answer


@pytest.mark.parametrize(
    ("counts", "state", "words"),
    [
        ((8, 8, 8), OK, "all 8 tasks"),
        ((8, 3, 3), OK, "3 of 8 tasks have one of paintbox-colours-1a2b3c4d, the others none"),
        ((8, 0, 0), OK, "0 of 8 tasks"),
        ((0, 0, 0), OK, "all 0 tasks"),
        ((8, 7, 3), WARN, "3 of 8 tasks have one of paintbox-colours-1a2b3c4d, 4 only older ones"),
    ],
)
def test_present_and_older_predictions_are_counted(
    make_case: MakeCase,
    studio: JsonServer,
    counts: tuple[int, int, int],
    state: str,
    words: str,
):
    counted(studio, *counts)
    case = make_case(version=VERSION)

    (finding,) = predictions(case)

    assert finding.state == state
    assert words in finding.finding
    assert case.counts == Counts(tasks=counts[0], predicted=counts[1], present=counts[2])


# -- score column


def scored(make_case: MakeCase, named: str, *, present: int = 2, **question: Any) -> Case:
    return make_case(
        project={"id": 3, "model_version": named},
        version=VERSION,
        counts=Counts(tasks=2, present=present, predicted=2),
        question=question,
    )


def test_the_same_version_needs_nothing(make_case: MakeCase):
    (finding,) = score_column(scored(make_case, VERSION))

    assert finding.state == OK


@pytest.mark.parametrize("named", ["CLIPer", ""])
def test_a_title_in_its_place_is_a_warning_and_changes_nothing(
    make_case: MakeCase, studio: JsonServer, named: str
):
    (finding,) = score_column(scored(make_case, named))

    assert finding.state == WARN
    assert "--fix" in finding.mend
    assert studio.bodies("PATCH /api/projects/3/") == []


def test_fix_sets_the_version_and_says_what_it_did(make_case: MakeCase, studio: JsonServer):
    (finding,) = score_column(scored(make_case, "CLIPer", fix=True))

    assert finding.state == OK
    assert "from 'CLIPer' to 'paintbox-colours-1a2b3c4d'" in finding.finding
    assert studio.bodies("PATCH /api/projects/3/") == [{"model_version": VERSION}]


def test_a_fix_that_label_studio_refuses_fails(make_case: MakeCase, studio: JsonServer):
    studio.routes["PATCH /api/projects/3/"] = (
        400,
        {"validation_errors": {"model_version": ["no"]}},
    )

    (finding,) = score_column(scored(make_case, "CLIPer", fix=True))

    assert finding.state == FAIL
    assert "model_version: no" in finding.finding


def test_without_a_prediction_there_is_no_score_to_miss_and_nothing_to_fix(
    make_case: MakeCase, studio: JsonServer
):
    (finding,) = score_column(scored(make_case, "CLIPer", present=0, fix=True))

    assert finding.state == OK
    assert studio.bodies("PATCH /api/projects/3/") == []
