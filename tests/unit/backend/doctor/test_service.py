"""What is said about the running service."""

from typing import Any

import pytest

from backend.demo.processes import free_port
from backend.doctor.findings import FAIL, OK, WARN
from backend.doctor.service import service as check

from ....doubles.json_server import Asked, JsonServer
from .conftest import MakeCase


def health(service: JsonServer, **changes: Any) -> None:
    _, told = service.routes["GET /health"]  # type: ignore[misc]
    service.routes["GET /health"] = (200, {**told, **changes})


def test_a_ready_service_says_profile_method_and_device(make_case: MakeCase):
    case = make_case(health=None)

    (finding,) = check(case)

    assert finding.state == OK
    assert "profile paintbox, method colours on cpu in float32, ready" in finding.finding
    assert case.health is not None


def test_fallbacks_and_other_models_are_listed(make_case: MakeCase, service: JsonServer):
    other = {"method": "proxyclip", "profile": None, "state": "failed"}
    health(
        service,
        fallbacks=["half precision is off"],
        other_models=[other],
        large_pictures="in tiles above 4 MP",
    )

    first, second = check(make_case(health=None))

    assert first.lines == (
        "large pictures are seen in tiles above 4 MP",
        "note: half precision is off",
        "also in memory: proxyclip (failed)",
    )
    assert (second.state, second.finding) == (WARN, "the other model proxyclip could not be loaded")


def test_a_device_that_is_out_while_another_works_is_a_warning(
    make_case: MakeCase, service: JsonServer
):
    devices = [
        {"name": "cuda:0", "state": "ready", "reason": None},
        {"name": "cuda:1", "state": "lost", "reason": "the device is lost (X)"},
        {"name": "cuda:2", "state": "loading", "reason": None},
    ]
    health(service, devices=devices)

    first, second = check(make_case(health=None))

    assert first.state == OK
    assert second.state == WARN
    assert second.finding == "the device cuda:1 does nothing: the device is lost (X)"


@pytest.mark.parametrize("state", ["loading", "downloading"])
def test_a_model_on_its_way_is_a_warning(make_case: MakeCase, service: JsonServer, state: str):
    health(service, model={"state": state, "progress": 43, "reason": None})

    (finding,) = check(make_case(health=None))

    assert finding.state == WARN
    assert f"{state} (43 %)" in finding.finding


def test_a_model_that_failed_says_why(make_case: MakeCase, service: JsonServer):
    health(service, model={"state": "failed", "progress": 0, "reason": "weights are missing"})

    (finding,) = check(make_case(health=None))

    assert finding.state == FAIL
    assert "weights are missing" in finding.finding


def test_nobody_at_the_address_fails(make_case: MakeCase):
    case = make_case(health=None, question={"backend": f"http://localhost:{free_port()}"})

    (finding,) = check(case)

    assert (finding.state, finding.details["reason"]) == (FAIL, "refused")
    assert "cliper serve" in finding.mend
    assert case.health is None


@pytest.mark.parametrize("answer", [(200, "<html>"), (200, {"status": "UP"}), (500, {}), (200, [])])
def test_another_program_at_the_address_is_not_taken_for_it(
    make_case: MakeCase, service: JsonServer, answer: tuple[int, object]
):
    service.routes["GET /health"] = answer
    case = make_case(health=None)

    (finding,) = check(case)

    assert "it is not this service" in finding.finding
    assert case.health is None


def test_a_wanted_password_is_named(make_case: MakeCase, service: JsonServer):
    service.routes["GET /health"] = (401, "who are you")

    (finding,) = check(make_case(health=None))

    assert "BASIC_AUTH_USER" in finding.mend


def test_the_password_set_here_is_sent(
    make_case: MakeCase, service: JsonServer, environ: dict[str, str]
):
    environ |= {"BASIC_AUTH_USER": "a", "BASIC_AUTH_PASS": "b"}
    given: list[Asked] = service.asked

    list(check(make_case(health=None)))

    assert given[0].authorization == "Basic YTpi"


def test_the_adapter_on_the_sdk_s_server_is_known_too(make_case: MakeCase, service: JsonServer):
    service.routes["GET /health"] = (200, {"status": "UP", "model_class": "CliperBackend"})

    (finding,) = check(make_case(health=None))

    assert finding.state == OK
    assert "backend SDK" in finding.finding


def test_without_an_address_the_port_of_this_machine_is_asked(
    make_case: MakeCase, environ: dict[str, str]
):
    environ["PORT"] = "9999"

    assert make_case(question={"backend": None}).backend == "http://localhost:9999"
