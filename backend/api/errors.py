"""Errors -> status line and JSON. Label Studio shows an admin the status line only, so the
sentence goes there too: one line of printable ASCII (protocol notes §1.7)."""

import json
import logging
import unicodedata

from flask import Flask, Response, current_app
from werkzeug.exceptions import HTTPException

from ..errors import (
    BadRequest,
    Busy,
    Compressed,
    ConfigError,
    CouldNotPredict,
    ModelNotReady,
    NoJobs,
    NoLabelStudio,
    NoPlayground,
    NoReport,
    NotAllowed,
    NotJson,
    PictureGone,
    ServiceError,
    StorageAway,
    StudioError,
    TooManyJobs,
    UnknownJob,
    UnknownProject,
    shortened,
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
    NoPlayground: 404,
    PictureGone: 404,
    CouldNotPredict: 422,
    NoLabelStudio: 404,
    UnknownProject: 404,
    NoReport: 404,
    StudioError: 502,
    NotAllowed: 403,
    NotJson: 415,
    Compressed: 415,
}
REFUSED: dict[int, str] = {  # what the HTTP layer itself refuses; others by their name
    400: "the request cannot be read",
    404: "there is nothing here; Label Studio needs the address without a path, as in "
    "http://cliper:9090",
    405: "this is not asked for with this method",
    408: "the request did not arrive in time; send it again",
    413: "the request has more than {most:g} MB (MAX_REQUEST_MB); send fewer tasks at a time",
}
NO_MEMORY = "there is not enough memory for this request; send fewer tasks at a time"


def register(app: Flask) -> None:
    """Answer every error with its sentence, and never with a traceback."""
    app.register_error_handler(ServiceError, _expected)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(MemoryError, _no_memory)
    app.register_error_handler(Exception, _unexpected)


def reason_phrase(sentence: str) -> str:
    """A sentence made fit for a status line: one line, ASCII, below 200 characters."""
    split = unicodedata.normalize("NFKD", sentence)  # letters apart from their accents
    letters = "".join(c if c.isprintable() else " " for c in split if not unicodedata.combining(c))
    line = " ".join(letters.encode("ascii", "replace").decode().split())
    return line if len(line) <= LONGEST_PHRASE else f"{line[: LONGEST_PHRASE - 3]}..."


def answer(code: int, sentence: str) -> Response:
    """A sentence for programs and, in the status line, for the admin of Label Studio."""
    sentence = shortened(sentence)
    return Response(
        json.dumps({"error": sentence}),
        status=f"{code} {reason_phrase(sentence) or 'Error'}",
        mimetype="application/json",
    )


def _expected(error: ServiceError) -> Response:
    code = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    if code == 500:
        logger.error("no status for this error", exc_info=error)
    else:
        logger.info("answered %d: %s", code, shortened(str(error)))
    return answer(code, str(error))


def _refused(error: HTTPException) -> Response:
    code = error.code or 500
    most = current_app.config["MAX_CONTENT_LENGTH"] / 1_000_000
    refused = answer(code, REFUSED.get(code, error.name).format(most=most))
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            refused.headers[name] = value  # such as Allow
    return refused


def _no_memory(error: MemoryError) -> Response:
    logger.error("memory ran out", exc_info=error)
    return answer(503, NO_MEMORY)


def _unexpected(error: Exception) -> Response:
    logger.error("internal error", exc_info=error)
    return answer(500, "internal error, see the log of the service")
