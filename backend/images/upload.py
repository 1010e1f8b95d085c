"""`/data/upload/<project>/<file>`: uploaded into Label Studio; also without `/data`, or with
the sub-path Label Studio lives under."""

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ..errors import AddressRefused, Unreachable
from .label_studio import LabelStudioFiles, content

if TYPE_CHECKING:
    from .fetch import Reach

UPLOAD = re.compile(r"(?:/[^?#]*?)?/?(?:data/)?(upload/[^?#]+)$")


def handles(address: str) -> bool:
    return "://" not in address and UPLOAD.match(address) is not None


def fetch(address: str, reach: "Reach", *, timeout: float, task_id: int | None = None) -> bytes:
    """Raises ImageError."""
    studio = needed(reach, address)
    found = UPLOAD.match(address)
    assert found is not None  # `handles` said so
    inside = found.group(1)
    refuse_climbing(inside)
    return content(studio.get(studio.address(f"/data/{inside}"), timeout=timeout))


def needed(reach: "Reach", address: str) -> LabelStudioFiles:
    """Label Studio, for addresses only it can serve. Raises Unreachable."""
    if reach.label_studio is None:
        raise Unreachable(
            f"{address[:80]!r} lies in Label Studio; set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
        )
    return reach.label_studio


def refuse_climbing(path: str) -> None:
    """Our token must not be walked to other places of Label Studio. Raises AddressRefused."""
    plain = unquote(unquote(path)).replace("\\", "/")
    if ".." in plain.split("/"):
        raise AddressRefused("the address climbs out of its folder with '..'")
