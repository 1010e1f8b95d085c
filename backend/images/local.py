"""`/data/local-files/?d=<path>`: from the shared folder if we have it, else from Label Studio."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from ..errors import AddressRefused, ImageMissing, ImageTooLarge
from .label_studio import content
from .upload import needed, refuse_climbing

if TYPE_CHECKING:
    from .fetch import Reach

ROUTE = "/local-files/"


def handles(address: str) -> bool:
    path = address.split("?")[0].rstrip("/") + "/"
    return "://" not in address and path.endswith(ROUTE)


def fetch(address: str, reach: "Reach", *, timeout: float, task_id: int | None = None) -> bytes:
    """Raises ImageError."""
    inside = (parse_qs(_query(address)).get("d") or [""])[0]
    if not inside:
        raise ImageMissing(f"{address[:80]!r} names no file (?d=)")
    refuse_climbing(inside)
    if reach.document_root is not None:
        return _read(reach.document_root, inside, reach.max_bytes)
    studio = needed(reach, address)
    url = studio.address(f"/data{ROUTE}") + f"?d={quote(inside, safe='/')}"
    return content(studio.get(url, timeout=timeout))


def _query(address: str) -> str:
    return address.partition("#")[0].partition("?")[2]


def _read(root: Path, inside: str, max_bytes: int) -> bytes:
    """A file below `root`, links resolved. Raises AddressRefused, ImageMissing, ImageTooLarge."""
    try:
        path = (root / inside.lstrip("/")).resolve()
        if not path.is_relative_to(root.resolve()):
            raise AddressRefused(f"{inside!r} leads out of LOCAL_FILES_DOCUMENT_ROOT")
        if not path.is_file():
            raise ImageMissing(f"there is no file {inside!r} in LOCAL_FILES_DOCUMENT_ROOT")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise ImageMissing(f"the file {inside!r} cannot be read: {error}") from None
    if len(data) > max_bytes:
        raise ImageTooLarge(f"{inside!r} has more than {max_bytes / 1_000_000:g} MB (MAX_IMAGE_MB)")
    return data
