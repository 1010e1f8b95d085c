"""Bodies of requests: plain JSON, of a bounded size, depth and number of parts."""

from typing import Any

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestTimeout

from ..errors import BadRequest, Compressed
from ..labelstudio import bounded_json


def refuse_compressed() -> None:
    """Raises Compressed. Label Studio packs nothing, and what is packed has no known size."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise Compressed(encoding)


def as_bytes() -> bytes:
    """The body of the present request. Raises RequestEntityTooLarge (413), RequestTimeout (408).

    Where it comes in chunks, nobody knows before how long it will be, and the reader stops at the
    limit of `create_app` without a word: whatever is left is asked for once more.
    """
    try:
        data = request.get_data(cache=False)
    except (BlockingIOError, ClientDisconnected):  # see `serve.listen`
        raise RequestTimeout from None
    if len(data) < (request.content_length or 0):  # the reader takes what has come for all
        raise RequestTimeout
    if request.content_length is None:
        request.stream.read(1)  # raises where the limit is reached
    return data


def as_event() -> bytes:
    """The body of the present request, to be read later. Raises BadRequest where that would cost
    too much, and as `as_bytes`."""
    data = as_bytes()
    try:
        bounded_json.check(data)
    except bounded_json.Unreadable as error:
        raise BadRequest(f"the request body {error}") from None
    return data


def as_json() -> Any:
    """The body of the present request, whatever it calls itself. Raises BadRequest, and as
    `as_bytes`."""
    try:
        return bounded_json.loads(as_bytes())
    except bounded_json.Unreadable as error:
        raise BadRequest(f"the request body {error}") from None
