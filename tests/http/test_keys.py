"""Who may ask what: the password, the token for our own endpoints, the secret address of events."""

import hmac

import pytest

from ..doubles.pictures import brush_config
from .conftest import Service, StartService

LOGIN = ("studio", "geheim-ä")
TOKEN = "t0ken-of-our-own-endpoints"
SECRET = "Secret_of-the-webhook-9"
FROM_AFAR = {"base_url": "http://cliper:9090", "environ_base": {"REMOTE_ADDR": "192.168.1.7"}}
EVENT = {"action": "PROJECT_UPDATED"}
KEY = {"label_studio_api_key": "0123456789abcdef0123456789abcdef01234567"}


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


def status(service: Service, route: str, **options) -> int:
    return service.client.get(route, **FROM_AFAR, **options).status_code


@pytest.mark.parametrize("login", [None, LOGIN])
def test_the_token_opens_our_own_endpoints_from_anywhere(start_service: StartService, login):
    service = start_service(api_token=TOKEN, basic_auth=login, **KEY)

    assert status(service, "/jobs", headers=bearer(TOKEN)) == 200
    assert status(service, "/versions", headers=bearer(TOKEN)) == 200
    for wrong in (
        bearer("t0ken-of-our-own-endpoint"),
        bearer(TOKEN + "x"),
        bearer(TOKEN.upper()),
        bearer("\xe4"),
        bearer(""),
        bearer(TOKEN, "Token"),
        bearer(TOKEN, "Basic"),
        {},
    ):
        assert status(service, "/jobs", headers=wrong) == 401


def test_the_token_is_asked_for_on_this_machine_too(start_service: StartService):
    service = start_service(api_token=TOKEN, **KEY)

    answer = service.client.get("/jobs")

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="cliper"'


def test_the_token_is_no_password_for_what_label_studio_asks(start_service: StartService):
    service = start_service(api_token=TOKEN, basic_auth=LOGIN)

    for route in ("/health", "/nowhere"):
        assert status(service, route, headers=bearer(TOKEN)) == 401
    assert service.client.post("/setup", json={}, headers=bearer(TOKEN)).status_code == 401
    assert status(service, "/versions", auth=LOGIN) == 200
    assert status(service, "/versions") == 401


def test_without_a_password_the_token_locks_nothing_that_label_studio_asks(
    start_service: StartService,
):
    service = start_service(api_token=TOKEN)

    assert status(service, "/versions") == 200
    assert status(service, "/health") == 200
    assert service.setup(brush_config()).status_code == 200


def test_the_password_opens_our_own_endpoints_as_well(start_service: StartService):
    service = start_service(api_token=TOKEN, basic_auth=LOGIN, **KEY)

    assert status(service, "/jobs", auth=LOGIN) == 200
    assert status(service, "/jobs", auth=("studio", TOKEN)) == 401


def test_without_any_key_jobs_are_for_this_machine(start_service: StartService):
    service = start_service(**KEY)

    assert service.client.get("/jobs").status_code == 200
    assert status(service, "/jobs") == 403
    assert status(service, "/jobs", headers=bearer(TOKEN)) == 403


def test_events_come_to_their_secret_address_only(start_service: StartService):
    service = start_service(webhook_secret=SECRET)
    taken: list[bytes] = []
    service.services.__dict__["intake"] = Taking(taken)

    for wrong in (
        "/webhook",
        "/webhook/",
        "/webhook/wrong",
        f"/webhook/{SECRET}x",
        f"/webhook/{SECRET[:-1]}",
        f"/webhook/{SECRET.lower()}",
        "/webhook/%C3%A4",
        "/webhook/%80",
        "/webhook//webhook",
        f"/webhook/wrong/{SECRET}",
        f"//webhook/{SECRET}",
    ):
        answer = service.client.post(wrong, json=EVENT)
        assert answer.status_code == 404, wrong
        assert list(answer.get_json()) == ["error"]
    assert taken == []

    for right in (f"/webhook/{SECRET}", f"/webhook/{SECRET}/", f"/webhook/{SECRET}/webhook"):
        assert service.client.post(right, json=EVENT).status_code == 200
    assert len(taken) == 3


class Taking:
    """Takes events into a list."""

    def __init__(self, taken: list[bytes]) -> None:
        self._taken = taken

    def __call__(self, event: bytes) -> None:
        self._taken.append(event)

    def close(self) -> None:
        return

    def facts(self) -> dict[str, object]:
        return {"trouble": None}


def test_a_header_does_not_say_that_the_secret_was_used(start_service: StartService):
    service = start_service(webhook_secret=SECRET)

    for name in ("Cliper.Secret-Address", "cliper.secret_address", "Script-Name"):
        answer = service.client.post("/webhook", json=EVENT, headers={name: "True"})
        assert answer.status_code == 404


def test_label_studio_finds_every_route_below_the_address_with_the_secret(
    start_service: StartService,
):
    service = start_service(webhook_secret=SECRET)
    below = f"/webhook/{SECRET}"

    assert service.client.get(f"{below}/health").status_code == 200
    assert service.client.get(f"{below}/versions").status_code == 200
    setup = service.client.post(f"{below}/setup", json={"schema": brush_config(), "project": "1.0"})
    assert setup.get_json() == service.setup(brush_config()).get_json()
    asked = {"tasks": [], "label_config": brush_config()}
    assert service.client.post(f"{below}/predict", json=asked).status_code == 200
    for action in ("START_TRAINING", "ANNOTATION_CREATED"):
        answer = service.client.post(f"{below}/webhook", json={"action": action})
        assert answer.status_code == 200


def test_the_secret_address_is_no_password(start_service: StartService):
    service = start_service(webhook_secret=SECRET, basic_auth=LOGIN)

    assert service.client.get(f"/webhook/{SECRET}/health").status_code == 401
    assert service.client.get(f"/webhook/{SECRET}/health", auth=LOGIN).status_code == 200
    assert service.client.post(f"/webhook/{SECRET}", json=EVENT).status_code == 200


def test_start_training_comes_with_the_password_and_that_will_do(start_service: StartService):
    service = start_service(webhook_secret=SECRET, basic_auth=LOGIN)
    body = {"action": "START_TRAINING"}

    assert service.client.post("/webhook", json=body, auth=LOGIN).status_code == 200
    assert service.client.post("/webhook", json=body, auth=("studio", "x")).status_code == 404
    assert service.client.post("/webhook", json=body, auth=("", "")).status_code == 404
    assert service.client.post("/webhook", json=body).status_code == 404


def test_without_a_secret_nothing_lies_below_webhook(service: Service):
    assert service.client.post("/webhook", json=EVENT).status_code == 200
    assert service.client.post("/webhook/anything", json=EVENT).status_code == 404


def test_every_key_is_compared_in_the_same_time(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
):
    """A comparison that stops at the first difference tells how much of a guess is right."""
    compared: list[bytes] = []
    genuine = hmac.compare_digest

    def watched(given: bytes, wanted: bytes) -> bool:
        compared.append(wanted)
        return genuine(given, wanted)

    monkeypatch.setattr("hmac.compare_digest", watched)
    service = start_service(api_token=TOKEN, basic_auth=LOGIN, webhook_secret=SECRET, **KEY)

    status(service, "/jobs", headers=bearer("wrong"))
    status(service, "/jobs", auth=("wrong", "wrong"))
    service.client.post("/webhook/wrong", json=EVENT)

    assert {TOKEN.encode(), SECRET.encode(), *(word.encode() for word in LOGIN)} == set(compared)


def test_no_value_of_ours_shows_a_key_when_printed(start_service: StartService):
    service = start_service(api_token=TOKEN, basic_auth=LOGIN, webhook_secret=SECRET, **KEY)

    printed = repr(service.services)

    for key in (TOKEN, SECRET, LOGIN[1], KEY["label_studio_api_key"]):
        assert key not in printed
