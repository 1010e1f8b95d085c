"""Lines of the log: as JSON one object each, as text with the request and the task behind."""

import json
import logging
from typing import Any

import pytest

from backend import logs
from backend.redaction import Redaction, hidden_in_logs
from backend.trail import Trail, followed

KEYS = ["time", "level", "logger", "message", "request_id", "task_id", "exception"]


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("backend.x", logging.WARNING, "x.py", 1, message, args, info)
    made.created, made.msecs = 1_790_000_000.125, 125.0
    return made


def as_object(made: logging.LogRecord) -> dict[str, Any]:
    line = logs.formatter("json").format(made)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_json_line_has_always_the_same_keys() -> None:
    told = as_object(record("%d tasks", 3))

    assert list(told) == KEYS
    assert told == {
        "time": "2026-09-21T14:13:20.125+00:00",
        "level": "WARNING",
        "logger": "backend.x",
        "message": "3 tasks",
        "request_id": None,
        "task_id": None,
        "exception": None,
    }


def test_a_json_line_names_request_and_task() -> None:
    with followed(Trail(request="r-1", task="12")):
        told = as_object(record("done"))

    assert (told["request_id"], told["task_id"]) == ("r-1", "12")


def test_whatever_is_in_a_message_it_stays_one_json_line() -> None:
    wild = 'line\nbreak "quoted" \u2028 \udc80 \x00 { } 漢'

    assert as_object(record("%s", wild))["message"] == wild


def test_a_traceback_is_one_text_in_its_json_line() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError as error:
        told = as_object(record("failed", error=error))

    assert told["exception"].startswith("Traceback (most recent call last):\n")
    assert told["exception"].endswith("ValueError: no such thing")


def test_a_traceback_with_a_secret_is_in_its_json_line_without_it() -> None:
    lines: list[dict[str, Any]] = []
    logger = logging.Logger("backend.x")
    handler = logging.Handler()
    handler.emit = lambda made: lines.append(as_object(made))  # type: ignore[method-assign]
    logger.addHandler(handler)

    with hidden_in_logs(Redaction(("hunter2-hunter2",))):
        try:
            raise ValueError("hunter2-hunter2 is wrong")
        except ValueError:
            logger.exception("failed")

    (told,) = lines
    assert told["exception"].endswith("ValueError: *** is wrong")


def test_a_text_line_ends_with_whom_it_is_about() -> None:
    lines = logs.formatter("text")

    nobody = lines.format(record("done"))
    with followed(Trail(request="r-1")):
        request = lines.format(record("done"))
    with followed(Trail(request="r-1", task="12")):
        both = lines.format(record("done"))

    assert nobody.endswith(" WARNING backend.x: done")
    assert request == f"{nobody} [request r-1]"
    assert both == f"{nobody} [request r-1, task 12]"


def test_a_traceback_follows_its_text_line() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError as error:
        failed = record("failed", error=error)
    with followed(Trail(request="r-1")):
        first, *rest = logs.formatter("text").format(failed).splitlines()

    assert first.endswith("failed [request r-1]")
    assert rest[-1] == "ValueError: no such thing"


@pytest.mark.parametrize("style", ["text", "json"])
def test_every_logger_writes_such_lines_to_standard_error(
    style: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)

    logs.to_standard_error(level="INFO", style=style)
    try:
        with followed(Trail(request="r-1")):
            logging.getLogger("backend.anything").info("told")
            logging.getLogger("backend.anything").debug("not told")
    finally:
        logging.captureWarnings(False)

    (line,) = capsys.readouterr().err.splitlines()
    if style == "json":
        assert (json.loads(line)["message"], json.loads(line)["request_id"]) == ("told", "r-1")
    else:
        assert line.endswith("INFO backend.anything: told [request r-1]")
