"""All checks in their order: who lacks a fact is skipped, and nothing unexpected gets through."""

from typing import Any

import pytest

from backend.demo.processes import free_port
from backend.doctor.case import Question
from backend.doctor.examine import WITH_PROJECT, checks, examine
from backend.doctor.findings import FAIL, SKIP, Finding

from ....doubles.json_server import JsonServer
from .conftest import MakeCase

WRITES = {"/api/ml", "/api/webhooks/"}  # asked so that nothing is stored


@pytest.fixture
def states(environ: dict[str, str], service: JsonServer):
    """Check -> states of its findings, for `states(project=..., ...)`."""

    def run(**question: Any) -> dict[str, list[str]]:
        asked = {"backend": service.url, "environ": environ, **question}
        found: dict[str, list[str]] = {}
        for finding in examine(Question(**asked)):
            found.setdefault(finding.check, []).append(finding.state)
        return found

    return run


def test_every_check_needs_only_what_an_earlier_one_gives():
    for question in (Question(environ={}), Question(environ={}, project=3)):
        given: set[str] = set()
        for check in checks(question):
            assert set(check.needs) <= given, check.name
            given |= set(check.gives)


def test_a_setting_that_cannot_be_read_is_named_and_all_else_skipped(
    states, environ: dict[str, str]
):
    environ["PORT"] = "many"

    found = states(project=3)

    assert found.pop("settings") == [FAIL]
    assert set(map(tuple, found.values())) == {(SKIP,)}


def test_an_unknown_profile_is_a_failure_of_the_settings(states, environ: dict[str, str]):
    environ["PROFILE"] = "enormous"

    assert states()["settings"] == [FAIL]


def test_without_label_studio_the_service_and_weights_are_still_looked_at(
    states, environ: dict[str, str]
):
    environ["LABEL_STUDIO_URL"] = f"http://localhost:{free_port()}"

    found = states(project=3)

    assert found["label-studio"] == [FAIL]
    assert found["service"] == ["ok"]
    assert found["weights"] == ["ok"]
    assert {found[check.name][0] for check in WITH_PROJECT} == {SKIP}


def test_a_skipped_check_names_the_one_that_failed(environ: dict[str, str]):
    environ["LABEL_STUDIO_API_KEY"] = "f" * 40

    found: list[Finding] = list(examine(Question(environ=environ, project=3)))

    (skipped,) = (one for one in found if one.check == "project")
    assert skipped.finding == "not looked at, see token"


def test_without_a_project_all_are_listed(states):
    assert states()["projects"] == ["ok"]
    assert "label-config" not in states()


def test_a_look_changes_nothing_in_label_studio(states, studio: JsonServer):
    found = states(project=3)

    assert FAIL not in {
        state for name, all_ in found.items() for state in all_ if name != "picture"
    }
    assert {one.path for one in studio.asked if one.method != "GET"} == WRITES


def test_an_answer_nobody_expected_is_a_finding_of_its_check(
    states, studio: JsonServer, make_case: MakeCase
):
    studio.routes["GET /api/webhooks/"] = (500, {"detail": "the database is gone"})

    assert states(project=3)["copies"] == [FAIL]
