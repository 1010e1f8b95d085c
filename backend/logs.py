"""Lines of the log, as text or as JSON, each with the request and the task it is about."""

import json
import logging
from datetime import UTC, datetime
from typing import Final

from . import trail

TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Lines(logging.Formatter):
    """For people: `… WARNING backend.predictor: … [request 3f2a, task 12]`."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, RUF100  # theirs
        """The line without its traceback."""
        known = {"request": trail.here().request, "task": trail.here().task}
        told = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
        line = super().formatMessage(record)
        return f"{line} [{told}]" if told else line


class JsonLines(logging.Formatter):
    """For machines: one object per line, always with the same keys; null where nothing is known.

    `time` in UTC. `exception` is the traceback as one text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in the message."""
        about = trail.here()
        when = datetime.fromtimestamp(record.created, UTC)
        return json.dumps(
            {
                "time": when.isoformat(timespec="milliseconds"),
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
                "request_id": about.request,
                "task_id": about.task,
                "exception": _traceback(self, record),
            }
        )


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    """As text; where `redaction` hid something, it is text already."""
    if record.exc_info:
        return formatter.formatException(record.exc_info)
    return record.exc_text


FORMATS: Final = {"text": Lines, "json": JsonLines}


def formatter(name: str) -> logging.Formatter:
    """By the word that LOG_FORMAT takes."""
    return FORMATS[name]()


def to_standard_error(*, level: str, style: str) -> None:
    """From now on every logger of this process writes such lines, and so do Python's warnings;
    loggers stay as they are where somebody has seen to that already. `style`: see `formatter`."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(style))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)
