"""Requests that outlast restarts, limits and tokens; and those that must not be sent twice."""

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from backend.errors import StudioAway, StudioRefused, StudioUncertain
from backend.studio.client import MOST_ERRORS_500, Studio

from ....doubles.label_studio import LEGACY_TOKEN, PERSONAL_TOKEN
from ....doubles.moments import Moments
from ....doubles.studio_server import StudioServer
from .conftest import MakeStudio

HEALTHY = "/api/projects/1"
POST = "/api/projects/1/import"


@pytest.fixture(autouse=True)
def one_project(server: StudioServer) -> int:
    number = server.project()
    assert number == 1
    return number


# -- tokens -----------------------------------------------------------------------------------


def test_a_legacy_token_is_sent_as_it_is(server: StudioServer, studio: Studio):
    studio.get(HEALTHY)

    assert [one.authorization for one in server.calls] == [f"Token {LEGACY_TOKEN}"]


def test_a_personal_token_is_exchanged_once_for_many_requests(
    server: StudioServer, make_studio: MakeStudio
):
    studio = make_studio(PERSONAL_TOKEN)

    studio.get(HEALTHY)
    studio.get(HEALTHY)

    assert [one.path for one in server.calls] == ["/api/token/refresh", HEALTHY, HEALTHY]
    assert server.calls[-1].authorization == "Bearer access-1"


def test_an_access_token_that_ran_out_is_renewed_in_the_middle(
    server: StudioServer, make_studio: MakeStudio
):
    studio = make_studio(PERSONAL_TOKEN)
    studio.get(HEALTHY)
    server.exchanges += 1  # the first one is accepted no longer

    assert studio.get(HEALTHY)["id"] == 1
    assert studio.post(POST, json=[]) == {"task_count": 0}
    assert server.calls[-1].authorization == "Bearer access-3"


@pytest.mark.parametrize("token", ["0" * 40, PERSONAL_TOKEN + "x"])
def test_a_token_that_is_not_accepted_ends_it_at_once(
    make_studio: MakeStudio, moments: Moments, token: str
):
    with pytest.raises(StudioRefused) as caught:
        make_studio(token).get(HEALTHY)

    assert caught.value.status == 401
    assert moments.paused == []


@pytest.mark.parametrize("fault", [{"status": 502}, {"drop": True}, {"half": True}])
def test_a_token_that_cannot_be_exchanged_now_is_exchanged_later(
    server: StudioServer, make_studio: MakeStudio, fault: dict
):
    server.fail(times=2, only="token/refresh", **fault)
    studio = make_studio(PERSONAL_TOKEN)

    assert studio.post(POST, json=[]) == {"task_count": 0}, "nothing was sent, so nothing is unsure"
    assert len(server.asked("POST /api/projects/1/import")) == 1


def test_an_exchange_that_gives_no_token_says_so(server: StudioServer, make_studio: MakeStudio):
    server.fail(only="token/refresh", status=200, body=b"<html>welcome</html>")

    with pytest.raises(StudioRefused, match="no JSON: is this the address of Label Studio"):
        make_studio(PERSONAL_TOKEN).get(HEALTHY)


# -- patience ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 408},
        {"status": 429},
        {"status": 500},
        {"status": 502},
        {"status": 503},
        {"status": 504},
        {"drop": True},
        {"drop": True, "done": True},
        {"half": True},
    ],
)
def test_what_may_be_sent_twice_is_sent_until_an_answer_comes(
    server: StudioServer, studio: Studio, fault: dict
):
    server.fail(times=3, **fault)

    assert studio.get(HEALTHY)["id"] == 1
    assert studio.waits_for is None


def test_a_restart_is_waited_for_and_said_once(
    server: StudioServer, studio: Studio, moments: Moments, caplog: pytest.LogCaptureFixture
):
    server.down()

    def back_after_a_minute(seconds: float) -> None:
        assert studio.waits_for == (
            "Label Studio, which does not answer (connection refused or lost)"
        )
        if sum(moments.paused) > 60:
            server.up()
            moments.on_pause = lambda seconds: None

    moments.on_pause = back_after_a_minute
    with caplog.at_level(logging.INFO, logger="backend.studio.client"):
        assert studio.post(POST, json=[{}]) == {"task_count": 1}

    first, second = (record.message for record in caplog.records)
    assert first.endswith("does not answer (connection refused or lost); waiting for it")
    assert second.endswith("answers again")
    assert len(server.tasks) == 1, "what surely did not arrive is sent again"


def test_pauses_double_up_to_a_longest_one(
    server: StudioServer, make_studio: MakeStudio, moments: Moments
):
    server.fail(times=6, status=502)

    make_studio(first=1.0, most=5.0).get(HEALTHY)

    assert moments.paused == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_patience_ends(server: StudioServer, make_studio: MakeStudio, moments: Moments):
    server.fail(times=10**6, status=502)

    with pytest.raises(StudioAway, match=r"answered HTTP 502 to GET /api/projects/1$"):
        make_studio(total=100.0).get(f"{HEALTHY}?a=secret")

    assert sum(moments.paused) == pytest.approx(100.0)


def test_whatever_the_pause_raises_ends_the_waiting(
    server: StudioServer, studio: Studio, moments: Moments
):
    class Stopped(BaseException):
        pass

    def stop(seconds: float) -> None:
        raise Stopped

    server.down()
    moments.on_pause = stop

    with pytest.raises(Stopped):
        studio.get(HEALTHY)
    server.up()


@pytest.mark.parametrize(
    ("given", "waited"),
    [
        ("7", 7.0),
        ("0", 0.5),
        ("99999", 600.0),
        ("9" * 400, 600.0),
        ("²", 0.5),
        ("-3", 0.5),
        ("soon", 0.5),
        ("", 0.5),
        ("Mon, 01 Jan 0001 00:00:00 -0000", 0.5),
    ],
)
def test_a_server_that_says_how_long_is_obeyed_within_bounds(
    server: StudioServer, studio: Studio, moments: Moments, given: str, waited: float
):
    server.fail(status=429, headers={"Retry-After": given})

    studio.get(HEALTHY)

    assert moments.paused == [waited]


def test_retry_after_may_be_a_date(server: StudioServer, studio: Studio, moments: Moments):
    later = datetime.now(UTC) + timedelta(hours=5)
    server.fail(status=503, headers={"Retry-After": format_datetime(later, usegmt=True)})

    studio.get(HEALTHY)

    assert moments.paused == [600.0]


def test_an_error_of_the_server_s_own_is_believed_after_a_few_times(
    server: StudioServer, studio: Studio, moments: Moments
):
    server.fail(times=10**6, status=500, body=b'{"detail": "Cannot resolve keyword"}')

    with pytest.raises(StudioRefused, match="with 500: Cannot resolve keyword"):
        studio.get(HEALTHY)

    assert len(moments.paused) == MOST_ERRORS_500 - 1


def test_a_database_that_is_locked_for_a_moment_is_asked_again(
    server: StudioServer, studio: Studio
):
    server.fail(times=MOST_ERRORS_500 - 1, status=500, body=b'{"detail": "database is locked"}')

    assert studio.get(HEALTHY)["id"] == 1


def test_an_address_that_is_none_ends_it_at_once(make_studio: MakeStudio, moments: Moments):
    with pytest.raises(StudioAway, match="is no server"):
        make_studio(url="no-scheme").get(HEALTHY)

    assert moments.paused == []


# -- what must not arrive twice ---------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_a_post_that_was_turned_away_is_sent_again(
    server: StudioServer, studio: Studio, status: int
):
    server.fail(times=2, only="POST", status=status)

    studio.post(POST, json=[{}])

    assert len(server.tasks) == 1


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("fault", [{"status": 502}, {"status": 500}, {"drop": True}])
def test_a_post_that_broke_is_uncertain_and_not_sent_again(
    server: StudioServer, studio: Studio, moments: Moments, fault: dict, done: bool
):
    server.fail(only="POST", done=done, **fault)

    with pytest.raises(StudioUncertain, match=r"to POST /api/projects/1/import$"):
        studio.post(POST, json=[{}])

    assert len(server.tasks) == done
    assert moments.paused == []


def test_a_post_whose_answer_ends_in_the_middle_is_uncertain(server: StudioServer, studio: Studio):
    server.fail(only="POST", half=True)

    with pytest.raises(StudioUncertain):
        studio.post(POST, json=[{}])

    assert len(server.tasks) == 1


def test_a_post_that_may_arrive_twice_is_sent_until_an_answer_comes(
    server: StudioServer, studio: Studio
):
    server.fail(times=2, only="POST", drop=True, done=True)

    studio.post(POST, again=True, json=[{}])

    assert len(server.tasks) == 3


def test_what_is_gone_counts_as_deleted(server: StudioServer, studio: Studio):
    (task,) = server.add(1, {})
    number = server.predict(task, "v")
    server.fail(only="DELETE", drop=True, done=True)

    assert studio.delete(f"/api/predictions/{number}/") is None
    assert server.predictions == {}


def test_other_refusals_of_a_deletion_are_said(server: StudioServer, studio: Studio):
    server.fail(only="DELETE", status=403, body=b'{"detail": "not yours"}')

    with pytest.raises(StudioRefused, match="with 403: not yours"):
        studio.delete("/api/predictions/1/")


@pytest.mark.parametrize("method", ["post", "delete"])
def test_a_write_is_not_carried_to_another_address(
    server: StudioServer, studio: Studio, method: str
):
    server.fail(only="POST|DELETE", status=301, headers={"Location": "https://studio.example/x"})

    with pytest.raises(StudioRefused, match=r"it is at https://studio\.example.*; give that URL"):
        getattr(studio, method)(POST)


# -- messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<html><h1>Error</h1><pre>Traceback", "no reason given"),
        (b"plain words", "plain words"),
        (b'{"detail": "short"}', "short"),
        (b'{"detail": "x", "validation_errors": {"a": ["b", "c"]}}', "a: b; a: c"),
        (b'{"validation_errors": {"non_field_errors": ["b"]}}', "b"),
        (b'["one", {"two": "three"}]', "one; two: three"),
        (b"null", "None"),
    ],
)
def test_a_refusal_says_what_label_studio_says(
    server: StudioServer, studio: Studio, body: bytes, sentence: str
):
    server.fail(status=400, body=body)

    with pytest.raises(StudioRefused) as caught:
        studio.get(HEALTHY)

    assert caught.value.message == sentence
    assert str(caught.value) == f"Label Studio refused GET {HEALTHY} with 400: {sentence}"


def test_a_message_without_end_is_cut(server: StudioServer, studio: Studio):
    server.fail(status=400, body=b'{"detail": "' + b"x" * 5000 + b'"}')

    with pytest.raises(StudioRefused) as caught:
        studio.get(HEALTHY)

    assert len(caught.value.message) <= 301


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"{half"])
def test_a_page_instead_of_an_answer_is_no_label_studio(
    server: StudioServer, studio: Studio, body: bytes
):
    server.fail(status=200, body=body)

    with pytest.raises(StudioRefused, match="is this the address of Label Studio"):
        studio.get(HEALTHY)


def test_who_works_for_nobody_in_particular_rests_after_every_answer(server: StudioServer):
    """The clock goes on by a second whenever it is looked at: so long an answer takes here."""
    ticks = iter(range(1000))
    rests: list[float] = []
    studio = Studio(
        server.url, LEGACY_TOKEN, rest=2.0, pause=rests.append, clock=lambda: float(next(ticks))
    )

    studio.get(HEALTHY)
    studio.post(POST, json=[])
    studio.close()

    assert rests == [2.0, 2.0]
