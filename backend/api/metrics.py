"""`GET /metrics`: everything an operator's graphs are made of, in Prometheus's text format."""

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from ..metrics import scrape
from . import services

OPEN = "open_"  # before the name of what `auth` lets everybody see
bp = Blueprint("metrics", __name__)


def name(*, open_to_all: bool) -> str:
    """What the blueprint is registered as: `auth` goes by names."""
    return f"{OPEN}{bp.name}" if open_to_all else bp.name


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """At once; it asks nobody."""
    found = services()
    return Response(scrape.text(found.meters, found.now()), content_type=scrape.CONTENT_TYPE)
