"""Secrets in texts, in log records and in tracebacks, in every spelling."""

import io
import logging
from collections.abc import Iterator

import pytest

from backend.__main__ import main
from backend.redaction import Redaction, hidden_in_logs

ENVIRON = {
    "LABEL_STUDIO_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "BASIC_AUTH_USER": "studio",
    "BASIC_AUTH_PASS": "ge heim/ä?",
    "API_TOKEN": "t0ken-of-our-own-endpoints",
    "WEBHOOK_SECRET": "Secret_of-the-webhook-9",
    "STORAGE": "rediss://:p@ss:word@redis.example:6379/0",
    "LABEL_STUDIO_URL": "http://label-studio:8080",
}


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("key 0123456789abcdef0123456789abcdef01234567.", "key ***."),
        ("pass 'ge heim/ä?'", "pass '***'"),
        ("GET /?p=ge%20heim/%C3%A4%3F&x=1", "GET /?p=***&x=1"),
        ("GET /?p=ge%20heim%2F%C3%A4%3F", "GET /?p=***"),
        ("Basic c3R1ZGlvOmdlIGhlaW0vw6Q/", "Basic ***"),
        ("POST /webhook/Secret_of-the-webhook-9/health", "POST /webhook/***/health"),
        ("POST /webhook/a-guess-of-somebody-1", "POST /webhook/***"),
        ("POST /webhook/short", "POST /webhook/short"),
        ("cannot reach rediss://:p@ss:word@redis.example", "cannot reach rediss://***@redis.example"),
        ("wrong password p@ss:word", "wrong password ***"),
        ("https://me:other@host.example/a", "https://***@host.example/a"),
        ("https://host.example/a@2x.png", "https://host.example/a@2x.png"),
        (
            "https://s3.example/a.png?X-Amz-Date=1&X-Amz-Signature=0a1b&X-Amz-Credential=me&v=2",
            "https://s3.example/a.png?X-Amz-Date=1&X-Amz-Signature=***&X-Amz-Credential=***&v=2",
        ),
        ("/a?sig=x%2By&se=2027", "/a?sig=***&se=2027"),
        ("/a?Key-Pair-Id=1&Signature=x&Key=y", "/a?Key-Pair-Id=1&Signature=***&Key=***"),
        ("{'Authorization': 'Bearer other-token'}", "{'Authorization': 'Bearer ***'}"),
        ("Authorization: Token abcdef", "Authorization: Token ***"),
        ("access eyJhbGciOi.eyJ0b2tl.c2lnbmF0dXJl!", "access ***!"),
        ("refused the token according to its log", "refused the token according to its log"),
    ],
)  # fmt: skip
def test_what_is_secret_is_hidden_and_nothing_else(text: str, hidden: str):
    assert Redaction.of(ENVIRON).hide(text) == hidden


def test_a_password_of_three_characters_would_tear_every_sentence_apart():
    assert Redaction.of({"BASIC_AUTH_PASS": "the"}).hide("the task") == "the task"


def test_without_secrets_nothing_changes():
    assert Redaction.of({}).hide("POST /predict, 12 tasks") == "POST /predict, 12 tasks"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    written = io.StringIO()
    logger = logging.Logger("somebody", logging.DEBUG)
    handler = logging.StreamHandler(written)
    logger.addHandler(handler)
    with hidden_in_logs(Redaction.of(ENVIRON)):
        yield logger, written


def test_records_hold_no_secret_whoever_wrote_them(log: tuple[logging.Logger, io.StringIO]):
    logger, written = log

    logger.debug("asked %s with %r", "http://me:xyzzy@a.example/", {"key": ENVIRON["API_TOKEN"]})
    logger.info(ENVIRON["WEBHOOK_SECRET"])
    logger.info("%d tasks", 12)

    assert written.getvalue() == (
        "asked http://***@a.example/ with {'key': '***'}\n***\n12 tasks\n"
    )


def test_tracebacks_hold_no_secret(log: tuple[logging.Logger, io.StringIO]):
    logger, written = log

    try:
        try:
            raise OSError(f"no answer with {ENVIRON['API_TOKEN']}")
        except OSError as error:
            raise ValueError("https://me:xyzzy@a.example/") from error
    except ValueError:
        logger.exception("internal error")

    assert "OSError: no answer with ***" in written.getvalue()
    assert "ValueError: https://***@a.example/" in written.getvalue()
    assert "xyzzy" not in written.getvalue()
    assert ENVIRON["API_TOKEN"] not in written.getvalue()


def test_a_record_that_cannot_be_written_out_shows_no_secret_either(
    log: tuple[logging.Logger, io.StringIO], capsys: pytest.CaptureFixture[str]
):
    logger, written = log

    logger.info("%d %d", ENVIRON["API_TOKEN"])

    assert ENVIRON["API_TOKEN"] not in written.getvalue() + capsys.readouterr().err


def test_other_records_stay_what_they_are(log: tuple[logging.Logger, io.StringIO]):
    kept: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    log[0].addHandler(Keeping())
    log[0].info("%d of %d", 3, 5, extra={"task": 7})

    assert (kept[0].msg, kept[0].args, kept[0].task) == ("%d of %d", (3, 5), 7)  # type: ignore[attr-defined]


def test_afterwards_records_are_made_as_before():
    before = logging.getLogRecordFactory()

    with hidden_in_logs(Redaction()):
        assert logging.getLogRecordFactory() is not before

    assert logging.getLogRecordFactory() is before


def test_the_sentence_a_command_ends_with_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("STORAGE", "redis://:geheimnis@127.0.0.1:1/0")

    assert main(["storage", "info"]) == 2

    said = capsys.readouterr().err
    assert said.startswith("cliper: ")
    assert "geheimnis" not in said
