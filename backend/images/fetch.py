"""Task addresses -> bytes -> pixels. A new kind of address is a new file and a line below."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..errors import AddressRefused
from . import cloud, data_url, decode, local, upload, web
from .guarded import GuardedHttp, server_of
from .label_studio import LabelStudioFiles

LONGEST_ADDRESS = 8_000  # characters, but for pictures inside of their address; as servers take
SOURCES = (data_url, local, upload, cloud, web)  # the first that knows an address takes it


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What a source may use: the guarded way out, Label Studio, a folder, a limit."""

    http: GuardedHttp
    label_studio: LabelStudioFiles | None
    document_root: Path | None
    max_bytes: int


@dataclass(frozen=True, kw_only=True)
class ImageFetcher:
    """Pictures of tasks; keeps nothing between calls but Label Studio's short-lived token.

    `decoding` says how many pictures may be unpacked at the same time: one of 120 megapixels
    takes 840 megabytes.
    """

    reach: Reach
    max_pixels: int
    decoding: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(1), repr=False, compare=False
    )

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        """The bytes at a task's address, within `timeout` seconds. Raises ImageError.

        `task_id` is Label Studio's number of the task; addresses of stores need it. Blanks and
        line ends around the address are not part of it: lists written by hand have them.
        """
        address = address.strip()
        try:
            address.encode()
        except UnicodeEncodeError:
            raise AddressRefused("the picture's address has characters nobody can send") from None
        if _is_too_long(address):
            raise AddressRefused(
                f"the picture's address has {len(address)} characters, more than {LONGEST_ADDRESS}"
            )
        source = next((one for one in SOURCES if one.handles(address)), web)
        return source.fetch(address, self.reach, timeout=timeout, task_id=task_id)

    def server(self, address: str) -> str | None:
        """Who would be asked for the picture, as `scheme://host`, of a store `scheme://bucket`;
        None if nobody."""
        if data_url.handles(address) or _is_too_long(address):
            return None
        if local.handles(address) and self.reach.document_root is not None:
            return None
        if address.lower().startswith(cloud.STORES):
            return "/".join(address.split("/", 3)[:3])  # a store that hangs is not Label Studio
        studio = self.reach.label_studio
        relative = not web.handles(address)
        if relative and any(kind.handles(address) for kind in (local, upload, cloud)):
            return None if studio is None else server_of(studio.url)
        try:
            return server_of(address)
        except AddressRefused:
            return None

    def decode(self, data: bytes, *, page: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        """The picture as a browser shows it, RGB; of several pages the `page`-th, from 1.

        Raises ImageBroken, ImageTooLarge.
        """
        with self.decoding:
            return decode.decode(data, max_pixels=self.max_pixels, page=page)


def _is_too_long(address: str) -> bool:
    return len(address) > LONGEST_ADDRESS and not data_url.handles(address)
