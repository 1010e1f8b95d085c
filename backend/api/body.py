"""Bodies of requests: plain JSON, of a bounded size, depth and number of parts."""

from typing import Any

from flask import request

from ..errors import BadRequest, Compressed
from ..labelstudio import bounded_json


def refuse_compressed() -> None:
    """Raises Compressed. Label Studio packs nothing, and what is packed has no known size."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise Compressed(encoding)


def as_json() -> Any:
    """The body of the present request, whatever it calls itself. Raises BadRequest.

    Its bytes are bounded by `create_app`, also where they come in chunks of unknown number.
    """
    try:
        return bounded_json.loads(request.get_data(cache=False))
    except bounded_json.Unreadable as error:
        raise BadRequest(f"the request body {error}") from None
