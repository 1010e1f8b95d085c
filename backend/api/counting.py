"""Every answer is counted and timed for `/metrics`, refused ones too."""

import time

from flask import Flask, Response, g, request

from . import services
from .metrics import OPEN


def register(app: Flask) -> None:
    """Before a password is asked for, so that who has none is counted."""
    app.before_request(_begin)
    app.after_request(_count)


def _begin() -> None:
    g.begun, g.lane = time.perf_counter(), ""


def _count(response: Response) -> Response:
    services().meters.answered(
        (request.blueprint or "").removeprefix(OPEN),  # never the address: it may hold secrets
        request.method,
        response.status_code,
        lane=g.lane,
        seconds=time.perf_counter() - g.begun,
    )
    return response
