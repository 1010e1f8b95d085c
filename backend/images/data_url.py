"""`data:image/png;base64,...`: the picture travels inside the task."""

import base64
import binascii
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from ..errors import ImageBroken, ImageTooLarge

if TYPE_CHECKING:
    from .fetch import Reach


def handles(address: str) -> bool:
    return address[:5].lower() == "data:"


def fetch(address: str, reach: "Reach", *, timeout: float, task_id: int | None = None) -> bytes:
    """Raises ImageBroken, ImageTooLarge."""
    head, comma, body = address[5:].partition(",")
    if not comma:
        raise ImageBroken("the data: address holds no data")
    if len(body) > 3 * reach.max_bytes + 4:  # at most three characters per byte
        raise _too_large(reach)
    data = unquote_to_bytes(body)
    if "base64" in [word.strip().lower() for word in head.split(";")[1:]]:
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ImageBroken("the data: address is not proper base64") from None
    if len(data) > reach.max_bytes:
        raise _too_large(reach)
    return data


def _too_large(reach: "Reach") -> ImageTooLarge:
    return ImageTooLarge(
        f"the data: address has more than {reach.max_bytes / 1_000_000:g} MB (MAX_IMAGE_MB)"
    )
