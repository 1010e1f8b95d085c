"""Every request has an id: its own, or one of ours. It is in the answer's header, and in every line
of the log that is written on the request's behalf."""

import secrets

from flask import Flask, Response, g, request

from ..trail import Trail, followed, is_plain

HEADER = "X-Request-ID"


def register(app: Flask) -> None:
    """Before everything else that happens to a request."""
    app.before_request(_begin)
    app.after_request(_say)
    app.teardown_request(_end)


def _begin() -> None:
    given = request.headers.get(HEADER, "")
    g.request_id = given if is_plain(given) else secrets.token_hex(8)
    g.trail = followed(Trail(request=g.request_id))
    g.trail.__enter__()


def _say(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    return response


def _end(error: BaseException | None) -> None:
    """Threads are used again: the next request is not this one."""
    trail = g.pop("trail", None)
    if trail is not None:
        trail.__exit__(None, None, None)
