"""`http://` and `https://`: anywhere public; Label Studio's own addresses with its token."""

from typing import TYPE_CHECKING

from ..errors import AddressRefused
from .guarded import origin, shown
from .label_studio import content

if TYPE_CHECKING:
    from .fetch import Reach


def handles(address: str) -> bool:
    return address[:7].lower() == "http://" or address[:8].lower() == "https://"


def fetch(address: str, reach: "Reach", *, timeout: float, task_id: int | None = None) -> bytes:
    """Raises ImageError."""
    if "://" not in address:
        raise AddressRefused(
            f"{shown(address)!r} is no address we know; known are uploads, local files, "
            "http://, https://, s3://, gs://, azure-blob:// and data:"
        )
    origin(address)  # refuses other schemes
    studio = reach.label_studio
    if studio is not None and studio.owns(address):
        return content(studio.get(address, timeout=timeout))
    return content(reach.http.get(address, timeout=timeout))
