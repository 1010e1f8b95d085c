"""What is said about stored models, copies of them, and what Label Studio may call."""

from typing import Any

import pytest

from backend.demo.processes import free_port
from backend.doctor.connections import connections, copies, server_settings
from backend.doctor.findings import FAIL, OK, SKIP, WARN

from ....doubles.json_server import Asked, JsonServer
from .conftest import MakeCase

BLOCKED = "URL resolves to a reserved network address (block: 127.0.0.0/8)"


def model(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": 5,
        "title": "CLIPer",
        "url": url,
        "state": "CO",
        "readable_state": "Connected",
        "error_message": None,
        "is_interactive": False,
        **changes,
    }


def broken(url: str, said: str) -> dict[str, Any]:
    return model(url, state="ER", readable_state="Error", error_message=said)


# -- connections

SECRET = {"WEBHOOK_SECRET": "Secret_of-the-webhook-9"}


def test_with_a_secret_the_address_to_enter_names_its_setting(
    make_case: MakeCase, environ: dict[str, str]
):
    environ |= SECRET
    case = make_case()

    (finding,) = connections(case)

    assert f"{case.backend}/webhook/WEBHOOK_SECRET;" in finding.mend
    assert SECRET["WEBHOOK_SECRET"] not in str(finding)


def test_a_model_whose_address_lacks_the_secret_gets_no_events(
    make_case: MakeCase, environ: dict[str, str], service: JsonServer
):
    environ |= SECRET
    right = f"{service.url}/webhook/{SECRET['WEBHOOK_SECRET']}"

    fine = list(connections(make_case(connections=[model(right)])))
    other = list(connections(make_case(connections=[model("http://other.example:9090")])))
    lost = list(connections(make_case(connections=[model(service.url)])))

    assert [one.state for one in (*fine, *other)] == [OK, OK]
    assert [one.state for one in lost] == [OK, WARN]
    assert "gets no events: WEBHOOK_SECRET is set" in lost[1].finding
    assert SECRET["WEBHOOK_SECRET"] not in str(lost[1])


def test_no_model_at_all_is_a_warning_with_the_way_to_connect_one(make_case: MakeCase):
    case = make_case()

    (finding,) = connections(case)

    assert finding.state == WARN
    assert case.backend in finding.mend


def test_a_connected_model_is_fine(make_case: MakeCase, service: JsonServer):
    (finding,) = connections(make_case(connections=[model(service.url)]))

    assert finding.state == OK


def test_a_dead_address_is_dead_from_here_too(make_case: MakeCase):
    dead = f"http://localhost:{free_port()}"

    (finding,) = connections(make_case(connections=[broken(dead, "Connection refused")]))

    assert finding.state == FAIL
    assert "from here too nobody answers" in finding.finding
    assert finding.details["url"] == dead


def test_an_address_that_answers_only_here_points_to_the_table(
    make_case: MakeCase, service: JsonServer
):
    (finding,) = connections(make_case(connections=[broken(service.url, "no route")]))

    assert finding.state == FAIL
    assert "though it answers from here" in finding.finding
    assert "as seen from Label Studio" in finding.mend


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        (BLOCKED, "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false"),
        ("authentication parameters were either not provided", "BASIC_AUTH_USER"),
    ],
)
def test_known_messages_of_label_studio_have_their_remedy(
    make_case: MakeCase, service: JsonServer, said: str, mend: str
):
    (finding,) = connections(make_case(connections=[broken(service.url, said)]))

    assert finding.state == FAIL
    assert mend in finding.mend


def test_a_refused_config_or_a_dead_service_is_not_told_twice(
    make_case: MakeCase, service: JsonServer
):
    refused = broken(service.url, "422 Client Error: Config has no BrushLabels tag")
    of_config = make_case(connections=[refused], failed={"label-config"})
    of_service = make_case(connections=[broken(service.url, "refused")], failed={"service"})

    assert [one.state for one in connections(of_config)] == [SKIP]
    assert [one.state for one in connections(of_service)] == [SKIP]


# -- copies


def test_one_model_and_its_webhook_are_clean(
    make_case: MakeCase, studio: JsonServer, service: JsonServer
):
    hook = {"id": 1, "url": f"{service.url}/webhook", "is_active": True}
    studio.routes["GET /api/webhooks/"] = (200, [hook])

    (finding,) = copies(make_case(connections=[model(f"{service.url}/")]))

    assert finding.state == OK


def test_two_models_with_one_address_are_copies(make_case: MakeCase, service: JsonServer):
    both = [model(service.url), model(f"{service.url}/", id=6)]

    (finding,) = copies(make_case(connections=both))

    assert finding.state == WARN
    assert finding.details["ids"] == [5, 6]


def test_of_two_different_models_the_first_is_named(make_case: MakeCase):
    both = [model("http://a", title="First"), model("http://b", id=6)]

    (finding,) = copies(make_case(connections=both))

    assert finding.state == WARN
    assert "'First'" in finding.finding


def test_webhooks_of_deleted_models_are_found_and_others_left_alone(
    make_case: MakeCase, studio: JsonServer
):
    studio.routes["GET /api/webhooks/"] = (
        200,
        [
            {"id": 1, "url": "http://gone:9090/webhook", "is_active": True},
            {"id": 2, "url": "http://off:9090/webhook", "is_active": False},
            {"id": 3, "url": "http://chat.example/events", "is_active": True},
        ],
    )

    (finding,) = copies(make_case())

    assert finding.state == WARN
    assert finding.details["webhook"] == 1
    assert studio.asked[-1].query == {"project": "3"}


# -- server settings


def test_where_both_are_allowed_nothing_is_to_do(make_case: MakeCase):
    (finding,) = server_settings(make_case())

    assert finding.state == OK


def test_blocked_calls_fail_with_both_settings(make_case: MakeCase, studio: JsonServer):
    studio.routes["POST /api/ml"] = (403, {"detail": BLOCKED})
    studio.routes["POST /api/webhooks/"] = (403, {"detail": BLOCKED})

    (finding,) = server_settings(make_case())

    assert finding.state == FAIL
    assert "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false" in finding.mend
    assert "LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false" in finding.mend


def test_blocked_events_alone_are_a_warning(make_case: MakeCase, studio: JsonServer):
    studio.routes["POST /api/webhooks/"] = (403, {"detail": BLOCKED})

    (finding,) = server_settings(make_case())

    assert finding.state == WARN
    assert "ML_BLOCK" not in finding.mend


def test_an_answer_nobody_knows_is_no_verdict(make_case: MakeCase, studio: JsonServer):
    studio.routes["POST /api/ml"] = (403, {"detail": "You do not have permission"})

    (finding,) = server_settings(make_case())

    assert finding.state == SKIP


def test_the_questions_can_store_nothing(make_case: MakeCase, studio: JsonServer):
    """A model without a project and an event that does not exist are refused in any case."""
    list(server_settings(make_case(connections=[model("http://cliper:9090")])))

    asked: list[Asked] = [one for one in studio.asked if one.method == "POST"]
    assert [one.body for one in asked] == [
        {"url": "http://cliper:9090"},
        {"url": "http://cliper:9090", "actions": ["NOT_AN_ACTION"]},
    ]
