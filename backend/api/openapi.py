"""`GET /openapi.json`: what can be asked here and what is answered, as OpenAPI 3.1.

The document is `openapi.json` beside this file, written by hand. Tests hold it against the routes
and against what they answer; the page for people is made of it.
"""

import json
from importlib import resources
from typing import Any

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from . import services

FILE = "openapi.json"
bp = Blueprint("openapi", __name__)


@bp.get("/openapi.json")
def document() -> ResponseReturnValue:
    """In the order it was written in, with this program's version."""
    return Response(json.dumps(read(services().version)), mimetype="application/json")


def read(version: str) -> dict[str, Any]:
    """The document, as that of a version of the program."""
    text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    found["info"]["version"] = version
    return found
