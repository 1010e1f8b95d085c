"""What is said about Label Studio itself, the token, and the address it gives itself."""

from dataclasses import replace

import pytest

from backend.demo.processes import free_port
from backend.doctor import studio as checks
from backend.doctor.case import Case
from backend.doctor.findings import FAIL, OK, WARN, Finding

from ....doubles.json_server import JsonServer
from ....doubles.label_studio import LEGACY_TOKEN, PERSONAL_TOKEN
from .conftest import MakeCase


def with_settings(case: Case, **changes: object) -> Case:
    assert case.settings is not None
    case.settings = replace(case.settings, **changes)  # type: ignore[arg-type]
    return case


def only(found: object) -> Finding:
    (finding,) = found  # type: ignore[misc]
    return finding


# -- label-studio


def test_a_known_release_is_fine_and_remembered(make_case: MakeCase):
    case = make_case(release=None)

    finding = only(checks.label_studio(case))

    assert finding.state == OK
    assert case.release == "1.23.2"


def test_another_release_is_a_warning(make_case: MakeCase, studio: JsonServer):
    newer = {"release": "1.230.0", "label-studio-os-package": {}}
    studio.routes["GET /api/version"] = (200, newer)
    case = make_case(release=None)

    finding = only(checks.label_studio(case))

    assert finding.state == WARN
    assert "only 1.23 was tried" in finding.finding
    assert case.release == "1.230.0"


@pytest.mark.parametrize("answer", [(200, "<html>hello</html>"), (200, {"a": 1}), (404, {})])
def test_another_server_at_the_address_is_not_taken_for_it(
    make_case: MakeCase, studio: JsonServer, answer: tuple[int, object]
):
    studio.routes["GET /api/version"] = answer
    case = make_case(release=None)

    finding = only(checks.label_studio(case))

    assert finding.state == FAIL
    assert "it is not Label Studio" in finding.finding
    assert case.release is None


def test_a_wrong_port_is_refused_and_named(make_case: MakeCase):
    case = with_settings(make_case(), label_studio_url=f"http://localhost:{free_port()}")

    finding = only(checks.label_studio(case))

    assert (finding.state, finding.details["reason"]) == (FAIL, "refused")
    assert "port" in finding.mend


def test_in_a_container_localhost_is_explained(make_case: MakeCase):
    case = make_case(question={"in_container": True})
    with_settings(case, label_studio_url=f"http://localhost:{free_port()}")

    assert "this container itself" in only(checks.label_studio(case)).mend


def test_without_an_address_it_asks_for_one(make_case: MakeCase):
    case = with_settings(make_case(), label_studio_url=None)

    assert only(checks.label_studio(case)).finding == "LABEL_STUDIO_URL is not set"


# -- token


def test_a_legacy_token_is_accepted(make_case: MakeCase):
    case = make_case(api=None)

    finding = only(checks.token(case))

    assert finding.state == OK
    assert finding.finding == "legacy token, accepted as admin@example.com"
    assert case.api is not None


def test_a_personal_token_is_exchanged(make_case: MakeCase):
    case = with_settings(make_case(api=None), label_studio_api_key=PERSONAL_TOKEN)

    finding = only(checks.token(case))

    assert finding.state == OK
    assert finding.finding.startswith("personal access token, exchanged")


def test_a_personal_token_that_cannot_be_exchanged_fails(make_case: MakeCase):
    case = with_settings(make_case(api=None), label_studio_api_key="eyJh.eyJi.c2ln")

    finding = only(checks.token(case))

    assert finding.state == FAIL
    assert "cannot be exchanged" in finding.finding
    assert case.api is None


def test_a_wrong_token_fails_and_is_never_shown(make_case: MakeCase):
    case = with_settings(make_case(api=None), label_studio_api_key="f" * 40)

    finding = only(checks.token(case))

    assert finding.state == FAIL
    assert "Invalid token" in finding.finding
    assert "f" * 40 not in f"{finding} {finding.to_json()}"


def test_switched_off_legacy_tokens_are_told_apart_from_wrong_ones(
    make_case: MakeCase, studio: JsonServer
):
    said = (
        "Authentication token no longer valid: legacy token authentication has been disabled for "
        "this organization"
    )
    studio.routes["GET /api/current-user/whoami"] = (401, {"detail": said})

    finding = only(checks.token(make_case(api=None)))

    assert finding.state == FAIL
    assert "switched off in this organisation" in finding.finding


def test_no_token_is_a_failure(make_case: MakeCase):
    case = with_settings(make_case(api=None), label_studio_api_key=None)

    assert only(checks.token(case)).finding == "LABEL_STUDIO_API_KEY is not set"


def test_kinds_of_tokens_are_told_by_their_form():
    assert checks.kind_of(LEGACY_TOKEN) == "legacy token"
    assert checks.kind_of(PERSONAL_TOKEN) == "personal access token"
    assert checks.kind_of("my password") == "token of unknown form"


# -- address


def calls_itself(studio: JsonServer, address: str) -> None:
    page = f'<link href="{address}/static/css/main.css" rel="stylesheet"/>'
    studio.routes["GET /user/login/"] = (200, page)


def test_no_address_of_its_own_is_fine(make_case: MakeCase):
    finding = only(checks.address(make_case()))

    assert finding.state == OK
    assert finding.details["reported"] is None


def test_the_same_address_is_fine(make_case: MakeCase, studio: JsonServer):
    calls_itself(studio, studio.url)

    assert only(checks.address(make_case())).state == OK


@pytest.mark.parametrize("own", ["http://studio.example:8080", "{url}/sub-path"])
def test_another_address_is_one_sentence_of_warning(
    make_case: MakeCase, studio: JsonServer, own: str
):
    own = own.format(url=studio.url)
    calls_itself(studio, own)

    finding = only(checks.address(make_case()))

    assert finding.state == WARN
    assert own in finding.finding
    assert studio.url in finding.finding
    assert "container" not in finding.finding


def test_localhost_as_its_own_address_is_explained_in_a_container(
    make_case: MakeCase, studio: JsonServer
):
    calls_itself(studio, "http://localhost:1")
    case = make_case(question={"in_container": True})

    assert "localhost is this container itself" in only(checks.address(case)).finding
