"""Task addresses -> bytes -> pixels. A new kind of address is a new file and a line below."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from . import data_url, decode, local, upload, web
from .guarded import GuardedHttp
from .label_studio import LabelStudioFiles

SOURCES = (data_url, upload, local, web)  # the first that knows an address takes it


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What a source may use: the guarded way out, Label Studio, a folder, a limit."""

    http: GuardedHttp
    label_studio: LabelStudioFiles | None
    document_root: Path | None
    max_bytes: int


@dataclass(frozen=True, kw_only=True)
class ImageFetcher:
    """Pictures of tasks; keeps nothing between calls but Label Studio's short-lived token."""

    reach: Reach
    max_pixels: int

    def fetch(self, address: str, *, timeout: float) -> bytes:
        """The bytes at a task's address, within `timeout` seconds. Raises ImageError."""
        source = next((one for one in SOURCES if one.handles(address)), web)
        return source.fetch(address, self.reach, timeout=timeout)

    def decode(self, data: bytes) -> UInt8[np.ndarray, "height width 3"]:
        """The picture as a browser shows it, RGB. Raises ImageBroken, ImageTooLarge."""
        return decode.decode(data, max_pixels=self.max_pixels)
