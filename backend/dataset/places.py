"""Folders and buckets by one address: `photos`, `s3://bucket/photos`, `gs://bucket/photos`.

An address is read once, at the beginning; from then on places are paths on its file system, since
names of objects may hold anything, and addresses may not.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

logger = logging.getLogger(__name__)

EXTRA = "pip install 'cliper-label-studio[parquet]'"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder or file on some file system.

    path    without the scheme, as its file system takes it
    prefix  before a path it makes an address: `s3://`; "" of local ones
    """

    system: "FileSystem"
    path: str
    prefix: str = ""

    @property
    def is_local(self) -> bool:
        return not self.prefix

    def __truediv__(self, name: str) -> "Place":
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def at(self, path: str) -> "Place":
        """Another place on the same file system."""
        return replace(self, path=path)

    @property
    def address(self) -> str:
        """For people, and for Label Studio: without keys and endpoints."""
        return f"{self.prefix}{self.path}"

    def exists(self) -> bool:
        from pyarrow.fs import FileType

        return bool(self.system.get_file_info(self.path).type != FileType.NotFound)

    def is_folder(self) -> bool:
        from pyarrow.fs import FileType

        if self.system.get_file_info(self.path).type == FileType.Directory:
            return True
        return not self.is_local and next(iter(self._entries(self.path)), None) is not None

    def read(self, *, most: int | None = None) -> bytes:
        """All of a file, or the first `most` bytes. Raises OSError."""
        with self.system.open_input_stream(self.path) as file:
            return bytes(file.read(most))

    def write(self, data: bytes) -> None:
        """A file as a whole or not at all: stores do so by themselves."""
        place = self if not self.is_local else _beside(self)
        with place.system.open_output_stream(place.path) as file:
            file.write(data)
        if place is not self:
            self.system.move(place.path, self.path)

    def delete(self) -> None:
        self.system.delete_file(self.path)

    def make_folder(self) -> None:
        if self.is_local:
            self.system.create_dir(self.path, recursive=True)

    def files(self) -> Iterator[tuple[str, int]]:
        """Paths below this one, folder by folder in the order of their names, and bytes.

        No more is in memory than one folder's names, and those of the folders above.
        """
        from pyarrow.fs import FileType

        waiting, seen = [self.path], set[str]()
        while waiting:
            folder = waiting.pop()
            if self.is_local and os.path.realpath(folder) in seen:  # a link leads back
                continue
            seen.add(os.path.realpath(folder) if self.is_local else folder)
            found = sorted(self._entries(folder))
            for path, kind, size in found:
                if kind == FileType.File:
                    yield path, size
            waiting += [path for path, kind, _ in reversed(found) if kind == FileType.Directory]

    def _entries(self, folder: str) -> list[tuple[str, Any, int]]:
        """Path, type and bytes of what is in a folder; names nobody can write are told and left."""
        from pyarrow.fs import FileSelector

        found = []
        for one in self.system.get_file_info(FileSelector(folder, allow_not_found=True)):
            try:
                found.append((str(one.path), one.type, int(one.size or 0)))
            except UnicodeDecodeError:
                logger.warning("a name in %s is no UTF-8, and left out; rename it", folder)
        return found


def place_of(address: str) -> Place:
    """Raises BadRequest for an address of a kind nobody knows, or without the library for it."""
    try:
        from pyarrow.fs import FileSystem, LocalFileSystem
    except ImportError:
        raise BadRequest(f"data sets need pyarrow; run {EXTRA}") from None
    if "://" not in address:
        return Place(system=LocalFileSystem(), path=str(Path(address).absolute()))
    try:
        system, path = FileSystem.from_uri(address)
    except (ValueError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadRequest(
            f"{without_keys(address)} cannot be opened ({first}); give a folder, a file, or an "
            "address such as s3://bucket/folder"
        ) from None
    scheme = address.split("://")[0].lower()
    if scheme == "file":
        return Place(system=system, path=path)
    return Place(system=system, path=path, prefix=f"{scheme}://")


def without_keys(address: str) -> str:
    """An address as it may be shown: without the user's name, a password, and what is asked."""
    scheme, mark, rest = address.split("?")[0].partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else address


def _beside(place: Place) -> Place:
    folder, _, name = place.path.rpartition("/")
    return place.at(f"{folder}/.{name}.new")
