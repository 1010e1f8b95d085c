"""Errors -> status line and JSON. Label Studio shows an admin the status line only, so the
sentence goes there too: one line of printable ASCII (protocol notes §1.7)."""

import json
import logging
import unicodedata

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from ..errors import (
    BadRequest,
    Busy,
    ConfigError,
    ModelNotReady,
    NoJobs,
    NotAllowed,
    NotJson,
    ServiceError,
    StorageAway,
    TooManyJobs,
    UnknownJob,
)

logger = logging.getLogger(__name__)

LONGEST_PHRASE = 199
STATUS: dict[type[ServiceError], int] = {
    BadRequest: 400,
    ConfigError: 422,
    ModelNotReady: 503,
    Busy: 503,
    StorageAway: 503,
    TooManyJobs: 503,
    UnknownJob: 404,
    NoJobs: 404,
    NotAllowed: 403,
    NotJson: 415,
}


def register(app: Flask) -> None:
    """Answer every error with its sentence, and never with a traceback."""
    app.register_error_handler(ServiceError, _expected)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _unexpected)


def reason_phrase(sentence: str) -> str:
    """A sentence made fit for a status line: one line, ASCII, below 200 characters."""
    split = unicodedata.normalize("NFKD", sentence)  # letters apart from their accents
    letters = "".join(c if c.isprintable() else " " for c in split if not unicodedata.combining(c))
    line = " ".join(letters.encode("ascii", "replace").decode().split())
    return line if len(line) <= LONGEST_PHRASE else f"{line[: LONGEST_PHRASE - 3]}..."


def _answer(code: int, sentence: str) -> Response:
    return Response(
        json.dumps({"error": sentence}),
        status=f"{code} {reason_phrase(sentence) or 'Error'}",
        mimetype="application/json",
    )


def _expected(error: ServiceError) -> Response:
    code = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    logger.info("answered %d: %s", code, error)
    return _answer(code, str(error))


def _refused(error: HTTPException) -> Response:
    if error.code == 400:
        return _answer(400, "the request body is not JSON")
    return _answer(error.code or 500, error.name)


def _unexpected(error: Exception) -> Response:
    logger.error("internal error", exc_info=error)
    return _answer(500, "internal error, see the log of the service")
