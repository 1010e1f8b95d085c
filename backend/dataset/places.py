"""Folders and buckets by one address: `photos`, `s3://bucket/photos`, `gs://bucket/photos`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

EXTRA = "pip install 'cliper-label-studio[parquet]'"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder or file on some file system.

    path    without the scheme, as its file system takes it
    prefix  before a path it makes an address: `s3://`; "" of local ones
    query   of the address, such as an endpoint: `?endpoint_override=...`
    """

    system: "FileSystem"
    path: str
    prefix: str = ""
    query: str = ""

    @property
    def is_local(self) -> bool:
        return not self.prefix

    def __truediv__(self, name: str) -> "Place":
        return Place(
            system=self.system,
            path=f"{self.path.rstrip('/')}/{name}",
            prefix=self.prefix,
            query=self.query,
        )

    @property
    def address(self) -> str:
        return f"{self.prefix}{self.path}{self.query}"

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
        """A small file, as a whole or not at all: stores do so by themselves."""
        place = self if not self.is_local else _beside(self)
        with place.system.open_output_stream(place.path) as file:
            file.write(data)
        if place is not self:
            self.system.move(place.path, self.path)

    def make_folder(self) -> None:
        if self.is_local:
            self.system.create_dir(self.path, recursive=True)

    def files(self) -> Iterator[tuple[str, int]]:
        """Paths below this one, folder by folder in the order of their names, and bytes.

        No more is in memory than one folder's names, and those of the folders above.
        """
        from pyarrow.fs import FileType

        waiting = [self.path]
        while waiting:
            found = sorted(self._entries(waiting.pop()), key=lambda one: str(one.path))
            for one in found:
                if one.type == FileType.File:
                    yield str(one.path), int(one.size or 0)
            waiting += [str(one.path) for one in reversed(found) if one.type == FileType.Directory]

    def _entries(self, path: str) -> list[Any]:
        from pyarrow.fs import FileSelector

        return list(self.system.get_file_info(FileSelector(path, allow_not_found=True)))


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
            f"{address.split('?')[0]} cannot be opened ({first}); give a folder, a file, or an "
            "address such as s3://bucket/folder"
        ) from None
    scheme = address.split("://")[0].lower()
    if scheme == "file":
        return Place(system=system, path=path)
    query = address.partition("?")[2]
    return Place(
        system=system, path=path, prefix=f"{scheme}://", query=f"?{query}" if query else ""
    )


def _beside(place: Place) -> Place:
    folder, _, name = place.path.rpartition("/")
    return Place(system=place.system, path=f"{folder}/.{name}.new")
