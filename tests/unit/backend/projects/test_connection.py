"""What is said of a Label Studio that answers, or does not, and what to do about it."""

import pytest

from backend.errors import StudioAway, StudioError, StudioRefused
from backend.projects import connection

from ....doubles.studio_server import StudioServer
from ..studio.conftest import MakeStudio, make_studio, moments, server  # noqa: F401

URL = "http://ls.example"


def test_who_answers_is_told(server: StudioServer, make_studio: MakeStudio):  # noqa: F811
    found = connection.look(make_studio())

    assert (found.answers, found.url, found.release, found.user) == (
        True,
        server.url,
        "1.23.2",
        "admin@example.com",
    )


def test_that_somebody_answers_is_told_also_where_the_token_is_refused(
    server: StudioServer,  # noqa: F811
    make_studio: MakeStudio,  # noqa: F811
):
    server.fail(only="whoami", status=401, body=b'{"detail": "Invalid token."}')

    found = connection.look(make_studio())

    assert (found.answers, found.release, found.user) == (False, "1.23.2", None)
    assert found.remedy == connection.NEW_TOKEN


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (StudioRefused("GET /x", 401, "Invalid token."), connection.NEW_TOKEN),
        (StudioRefused("GET /x", 403, "no"), connection.NEW_TOKEN),
        (StudioRefused("GET /x", 404, "the answer is no JSON"), connection.OTHER_ADDRESS),
        (StudioAway("does not answer (not in time)"), connection.NO_ANSWER),
        (StudioAway("(its certificate is not trusted)"), connection.NO_TRUST),
    ],
)
def test_for_every_trouble_there_is_something_to_do(error: StudioError, remedy: str):
    found = connection.trouble(URL, error)

    assert (found.answers, found.trouble, found.remedy) == (False, str(error), remedy)


def test_an_address_is_shown_without_what_is_secret_in_it():
    missing = ("LABEL_STUDIO_API_KEY",)

    found = connection.not_set_up(missing, url="http://me:geheim@ls.example?token=geheim")

    assert found.url == URL
    assert found.to_json()["missing"] == ["LABEL_STUDIO_API_KEY"]
