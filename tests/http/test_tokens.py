"""Getting pictures out of Label Studio with either kind of token; one sentence when not."""

import logging

import pytest

from ..doubles.label_studio import LEGACY_TOKEN, PERSONAL_TOKEN, FileServer, file_server
from ..doubles.pictures import brush_config, striped_png
from .conftest import StartService

CONFIG = brush_config(["red"])
DATA = {"image": "/data/upload/1/a.png"}


def entry_of(service, data=None):
    return service.predict(CONFIG, data or DATA).get_json()["results"][0]


@pytest.mark.parametrize("token", [LEGACY_TOKEN, PERSONAL_TOKEN])
def test_both_kinds_of_token_open_the_door(
    start_service: StartService, files: FileServer, token: str
):
    files.guarded = True
    files.put("/data/upload/1/a.png", striped_png("red"))

    entry = entry_of(start_service(label_studio_api_key=token))

    assert len(entry["result"]) == 1


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, "Label Studio at {url} asks for a token (401); set LABEL_STUDIO_API_KEY"),
        ("f" * 40, "Label Studio at {url} refused the token (401); check LABEL_STUDIO_API_KEY"),
        (
            "eyJa.eyJi.c2ln",
            "Label Studio at {url} refused the token (401); check LABEL_STUDIO_API_KEY",
        ),
    ],
)
def test_a_wrong_token_is_said_once_in_the_log_and_in_the_entry(
    start_service: StartService,
    files: FileServer,
    caplog: pytest.LogCaptureFixture,
    token: str | None,
    sentence: str,
):
    files.guarded = True
    service = start_service(label_studio_api_key=token)

    with caplog.at_level(logging.WARNING, "backend"):
        entry = entry_of(service)

    expected = sentence.format(url=files.url)
    assert entry == {"error": expected}
    assert caplog.messages == [f"task 1 not predicted: {expected}"]
    if token:
        assert token not in caplog.text


def test_an_unreachable_label_studio_is_said_in_one_sentence(start_service: StartService):
    with file_server() as gone:
        url = gone.url
    service = start_service(label_studio_url=url, label_studio_api_key=LEGACY_TOKEN)

    assert entry_of(service) == {
        "error": f"Label Studio does not answer, check LABEL_STUDIO_URL: {url} cannot be reached: "
        "connection refused"
    }


def test_without_an_address_of_label_studio_uploads_cannot_be_found(start_service: StartService):
    service = start_service(label_studio_url=None)

    assert entry_of(service)["error"] == (
        "'/data/upload/1/a.png' lies in Label Studio; set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
    )


def test_the_host_name_of_a_setup_request_is_never_visited(
    start_service: StartService, files: FileServer
):
    with file_server() as impostor:
        service = start_service(label_studio_api_key=LEGACY_TOKEN)
        body = {"schema": CONFIG, "hostname": impostor.url, "access_token": "f" * 40}

        assert service.client.post("/setup", json=body).status_code == 200
        files.put("/data/upload/1/a.png", striped_png("red"))
        assert entry_of(service)["result"]

        assert impostor.asked == []
