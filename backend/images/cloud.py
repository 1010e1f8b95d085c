"""`s3://`, `gs://`, `azure-blob://`, and Label Studio's own `/tasks/1/resolve/?fileuri=...`.

Label Studio holds the keys of the store. Asked for `/tasks/<id>/presign/` it answers with a
redirect to a signed address of the store or, where the administrator switched that off, with the
bytes themselves. Our token stays with Label Studio: the way out asks again at every hop.
Source: protocol notes §2; `presign` is the older of two names, so that older servers know it.
"""

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from ..errors import ImageMissing, TokenRefused, Unreachable
from . import web
from .guarded import Answer, server_of, shown
from .label_studio import LabelStudioFiles, content
from .upload import refuse_climbing

if TYPE_CHECKING:
    from .fetch import Reach

STORES = ("s3://", "gs://", "azure-blob://")
RESOLVED = re.compile(r"(?:tasks|projects)/\d+/(?:resolve|presign)/?$")
FAILED_DEPENDENCY = 424


def handles(address: str) -> bool:
    if address.lower().startswith(STORES):
        return True
    path, _, query = address.partition("?")
    ours = "://" not in path or web.handles(address)
    return ours and RESOLVED.search(path) is not None and "fileuri=" in query


def fetch(address: str, reach: "Reach", *, timeout: float, task_id: int | None = None) -> bytes:
    """Raises ImageError; the sentence names the step that failed."""
    if web.handles(address):
        studio = reach.label_studio
        if studio is None or not studio.owns(address):
            return web.fetch(address, reach, timeout=timeout, task_id=task_id)
        return _content(address, studio.get(address, timeout=timeout), studio)
    studio = _needed(address, reach)
    return _content(address, studio.get(_url(address, studio, task_id), timeout=timeout), studio)


def _needed(address: str, reach: "Reach") -> LabelStudioFiles:
    if reach.label_studio is None:
        raise Unreachable(
            f"{shown(address)!r} is fetched through Label Studio, which holds the keys of the "
            "store; set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
        )
    return reach.label_studio


def _url(address: str, studio: LabelStudioFiles, task_id: int | None) -> str:
    """Where Label Studio resolves an address of a store, or a part of its own address."""
    if not address.lower().startswith(STORES):
        path, _, query = address.partition("?")
        refuse_climbing(path)
        uri = parse_qs(query.partition("#")[0]).get("fileuri", [""])[0]
        return studio.address("/" + path.lstrip("/")) + f"?fileuri={quote(uri, safe='=')}"
    if task_id is None:
        raise Unreachable(
            f"{shown(address)!r} is fetched through a task of Label Studio, and this picture "
            "came without a task number"
        )
    uri = base64.urlsafe_b64encode(address.encode()).decode()
    return studio.address(f"/tasks/{task_id}/presign/") + f"?fileuri={uri}"


def _content(address: str, answer: Answer, studio: LabelStudioFiles) -> bytes:
    """The body of a good answer, of Label Studio or of the store. Raises ImageError."""
    name = shown(_stored(address))
    if studio.owns(answer.url):
        if answer.status == 404:
            raise ImageMissing(
                f"Label Studio finds no storage for {name!r} (HTTP 404); connect it in the "
                "project's settings under Cloud Storage, with keys that may read it"
            )
        if answer.status == FAILED_DEPENDENCY:
            raise Unreachable(
                f"Label Studio could not read {name!r} from its storage (HTTP 424); check the "
                "storage's keys and whether the file is there"
            )
        return content(answer)
    store = server_of(answer.url)
    if answer.status in (401, 403):
        raise TokenRefused(
            f"the store at {store} denies access to {name!r} (HTTP {answer.status}); check the "
            "keys of the storage in Label Studio"
        )
    if answer.status in (404, 410):
        raise ImageMissing(f"the store at {store} has no {name!r} (HTTP {answer.status})")
    return content(answer)


def _stored(address: str) -> str:
    """The address in the store, where it can be read out of Label Studio's own."""
    if address.lower().startswith(STORES):
        return address
    packed = parse_qs(urlsplit(address).query).get("fileuri", [""])[0]
    try:
        return base64.urlsafe_b64decode(packed).decode()
    except ValueError:  # UnicodeDecodeError and binascii.Error are some
        return shown(address)
